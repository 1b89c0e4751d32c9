"""Metrics as the page shows them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from evaluation.result import Evaluation
from utils.pages.text import NOTHING, SPACE, clean, hexadecimal, percent

NUM_PAIRS = 12  # pairs in each of the two lists

# Metric, its name on the page, what it means.
CARDS = (
    ("Mean_IoU", "Mean IoU", "Overlap of label and prediction divided by their union, over all "
     "pixels of the split, averaged over the classes that occur."),
    ("Mean_Dice", "Mean Dice", "Twice the overlap divided by the sum of both areas (F1), averaged "
     "over the classes that occur."),
    ("Pixel_Accuracy", "Pixel accuracy", "Fraction of the labelled pixels that are correct; "
     "large classes decide it."),
    ("Mean_Accuracy", "Mean accuracy", "Fraction of each class's pixels that are found "
     "(recall), averaged over the classes that are labelled."),
    ("Mean_Image_IoU", "Mean per-image IoU", "Mean IoU of each image by itself, averaged over "
     "the images: small images and small objects weigh more than in Mean IoU."),
    ("Boundary_IoU", "Boundary IoU", "IoU of the pixels near the outlines only, averaged over the "
     "classes: how well outlines fit."),
    ("Boundary_F", "Boundary F", "Fraction of outline pixels close to an outline of the other "
     "mask: the F-score of precision and recall."),
    ("ECE", "Calibration error (ECE)", "Mean distance between confidence and accuracy; 0 is "
     "perfect, lower is better."),
    ("Kappa", "Cohen's kappa", "Agreement beyond what chance would give: 0 is chance, 1 is "
     "perfect."),
    ("FWIoU", "Frequency-weighted IoU", "IoU of the classes, weighted by their fraction of "
     "the labelled pixels."),
)  # fmt: skip


class Card(NamedTuple):
    """One of the main metrics."""

    key: str
    name: str
    value: str
    interval: str
    explanation: str


class ClassRow(NamedTuple):
    """One class; metrics are 0..1 or None."""

    number: int
    name: str
    iou: float | None
    interval: tuple[float, float] | None
    dice: float | None
    precision: float | None
    recall: float | None
    boundary: float | None
    fraction: float


class Confused(NamedTuple):
    """Pixels of one class that were taken for another."""

    given: int
    predicted: int
    fraction: float
    pixels: int


def cards(evaluation: Evaluation) -> list[Card]:
    """Return the main metrics, Mean IoU first."""
    return [
        Card(key, name, _value(key, evaluation.metrics), _interval(key, evaluation), explanation)
        for key, name, explanation in CARDS
    ]


def _value(key: str, metrics: Mapping[str, Any]) -> str:
    value = metrics.get(key)
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.4f}" if key == "Kappa" else percent(value, 2)


def _interval(key: str, evaluation: Evaluation) -> str:
    interval = _known_interval(evaluation.intervals.get(key))
    if interval is None:
        return ""
    low, high = interval
    if key == "Kappa":
        return f"{low:.4f} – {high:.4f}"
    return f"{100 * low:.2f} – {100 * high:.2f}{SPACE}%"


def class_rows(evaluation: Evaluation) -> list[ClassRow]:
    """Return the classes that occur in labels or predictions."""
    metrics = evaluation.metrics
    k = len(evaluation.classes)
    nothing: list[None] = [None] * k
    intervals = evaluation.intervals.get("Class_IoU") or nothing
    columns = [
        metrics.get(f"Class_{name}") or nothing
        for name in ("IoU", "Dice", "Precision", "Recall", "Boundary_IoU")
    ]
    labelled = evaluation.confusion.sum(1)
    total = max(int(labelled.sum()), 1)
    absent = set(_absent(evaluation))
    rows = []
    for c in range(k):
        if c in absent:
            continue
        iou, dice, precision, recall, boundary = (_known(column[c]) for column in columns)
        interval = _known_interval(intervals[c])
        fraction = int(labelled[c]) / total
        rows.append(ClassRow(c, evaluation.classes[c], iou, interval, dice, precision, recall,
                             boundary, fraction))  # fmt: skip
    return rows


def _known(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _known_interval(interval: Sequence[float | None] | None) -> tuple[float, float] | None:
    low, high = map(_known, interval or (None, None))
    return None if low is None or high is None else (low, high)


def has_intervals(evaluation: Evaluation) -> bool:
    """Return whether any metric of the page has an interval; few images give none."""
    of_classes = evaluation.intervals.get("Class_IoU") or ()
    of_cards = (evaluation.intervals.get(key) for key, _, _ in CARDS)
    return any(map(_known_interval, (*of_cards, *of_classes)))


def _absent(evaluation: Evaluation) -> list[int]:
    counts = evaluation.confusion
    return np.flatnonzero((counts.sum(0) == 0) & (counts.sum(1) == 0)).tolist()


def absent_classes(evaluation: Evaluation) -> list[str]:
    """Return the names of the classes that occur in neither labels nor predictions."""
    return [evaluation.classes[c] for c in _absent(evaluation)]


def colours(evaluation: Evaluation) -> list[str]:
    """Return the palette for style sheets."""
    return list(map(hexadecimal, evaluation.palette))


def confused_pairs(evaluation: Evaluation) -> dict[str, list[Confused]]:
    """Return the most confused pairs, by fraction of the label's pixels and by pixels."""
    counts = evaluation.confusion.copy()
    labelled = counts.sum(1)
    np.fill_diagonal(counts, 0)
    fractions = counts / np.maximum(labelled, 1)[:, None]
    return {
        "fraction": _largest(fractions, fractions, counts),
        "pixels": _largest(counts, fractions, counts),
    }


def _largest(order: np.ndarray, fractions: np.ndarray, counts: np.ndarray) -> list[Confused]:
    cells = np.argsort(-order, axis=None, kind="stable")[:NUM_PAIRS]
    pairs = [divmod(cell, len(counts)) for cell in cells.tolist()]
    return [
        Confused(
            given, predicted, float(fractions[given, predicted]), int(counts[given, predicted])
        )
        for given, predicted in pairs
        if counts[given, predicted]
    ]


def image_rows(evaluation: Evaluation, keys: Mapping[int, str]) -> list[Sequence[Any]]:
    """Return name, width, height, IoU, accuracy, pixels and element id of each image."""
    return [
        (clean(image.name), image.width, image.height, image.mean_iou, image.pixel_accuracy,
         image.labelled, keys.get(image.index))
        for image in evaluation.images
    ]  # fmt: skip
