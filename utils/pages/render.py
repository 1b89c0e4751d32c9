"""A page of one file, from templates, styles and scripts."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.pages.text import FILTERS, clean

COMMON = Path(__file__).parent


def render(
    template: Path,
    content: Mapping[str, Any],
    *,
    generator: str,
    styles: Sequence[str],
    scripts: Sequence[str],
    filters: Mapping[str, Callable[..., Any]] | None = None,
) -> str:
    """Return a page that needs no other file and runs no other script than its own.

    Args:
        template: The page's template, which extends `base.html` of this folder. Templates, styles
            and scripts lie beside it or in this folder.
        content: What the template shows; texts are escaped.
        generator: The program that the page is made by, its mark.
        styles: Names of style sheets.
        scripts: Names of scripts, in the order in which they run.
        filters: Filters for the template, beside those for numbers and names.
    """
    import jinja2

    folders = (template.parent, COMMON)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,  # names of classes and files come from anywhere
        finalize=clean,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {**FILTERS, **(filters or {})}
    script = "\n".join(_read(folders, name) for name in scripts)
    return environment.get_template(template.name).render(
        content,
        generator=generator,
        style="\n".join(_read(folders, name) for name in styles),
        script=script,
        # The browser runs this script and no other, whatever else the page may contain.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _read(folders: Sequence[Path], name: str) -> str:
    path = next(folder / name for folder in folders if (folder / name).is_file())
    return path.read_text(encoding="utf-8")
