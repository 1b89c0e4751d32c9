"""The geometry and colours of the page's charts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from evaluation.result import Evaluation

# viridis, https://bids.github.io/colormap: equal steps look equal, also without colour vision.
VIRIDIS = (
    "#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58",
    "#b5de2b", "#fde725",
)  # fmt: skip
STEPS = 41  # levels of a scale
LIGHT_GROUND, DARK_GROUND = "#ffffff", "#17191e"  # of cells without a pixel
TABLE_CLASSES = 25  # up to here the matrix is a table with a number in each cell
SAFE_INTEGER = 2**53  # beyond it a browser's numbers lose counts
EVEN = 0.01  # below this difference of confidence and accuracy nobody is called overconfident


class Level(NamedTuple):
    """A colour of the scale and the one that can be read on it."""

    ground: str
    ink: str


@functools.cache
def colour_scale() -> dict[str, list[Level]]:
    """From no pixel to all of them, for light and for dark pages."""
    return {
        "light": _levels((LIGHT_GROUND, *VIRIDIS[::-1])),
        # Its first colour could not be told from the ground.
        "dark": _levels((DARK_GROUND, *VIRIDIS[1:])),
    }


def _levels(stops: Sequence[str]) -> list[Level]:
    colours = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops])
    places = np.linspace(0, len(stops) - 1, STEPS)
    mixed = [np.interp(places, range(len(stops)), channel) for channel in colours.T]
    result = []
    for red, green, blue in np.rint(mixed).astype(int).T.tolist():
        bright = luminance((red, green, blue))
        # WCAG's contrast with white against that with black.
        dark_ink = (bright + 0.05) / 0.05 > 1.05 / (bright + 0.05)
        result.append(Level(f"#{red:02x}{green:02x}{blue:02x}", "#000" if dark_ink else "#fff"))
    return result


def luminance(colour: Sequence[int]) -> float:
    """Relative luminance of an sRGB colour, 0..1, as WCAG 2 defines it."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def level(share: float) -> int:
    """Place in the scale: by the square root, so that small shares can be told from none."""
    return 0 if share <= 0 else max(1, round(share**0.5 * (STEPS - 1)))


class Cell(NamedTuple):
    """A cell of the small matrix."""

    level: int
    text: str


def matrix(evaluation: Evaluation) -> list[list[Cell]] | None:
    """The cells of a matrix with numbers, rows are labels; None for too many classes."""
    counts = evaluation.confusion
    if len(counts) > TABLE_CLASSES:
        return None
    shares = counts / np.maximum(counts.sum(1), 1)[:, None]
    return [[Cell(level(share), _short(share)) for share in row] for row in shares.tolist()]


def _short(share: float) -> str:
    value = 100 * share
    if value == 0:
        return ""
    if value < 0.05:
        return "·"
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def sparse_rows(counts: np.ndarray) -> list[list[int | str]]:
    """Of each row, column and count in turn where there is one; text where numbers fall short."""
    rows: list[list[int | str]] = []
    for row in counts:
        flat: list[int | str] = []
        for column in np.flatnonzero(row).tolist():
            count = int(row[column])
            flat += [column, count if count < SAFE_INTEGER else str(count)]
        rows.append(flat)
    return rows


class Bar(NamedTuple):
    """A bin of the reliability diagram; shares are 0..1."""

    low: float
    high: float
    pixels: int
    share: float
    height: float  # of its bar in the histogram, 1 for the fullest bin
    confidence: float | None
    accuracy: float | None


class Reliability(NamedTuple):
    """The reliability diagram."""

    bars: list[Bar]
    confidence: float
    accuracy: float
    verdict: str


def reliability(evaluation: Evaluation) -> Reliability | None:
    """The diagram; None without a pixel."""
    bins = [b for b in evaluation.calibration if b.count]
    total = sum(b.count for b in bins)
    if not total:
        return None
    most = max(b.count for b in bins)
    bars = [
        Bar(b.low, b.high, b.count, b.count / total, b.count / most, b.confidence, b.accuracy)
        for b in evaluation.calibration
    ]
    confidence = sum(b.count * (b.confidence or 0.0) for b in bins) / total
    accuracy = sum(b.count * (b.accuracy or 0.0) for b in bins) / total
    return Reliability(bars, confidence, accuracy, _verdict(confidence - accuracy))


def _verdict(gap: float) -> str:
    if abs(gap) < EVEN:
        return "about as sure as it should be"
    return "overconfident" if gap > 0 else "underconfident"


def ticks() -> list[dict[str, Any]]:
    """Shares that the legend of the scale names, with their levels."""
    return [{"share": share, "level": level(share)} for share in (0, 0.01, 0.05, 0.2, 0.5, 1)]
