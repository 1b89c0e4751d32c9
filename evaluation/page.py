"""The report of an evaluation: one page that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation import page_cases, page_charts, page_figures
from evaluation.page_figures import hexadecimal
from evaluation.page_pictures import ERROR_COLOURS, IGNORED, MAX_SIDE, WRONG
from evaluation.result import Evaluation, PredictedImage
from utils.files.atomic_write import write_text

TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = ("tables.js", "confusion.js", "heat.js", "lightbox.js", "zoom.js")
STYLES = ("page.css", "charts.css", "cases.css")


def write_page(evaluation: Evaluation, look: Callable[[int], PredictedImage], folder: Path) -> Path:
    """Write `index.html`; a page that is there is replaced.

    Args:
        evaluation: What to report.
        look: Gives the picture, label and prediction of an index in the dataset; asked once for
            each picture that the page shows.
        folder: Where to; made where it is not there.

    Returns:
        The page.

    Raises:
        OSError: If it cannot be written; nothing is left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    text = render(evaluation, look)
    write_text(page, text, overwrite=True)
    return page


def render(evaluation: Evaluation, look: Callable[[int], PredictedImage]) -> str:
    """The page as text; the same for the same evaluation."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,  # names of classes and files come from anywhere
        finalize=page_figures.clean,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= page_figures.FILTERS
    script = "\n".join(_read(name) for name in SCRIPTS)
    return environment.get_template("page.html").render(
        _content(evaluation, look),
        style="\n".join(_read(name) for name in STYLES),
        script=script,
        # The browser runs this very script and no other, whatever else may stand in the page.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _content(evaluation: Evaluation, look: Callable[[int], PredictedImage]) -> dict[str, Any]:
    cases = page_cases.make_cases(evaluation, look)
    colours = page_figures.colours(evaluation)
    scale = page_charts.colour_scale()
    return {
        "evaluation": evaluation,
        "cards": page_figures.cards(evaluation),
        "classes": page_figures.class_rows(evaluation),
        "has_boundary": "Class_Boundary_IoU" in evaluation.figures,
        "absent": page_figures.absent_classes(evaluation),
        "colours": colours,
        "pairs": page_figures.confused_pairs(evaluation),
        "scale": scale,
        "matrix": page_charts.matrix(evaluation),
        "reliability": page_charts.reliability(evaluation),
        "cases": cases,
        "has_intervals": page_figures.has_intervals(evaluation),
        "wrong_colour": hexadecimal(ERROR_COLOURS[WRONG]),
        "ignored_colour": hexadecimal(ERROR_COLOURS[IGNORED]),
        "max_side": MAX_SIDE,
        "data": {
            "classes": [page_figures.clean(name) for name in evaluation.classes],
            "colours": colours,
            "rows": page_charts.sparse_rows(evaluation.confusion),
            "scale": scale,
            "images": page_figures.image_rows(evaluation, cases.places()),
        },
    }


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
