"""The result of an evaluation."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from utils.metrics.calibration import CalibrationBin
from utils.runs.headings import heading

__all__ = ["CalibrationBin", "Evaluation", "ImageScore", "LabelIssue", "PredictedImage", "Skipped"]


class ImageScore(NamedTuple):
    """One image."""

    name: str  # the name of the sample
    image: str  # the file of the image
    label: str  # the file of the label
    # The index in the dataset.
    index: int  # type: ignore[assignment]  # hides a method of tuples
    height: int  # the height in pixels, as stored
    width: int  # the width in pixels, as stored
    # The mean over the classes in its labels or prediction; None without valid pixels.
    mean_iou: float | None
    # The fraction of its valid pixels that are correct; None without one.
    pixel_accuracy: float | None
    labelled: int  # the number of its valid pixels


class LabelIssue(NamedTuple):
    """A region whose label is likely wrong."""

    # The index of the image in the dataset.
    index: int  # type: ignore[assignment]  # hides a method of tuples
    name: str  # the name of the sample
    given: int  # the class of the label
    suggested: int  # the class that the model predicts
    score: float  # how likely the label is wrong; larger is likelier
    pixels: int  # the number of pixels of the region
    # Left, top, right, bottom in the image's pixels, the last two exclusive.
    box: tuple[int, int, int, int]


class Skipped(NamedTuple):
    """An image that no metric includes, and why."""

    name: str
    reason: str


class PredictedImage(NamedTuple):
    """An image to look at."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    label: np.ndarray  # (H, W) ids; `ignore_index` where they are ignored
    prediction: np.ndarray  # (H, W) ids
    height: int  # the height of the stored image, in pixels
    width: int  # its width


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A model's metrics on one split."""

    checkpoint: str  # the file
    arch: str  # the name of the model
    dataset: str  # the name of the data loader
    split: str  # `"train"`, `"val"` or `"test"`
    mode: str  # the mode of prediction: `"whole"`, `"sliding"` or `"multiscale"`
    # For two classes, the probability threshold for class 1; None: the more probable
    # class is predicted.
    threshold: float | None
    classes: tuple[str, ...]  # the names of the K classes
    palette: tuple[tuple[int, int, int], ...]  # a colour (red, green, blue) for each
    ignore_index: int  # the ignored label
    # Metrics by name: scalars (NaN where undefined), and `Class_...`, lists of K numbers with None
    # for a class that does not occur.
    metrics: dict[str, Any]
    # Metric -> 95 % interval (low, high) over the images; of `Class_IoU` a list of K pairs. None
    # where there is no interval, see `bootstrap_intervals()`.
    intervals: dict[str, Any]
    confusion: np.ndarray  # pixel counts (K, K) int64; rows are labels, columns predictions
    calibration: list[CalibrationBin]  # pixels by confidence
    images: list[ImageScore]  # every scored image, in the order of the dataset
    issues: list[LabelIssue]  # likely label errors, the likeliest first
    skipped: list[Skipped]  # images that were skipped
    seconds: float  # the duration
    device: str = "cpu"  # the device of the model
    date: str = ""  # day and time of the start, ISO 8601
    # The versions of Python, torch and so on.
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()  # sentences to show wherever the metrics are shown
    command: str = ""  # the command that repeats the evaluation
    # The name of the training, from its config; None where there is no config.
    run: str | None = None
    model: str = ""  # the architecture with its encoder, see `describe_arch()`
    data: str | None = None  # the folder of the images; None if there is none

    @property
    def heading(self) -> str:
        """The run, its model and its data in one line."""
        return heading(self.run, self.model or self.arch, self.dataset, self.data)
