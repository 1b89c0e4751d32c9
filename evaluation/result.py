"""What an evaluation has found."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from utils.metrics.calibration import CalibrationBin
from utils.runs.headings import heading

__all__ = ["CalibrationBin", "Evaluation", "ImageScore", "LabelIssue", "PredictedImage", "Skipped"]


class ImageScore(NamedTuple):
    """One picture.

    Attributes:
        name: Of the sample.
        image: The picture's file.
        label: The label's file.
        index: Its place in the dataset.
        height: In pixels, as stored.
        width: Likewise.
        mean_iou: Over the classes that occur in its labels or prediction; None without a labelled
            pixel.
        pixel_accuracy: Share of its labelled pixels that are right; None without one.
        labelled: Its pixels that count.
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
        index: The picture's place in the dataset.
        name: Of the sample.
        given: The class that the label says.
        suggested: The class that the model says.
        score: How likely the label is wrong, larger is likelier.
        pixels: Of the region.
        box: Left, top, right, bottom in the picture's pixels, the last two exclusive.
    """

    index: int  # type: ignore[assignment]  # hides a method of tuples
    name: str
    given: int
    suggested: int
    score: float
    pixels: int
    box: tuple[int, int, int, int]


class Skipped(NamedTuple):
    """A picture that no figure knows of, and why."""

    name: str
    reason: str


class PredictedImage(NamedTuple):
    """A picture to look at.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        label: (H, W) ids, with `ignore_index` where no pixel counts.
        prediction: (H, W) ids.
        height: Of the stored picture, in pixels.
        width: Likewise.
    """

    picture: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    height: int
    width: int


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A model's figures on one split.

    Args:
        checkpoint: The file.
        arch: Name of the model.
        dataset: Name of the data loader.
        split: `"train"`, `"val"` or `"test"`.
        mode: Of the prediction: `"whole"`, `"sliding"` or `"multiscale"`.
        threshold: Of two classes, the probability from which on a pixel is of the second; None:
            the more probable class is predicted.
        classes: Names of the K classes.
        palette: A colour (red, green, blue) for each.
        ignore_index: The label that does not count.
        figures: Figures by name: scalars (NaN where undefined), and `Class_...`, lists of K numbers
            with None for a class that does not occur.
        intervals: Figure -> 95 % interval (low, high) over the pictures; of `Class_IoU` a list of
            K pairs. None where there is no interval, see `bootstrap_intervals()`.
        confusion: Pixel counts (K, K) int64; rows are labels, columns predictions.
        calibration: Pixels by confidence.
        images: Every picture that counts, in the order of the dataset.
        issues: Likely label errors, the likeliest first.
        skipped: Pictures that were left out.
        seconds: Duration.
        device: Where the model ran.
        date: Day and time of the start, ISO 8601.
        versions: Of Python, torch and so on.
        notes: Sentences that belong to the figures wherever they are shown.
        command: What to type for these figures again.
        run: The name of the training, from its config; None where there is no config.
        model: The architecture with its encoder, see `describe_arch()`.
        data: The folder of the pictures; None where there is none.
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
    figures: dict[str, Any]
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
