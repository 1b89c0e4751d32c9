"""The geometry and colours of the page's charts."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluation.result import Evaluation

# viridis, https://bids.github.io/colormap: equal steps look equal, also without colour vision.
VIRIDIS = (
    "#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58",
    "#b5de2b", "#fde725",
)  # fmt: skip
STEPS = 41  # levels of a scale
LIGHT_GROUND, DARK_GROUND = "#ffffff", "#17191e"  # of empty cells
TABLE_CLASSES = 25  # up to here the matrix is a table with a number in each cell
SAFE_INTEGER = 2**53  # beyond it a browser's numbers lose counts
EVEN = 0.01  # a smaller ECE is called neither over- nor underconfident
MIN_GAP = 0.1  # two mean confidences that differ by as much are told apart in words


class Level(NamedTuple):
    """A colour of the scale, and the text colour that is legible on it."""

    ground: str
    ink: str


@functools.cache
def colour_scale() -> dict[str, list[Level]]:
    """Return the colours from no pixel to all of them, for light and for dark pages."""
    return {
        "light": _levels((LIGHT_GROUND, *VIRIDIS[::-1])),
        # The first colour of viridis could not be told from the ground.
        "dark": _levels((DARK_GROUND, *VIRIDIS[1:])),
    }


def _levels(stops: Sequence[str]) -> list[Level]:
    colours = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops])
    stops_at = np.linspace(0, len(stops) - 1, STEPS)
    mixed = [np.interp(stops_at, range(len(stops)), channel) for channel in colours.T]
    result = []
    for red, green, blue in np.rint(mixed).astype(int).T.tolist():
        bright = luminance((red, green, blue))
        # WCAG's contrast with white against that with black.
        dark_ink = (bright + 0.05) / 0.05 > 1.05 / (bright + 0.05)
        result.append(Level(f"#{red:02x}{green:02x}{blue:02x}", "#000" if dark_ink else "#fff"))
    return result


def luminance(colour: Sequence[int]) -> float:
    """Return the relative luminance of an sRGB colour, 0..1, as WCAG 2 defines it."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def level(fraction: float) -> int:
    """Return the step of the scale, by the square root: small fractions differ from none."""
    return 0 if fraction <= 0 else max(1, round(fraction**0.5 * (STEPS - 1)))


class Cell(NamedTuple):
    """A cell of the small matrix."""

    level: int
    text: str


def matrix(evaluation: Evaluation) -> list[list[Cell]] | None:
    """Return the cells of a matrix with numbers, rows are labels; None for too many classes."""
    counts = evaluation.confusion
    if len(counts) > TABLE_CLASSES:
        return None
    fractions = counts / np.maximum(counts.sum(1), 1)[:, None]
    return [[Cell(level(value), _short(value)) for value in row] for row in fractions.tolist()]


def _short(fraction: float) -> str:
    value = 100 * fraction
    if value == 0:
        return ""
    if value < 0.05:
        return "·"
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def sparse_rows(counts: np.ndarray) -> list[list[int | str]]:
    """Return column and count of each cell that is not empty; huge counts as text."""
    rows: list[list[int | str]] = []
    for row in counts:
        flat: list[int | str] = []
        for column in np.flatnonzero(row).tolist():
            count = int(row[column])
            flat += [column, count if count < SAFE_INTEGER else str(count)]
        rows.append(flat)
    return rows


class Bar(NamedTuple):
    """A bin of the reliability diagram that has pixels; values are 0..1."""

    low: float
    high: float
    pixels: int
    height: float  # of its bar in the histogram; 1 for the fullest bin
    confidence: float
    accuracy: float


class Group(NamedTuple):
    """A group of pixels: their fraction of all, mean confidence and accuracy."""

    fraction: float
    confidence: float
    accuracy: float


class Reliability(NamedTuple):
    """The reliability diagram."""

    bars: list[Bar]  # its bins
    verdict: str  # the judgement on the model, in words
    # The pixels that it is based on: all of them, or those where the model is underconfident and
    # those where it is overconfident, the lower mean confidence first.
    groups: list[Group]


def reliability(evaluation: Evaluation) -> Reliability | None:
    """Return the diagram; None without pixels."""
    most = max((b.count for b in evaluation.calibration), default=0)
    bars = [
        Bar(b.low, b.high, b.count, b.count / most, b.confidence, b.accuracy)
        for b in evaluation.calibration
        if b.count and b.confidence is not None and b.accuracy is not None
    ]
    return Reliability(bars, *_verdict(bars)) if bars else None


def _verdict(bars: Sequence[Bar]) -> tuple[str, list[Group]]:
    total = sum(bar.pixels for bar in bars)
    everything = _group(bars, total)
    gap = everything.confidence - everything.accuracy
    # ECE: the distances of the bins, which may cancel in `gap`.
    distance = sum(bar.pixels * abs(bar.confidence - bar.accuracy) for bar in bars) / total
    if distance < EVEN:
        return "well calibrated", [everything]
    if distance < 2 * abs(gap):
        return ("overconfident" if gap > 0 else "underconfident"), [everything]
    underconfident = _group([bar for bar in bars if bar.confidence <= bar.accuracy], total)
    overconfident = _group([bar for bar in bars if bar.confidence > bar.accuracy], total)
    if overconfident.confidence - underconfident.confidence >= MIN_GAP:
        words = "underconfident at low confidence, overconfident at high confidence"
    elif underconfident.confidence - overconfident.confidence >= MIN_GAP:
        words = "overconfident at low confidence, underconfident at high confidence"
    else:
        words = "underconfident in some bins, overconfident in others"
    return words, sorted((underconfident, overconfident), key=lambda group: group.confidence)


def _group(bars: Sequence[Bar], total: int) -> Group:
    pixels = sum(bar.pixels for bar in bars)
    confidence = sum(bar.pixels * bar.confidence for bar in bars) / pixels
    accuracy = sum(bar.pixels * bar.accuracy for bar in bars) / pixels
    return Group(pixels / total, confidence, accuracy)
