"""Every metric of a split, counted image by image."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from base.base_dataset import BaseDataset
from evaluation.label_errors import LabelErrors
from evaluation.result import ImageScore, LabelIssue
from utils.distributed.collectives import all_gather_rows, all_reduce_sum, world_size
from utils.metrics.bootstrap import bootstrap_intervals
from utils.metrics.boundary import BoundaryMetrics
from utils.metrics.calibration import CalibrationBin, CalibrationMetrics
from utils.metrics.confusion import SegmentationMetrics, metrics_of
from utils.metrics.image_scores import class_counts, image_mean_ious, mean_image_iou

LABEL_ISSUES = 100  # more than anyone looks at
NO_IMAGE = "no image could be scored; each is named above with the reason"


class Results(NamedTuple):
    """The results of `Scores`; the fields are those of `Evaluation`."""

    metrics: dict[str, Any]
    intervals: dict[str, Any]
    confusion: np.ndarray
    calibration: list[CalibrationBin]
    images: list[ImageScore]
    issues: list[LabelIssue]


class Scores:
    """Sums over the images of a split, and a few numbers of each; no pixel is kept.

    Args:
        dataset: The dataset of the images.
        num_classes: The number of classes, K.
        ignore_index: The ignored label.
    """

    def __init__(self, dataset: BaseDataset, num_classes: int, ignore_index: int) -> None:
        self.dataset = dataset
        self.ignore_index = ignore_index
        self._one = SegmentationMetrics(num_classes, ignore_index)
        self._confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self._counts: dict[int, np.ndarray] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._boundary = BoundaryMetrics(num_classes, ignore_index)
        self._calibration = CalibrationMetrics(ignore_index=ignore_index)
        self._errors = LabelErrors(num_classes, ignore_index)

    def update(self, index: int, probabilities: Tensor, ids: Tensor, labels: Tensor) -> None:
        """Count an image.

        Args:
            index: Its index in the dataset.
            probabilities: (K, H, W), on any device.
            ids: (H, W), the predicted classes, on the CPU.
            labels: (H, W) integers in 0..K-1, or the ignored label, on the CPU.
        """
        # The work of the device comes first: if its memory runs out, nothing has been counted.
        device = probabilities.device
        planes = self._errors.planes(probabilities, labels, ids)
        calibration = CalibrationMetrics(ignore_index=self.ignore_index, device=device)
        calibration.update_probabilities(
            probabilities[None], labels[None].to(device), ids[None].to(device)
        )
        self._calibration.merge(calibration)
        self._one.reset()
        self._one.update(ids[None], labels[None])
        confusion = self._one.confusion
        self._confusion += confusion
        self._counts[index] = class_counts(confusion)
        self._sizes[index] = (labels.shape[0], labels.shape[1])
        self._boundary.update(ids, labels)
        self._errors.update_planes(index, self.dataset.samples[index].name, planes)

    def exchange(self) -> None:
        """All-reduce and gather the counts, so that every process has those of all.

        They are integers, so the metrics do not depend on which process counted what.
        """
        if world_size() == 1:
            return
        for counts in (self._confusion, self._boundary.counts, self._calibration.counts):
            all_reduce_sum(counts)
        shape = (3, len(self._confusion))
        rows = [
            np.concatenate([[index, *self._sizes[index]], counts.ravel()])
            for index, counts in self._counts.items()
        ]
        table = torch.from_numpy(np.array(rows, np.int64).reshape(len(rows), 3 + math.prod(shape)))
        for index, height, width, *numbers in all_gather_rows(table).tolist():
            self._sizes[index] = (height, width)
            self._counts[index] = np.array(numbers, np.int64).reshape(shape)
        self._errors.exchange()

    def results(self) -> Results:
        """Return every metric of what was counted.

        Raises:
            ValueError: If nothing was.
        """
        if not self._counts:
            raise ValueError(NO_IMAGE)
        if not self._confusion.any():
            raise ValueError(
                f"the {len(self._counts)} images have no valid pixel: all are labelled "
                f"{self.ignore_index}, which is ignore_index"
            )
        indices = sorted(self._counts)  # the same metrics for any batch size
        counts = np.stack([self._counts[index] for index in indices])
        calibration = self._calibration.compute()
        boundary = self._boundary.compute()
        metrics = {
            **metrics_of(self._confusion),
            "Mean_Image_IoU": mean_image_iou(counts),
            **boundary,
            **{name: calibration[name] for name in ("ECE", "MCE", "Mean_Confidence")},
        }
        scores = image_mean_ious(counts)
        return Results(
            metrics=metrics,
            intervals=bootstrap_intervals(counts),
            confusion=self._confusion.numpy(),
            calibration=calibration["Bins"],
            images=[self._image(*row) for row in zip(indices, counts, scores, strict=True)],
            issues=self._errors.result(LABEL_ISSUES),
        )

    def _image(self, index: int, counts: np.ndarray, mean_iou: np.float64) -> ImageScore:
        sample = self.dataset.samples[index]
        right, _, missed = counts.sum(1).tolist()
        labelled = right + missed
        return ImageScore(
            name=sample.name,
            image=sample.image,
            label=sample.label or "",
            index=index,
            height=self._sizes[index][0],
            width=self._sizes[index][1],
            mean_iou=None if np.isnan(mean_iou) else float(mean_iou),
            pixel_accuracy=right / labelled if labelled else None,
            labelled=labelled,
        )
