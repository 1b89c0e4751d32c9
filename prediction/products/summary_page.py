"""The summary as HTML."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prediction.products.summary_store import ClassPixels, ImageEntry, Totals
from utils.pages import render as pages

PROGRAM = "inference.py"
MARK = f'<meta name="generator" content="{PROGRAM}">'  # marks a page as ours
TEMPLATE = Path(__file__).parent / "templates" / "summary.html"
STYLES = ("base.css", "summary.css")
SCRIPTS = ("sorting.js", "sections.js", "compare.js")

MAX_COLUMNS = 24  # classes in the table of images: more would be read by nobody
MAX_CHIPS = 5  # classes named below an image


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """How the images were predicted."""

    model: str  # the checkpoint
    mode: str  # how the network is applied, such as `sliding, 1024x1024`
    date: str  # when the run ended, as `2026-11-29 12:00`
    name: str = ""  # the name of the run that the checkpoint is of
    seconds: float | None = None  # how long it took
    device: str = ""  # what it ran on


class ClassRow(NamedTuple):
    """A class, over all images."""

    number: int | None
    name: str
    colour: str
    pixels: int
    share: float  # of the pixels of all images
    images: int  # that have it


def render(totals: Totals, run: RunFacts) -> str:
    """Return the page as text; the same for the same content."""
    classes = class_rows(totals)
    columns = classes[:MAX_COLUMNS]
    return pages.render(
        TEMPLATE,
        {
            "run": run,
            "totals": totals,
            "classes": classes,
            "columns": columns,
            "shares": [_shares(entry, columns) for entry in totals.shown],
            "max_chips": MAX_CHIPS,
            "title": run.name or Path(run.model).name,
        },
        generator=PROGRAM,
        styles=STYLES,
        scripts=SCRIPTS,
        filters={"describe": describe},
    )


def class_rows(totals: Totals) -> list[ClassRow]:
    """Return the classes that occur in any image, the largest first."""
    total = max(1, sum(totals.pixels.values()))
    ranked = sorted(totals.pixels.items(), key=lambda pair: (-pair[1], pair[0].name))
    return [
        ClassRow(kind.number, kind.name, kind.colour, pixels, pixels / total, totals.images[kind])
        for kind, pixels in ranked
    ]


def describe(entry: ImageEntry) -> str:
    """Return in words what is in an image, for those who cannot see its mask."""
    total = entry.height * entry.width
    named = [f"{c.name} {100 * c.pixels / total:.0f} %" for c in entry.classes[:MAX_CHIPS]]
    more = len(entry.classes) - len(named)
    return ", ".join(named) + (f" and {more} more classes" if more > 1 else
                               " and one more class" if more else "")  # fmt: skip


def _shares(entry: ImageEntry, columns: Sequence[ClassRow]) -> list[float]:
    """Return the share of each class of the table."""
    found: dict[Any, int] = {_kind(item): item.pixels for item in entry.classes}
    total = entry.height * entry.width
    return [found.get(_kind(column), 0) / total for column in columns]


def _kind(item: ClassPixels | ClassRow) -> tuple[int | None, str, str]:
    return item.number, item.name, item.colour
