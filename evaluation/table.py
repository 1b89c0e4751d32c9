"""The metrics as text for the terminal."""

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np
from tabulate import tabulate

from evaluation.result import Evaluation
from utils.cli.sanitize import one_line
from utils.metrics.confusion import name_of
from utils.samples.pairing import few

SHOWN = 3  # pairs, images
NAME_WIDTH = 24
MAX_NAMES = 10
WIDTH = 100
NOTHING = "-"

# Metric, its name.
OVERALL = (
    ("Mean_IoU", "mean IoU"),
    ("Mean_Dice", "mean Dice"),
    ("Pixel_Accuracy", "pixel accuracy"),
    ("Mean_Accuracy", "mean accuracy"),
    ("FWIoU", "frequency-weighted IoU"),
    ("Mean_Image_IoU", "mean IoU of an image"),
    ("Boundary_IoU", "boundary IoU"),
    ("Boundary_F", "boundary F"),
    ("Kappa", "Cohen's kappa"),
    ("ECE", "calibration error (ECE)"),
)


def text_of(evaluation: Evaluation) -> str:
    """Return everything that the terminal shows."""
    parts = [
        headline(evaluation),
        class_table(evaluation),
        overall_table(evaluation),
        "\n".join((*confusions(evaluation), *worst(evaluation))),
        "\n".join((*map(one_line, evaluation.notes), *skipped(evaluation))),
    ]
    return "\n\n".join(part for part in parts if part)


def headline(evaluation: Evaluation) -> str:
    """Return what was scored, on which images and in which mode."""
    pixels, images = int(evaluation.confusion.sum()), len(evaluation.images)
    text = (
        f"{evaluation.heading}, {evaluation.split}: "
        f"{images} image{'s' * (images != 1)}, {pixels:,} labelled "
        f"pixel{'s' * (pixels != 1)}, mode {evaluation.mode}"
    )
    if evaluation.threshold is not None:
        text += f", threshold {evaluation.threshold:.4g}"
    return text


def class_table(evaluation: Evaluation) -> str:
    """Return a table with a line for each class that occurs, in per cent."""
    metrics, labelled = evaluation.metrics, evaluation.confusion.sum(1)
    total = max(int(labelled.sum()), 1)
    rows = []
    for index, name in enumerate(evaluation.classes):
        if metrics["Class_IoU"][index] is None:
            continue
        columns = ("IoU", "Dice", "Precision", "Recall", "Boundary_IoU")
        iou, dice, precision, recall, boundary = (
            percent(metrics[f"Class_{column}"][index]) for column in columns
        )
        interval = _interval(evaluation.intervals["Class_IoU"][index])
        fraction = percent(labelled[index] / total)
        rows.append((_cut(name), iou, interval, dice, precision, recall, boundary, fraction))
    headers = ("class", "IoU %", "95 %", "Dice", "prec.", "recall", "b. IoU", "pixels")
    align = ("left", *["right"] * (len(headers) - 1))
    table = tabulate(rows, headers, disable_numparse=True, colalign=align if rows else None)
    pairs = zip(evaluation.classes, metrics["Class_IoU"], strict=True)
    absent = [_cut(name) for name, iou in pairs if iou is None]
    if absent:
        more = "class" if len(absent) == 1 else "classes"
        text = f"{len(absent)} more {more} in no label or prediction: {few(absent, MAX_NAMES)}"
        table += f"\n{textwrap.fill(text, WIDTH)}"
    return table


def overall_table(evaluation: Evaluation) -> str:
    """Return a table of the metrics of all classes together, with their intervals."""
    rows = []
    labelled = int((evaluation.confusion.sum(1) > 0).sum())
    for key, name in OVERALL:
        value = evaluation.metrics[key]
        shown = f"{value:.4f}" if value == value else NOTHING
        interval = evaluation.intervals.get(key)
        if name_of(key, labelled) != key:
            name = f"{name} (one class labelled)"
        rows.append((name, shown, "{:.4f} - {:.4f}".format(*interval) if interval else ""))
    headers = ("", "metric", "95 % over images")
    return tabulate(rows, headers, disable_numparse=True, colalign=("left", "right", "left"))


def confusions(evaluation: Evaluation) -> Iterator[str]:
    """Yield a line for each of the pairs of classes that cost most pixels."""
    counts = evaluation.confusion.copy()
    labelled = counts.sum(1)
    np.fill_diagonal(counts, 0)
    cells = np.argsort(-counts, axis=None, kind="stable")[:SHOWN].tolist()
    for given, predicted in (divmod(cell, len(counts)) for cell in cells):
        pixels = int(counts[given, predicted])
        if pixels:
            names = (_cut(evaluation.classes[index]) for index in (given, predicted))
            yield (
                "often confused: {} predicted as {}".format(*names)
                + f": {percent(pixels / labelled[given])} % of it, {pixels:,} pixels"
            )


def worst(evaluation: Evaluation) -> Iterator[str]:
    """Yield a line for each of the images with the lowest mean IoU."""
    scored = [(image.mean_iou, image) for image in evaluation.images if image.mean_iou is not None]
    for score, image in sorted(scored, key=lambda pair: pair[0])[:SHOWN]:
        yield f"worst: {one_line(image.name)}: mean IoU {score:.4f}"


def skipped(evaluation: Evaluation) -> Sequence[str]:
    """Return a line on the images that no metric includes."""
    count = len(evaluation.skipped)
    if not count:
        return ()
    total = count + len(evaluation.images)
    return (f"The metrics exclude {count} of {total} images, named above.",)


def percent(value: float | None) -> str:
    """Return a fraction in per cent, without the sign."""
    return NOTHING if value is None or value != value else f"{100 * value:.1f}"


def _interval(pair: Sequence[float] | None) -> str:
    return NOTHING if pair is None else f"{percent(pair[0])} - {percent(pair[1])}"


def _cut(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 3] + "..."
