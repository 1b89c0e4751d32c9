"""The report of an evaluation: one page that needs no other file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation import page_cases, page_charts, page_metrics
from evaluation.output import PROGRAM
from evaluation.page_images import ERROR_COLOURS, IGNORED, MAX_SIDE, WRONG
from evaluation.result import Evaluation, PredictedImage
from utils.files.atomic_write import write_text
from utils.pages import render as pages
from utils.pages.text import clean, hexadecimal

TEMPLATE = Path(__file__).parent / "templates" / "page.html"
SCRIPTS = ("sorting.js", "tables.js", "sections.js", "confusion.js", "heat.js", "lightbox.js",
           "zoom.js")  # fmt: skip
STYLES = ("base.css", "page.css", "charts.css", "cases.css")


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
    return pages.render(
        TEMPLATE, _content(evaluation, predict), generator=PROGRAM, styles=STYLES, scripts=SCRIPTS
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
            "classes": [clean(name) for name in evaluation.classes],
            "colours": colours,
            "rows": page_charts.sparse_rows(evaluation.confusion),
            "scale": scale,
            "images": page_metrics.image_rows(evaluation, cases.keys_by_index()),
        },
    }
