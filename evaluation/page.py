"""The report of an evaluation: one page that needs no other file."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation import page_cases, page_charts, page_metrics
from evaluation.page_images import ERROR_COLOURS, IGNORED, MAX_SIDE, WRONG
from evaluation.page_metrics import hexadecimal
from evaluation.result import Evaluation, PredictedImage
from utils.files.atomic_write import write_text

TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = ("tables.js", "confusion.js", "heat.js", "lightbox.js", "zoom.js")
STYLES = ("page.css", "charts.css", "cases.css")


def write_page(
    evaluation: Evaluation, predict: Callable[[int], PredictedImage], folder: Path
) -> Path:
    """Write `index.html`, with a call of `predict` for each image that it shows; return its path.

    Raises:
        OSError: If it cannot be written; no file is left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    text = render(evaluation, predict)
    write_text(page, text, overwrite=True)
    return page


def render(evaluation: Evaluation, predict: Callable[[int], PredictedImage]) -> str:
    """Return the page as text; the same for the same evaluation."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,  # names of classes and files come from anywhere
        finalize=page_metrics.clean,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= page_metrics.FILTERS
    script = "\n".join(_read(name) for name in SCRIPTS)
    return environment.get_template("page.html").render(
        _content(evaluation, predict),
        style="\n".join(_read(name) for name in STYLES),
        script=script,
        # The browser runs this script and no other, whatever else the page may contain.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _content(evaluation: Evaluation, predict: Callable[[int], PredictedImage]) -> dict[str, Any]:
    cases = page_cases.make_cases(evaluation, predict)
    colours = page_metrics.colours(evaluation)
    scale = page_charts.colour_scale()
    return {
        "evaluation": evaluation,
        "cards": page_metrics.cards(evaluation),
        "classes": page_metrics.class_rows(evaluation),
        "has_boundary": "Class_Boundary_IoU" in evaluation.metrics,
        "absent": page_metrics.absent_classes(evaluation),
        "colours": colours,
        "pairs": page_metrics.confused_pairs(evaluation),
        "scale": scale,
        "matrix": page_charts.matrix(evaluation),
        "reliability": page_charts.reliability(evaluation),
        "cases": cases,
        "has_intervals": page_metrics.has_intervals(evaluation),
        "wrong_colour": hexadecimal(ERROR_COLOURS[WRONG]),
        "ignored_colour": hexadecimal(ERROR_COLOURS[IGNORED]),
        "max_side": MAX_SIDE,
        "data": {
            "classes": [page_metrics.clean(name) for name in evaluation.classes],
            "colours": colours,
            "rows": page_charts.sparse_rows(evaluation.confusion),
            "scale": scale,
            "images": page_metrics.image_rows(evaluation, cases.keys_by_index()),
        },
    }


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
