"""The result of an evaluation."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from utils.metrics.calibration import CalibrationBin
from utils.runs.headings import heading

__all__ = ["CalibrationBin", "Evaluation", "ImageScore", "LabelIssue", "PredictedImage", "Skipped"]


class ImageScore(NamedTuple):
    """One image.

    Attributes:
        name: The name of the sample.
        image: The file of the image.
        label: The file of the label.
        index: The index in the dataset.
        height: The height in pixels, as stored.
        width: The width in pixels, as stored.
        mean_iou: The mean over the classes in its labels or prediction; None without valid pixels.
        pixel_accuracy: The fraction of its valid pixels that are correct; None without one.
        labelled: The number of its valid pixels.
    """

    name: str
    image: str
    label: str
    index: int  # type: ignore[assignment]  # hides a method of tuples
    height: int
    width: int
    mean_iou: float | None
    pixel_accuracy: float | None
    labelled: int


class LabelIssue(NamedTuple):
    """A region whose label is likely wrong.

    Attributes:
        index: The index of the image in the dataset.
        name: The name of the sample.
        given: The class of the label.
        suggested: The class that the model predicts.
        score: How likely the label is wrong; larger is likelier.
        pixels: The number of pixels of the region.
        box: Left, top, right, bottom in the image's pixels, the last two exclusive.
    """

    index: int  # type: ignore[assignment]  # hides a method of tuples
    name: str
    given: int
    suggested: int
    score: float
    pixels: int
    box: tuple[int, int, int, int]


class Skipped(NamedTuple):
    """An image that no metric includes, and why."""

    name: str
    reason: str


class PredictedImage(NamedTuple):
    """An image to look at.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) ids; `ignore_index` where they are ignored.
        prediction: (H, W) ids.
        height: The height of the stored image, in pixels.
        width: Its width.
    """

    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    height: int
    width: int


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A model's metrics on one split.

    Args:
        checkpoint: The file.
        arch: The name of the model.
        dataset: The name of the data loader.
        split: `"train"`, `"val"` or `"test"`.
        mode: The mode of prediction: `"whole"`, `"sliding"` or `"multiscale"`.
        threshold: For two classes, the probability from which on class 1 is predicted; None: the
            more probable class is predicted.
        classes: The names of the K classes.
        palette: A colour (red, green, blue) for each.
        ignore_index: The ignored label.
        metrics: Metrics by name: scalars (NaN where undefined), and `Class_...`, lists of K numbers
            with None for a class that does not occur.
        intervals: Metric -> 95 % interval (low, high) over the images; of `Class_IoU` a list of
            K pairs. None where there is no interval, see `bootstrap_intervals()`.
        confusion: Pixel counts (K, K) int64; rows are labels, columns predictions.
        calibration: Pixels by confidence.
        images: Every scored image, in the order of the dataset.
        issues: Likely label errors, the likeliest first.
        skipped: Images that were skipped.
        seconds: The duration.
        device: The device of the model.
        date: Day and time of the start, ISO 8601.
        versions: The versions of Python, torch and so on.
        notes: Sentences to show wherever the metrics are shown.
        command: The command that repeats the evaluation.
        run: The name of the training, from its config; None where there is no config.
        model: The architecture with its encoder, see `describe_arch()`.
        data: The folder of the images; None if there is none.
    """

    checkpoint: str
    arch: str
    dataset: str
    split: str
    mode: str
    threshold: float | None
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int
    metrics: dict[str, Any]
    intervals: dict[str, Any]
    confusion: np.ndarray
    calibration: list[CalibrationBin]
    images: list[ImageScore]
    issues: list[LabelIssue]
    skipped: list[Skipped]
    seconds: float
    device: str = "cpu"
    date: str = ""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    command: str = ""
    run: str | None = None
    model: str = ""
    data: str | None = None

    @property
    def heading(self) -> str:
        """The run, its model and its data in one line."""
        return heading(self.run, self.model or self.arch, self.dataset, self.data)
