"""Whether an exported file scores like its checkpoint on the images of a split."""

from typing import Any, NamedTuple

import numpy as np
import torch

from evaluation.evaluation_run import EvaluationRun, open_run
from evaluation.score_split import predictions
from utils.logits.to_labels import predict_labels
from utils.metrics.bootstrap import Interval, bootstrap_difference, bootstrap_mean_iou
from utils.metrics.confusion import SegmentationMetrics
from utils.metrics.image_scores import class_counts, class_ious, nan_mean

SPLIT = "val"


class Score(NamedTuple):
    """The mean IoU of a model or file on a split."""

    counts: np.ndarray  # (N, 3, K), see `class_counts()`

    @property
    def mean_iou(self) -> float:
        """The mean IoU of the split, in 0..1."""
        return float(nan_mean(class_ious(self.counts.sum(0))))

    @property
    def interval(self) -> Interval | None:
        """Its 95 % interval over the images."""
        return bootstrap_mean_iou(self.counts)


class Validation(NamedTuple):
    """The mean IoU of a checkpoint and of the file made of it, on the same images."""

    before: Score
    after: Score

    @property
    def change(self) -> float:
        """How much higher the file scores, in points (hundredths of mean IoU)."""
        return 100 * (self.after.mean_iou - self.before.mean_iou)

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the change over the images, in points."""
        found = bootstrap_difference(self.before.counts, self.after.counts)
        return None if found is None else Interval(100 * found.low, 100 * found.high)

    def check(self, tolerance: float) -> None:
        """Refuse a file that scores lower.

        Args:
            tolerance: How much lower it may score, in points.

        Raises:
            ValueError: If it scores lower by that or more.
        """
        if not self.change > -tolerance:
            raise ValueError(
                f"its mean IoU on {len(self.after.counts)} validation images is "
                f"{100 * self.after.mean_iou:.2f} instead of {100 * self.before.mean_iou:.2f}, "
                f"{-self.change:.2f} points less; --tolerance allows less than {tolerance:g}"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for the description of the file."""
        return {
            "split": SPLIT,
            "images": len(self.after.counts),
            "mean_iou_before": self.before.mean_iou,
            "mean_iou_after": self.after.mean_iou,
            "change_interval_points": None if self.interval is None else list(self.interval),
        }


def score(path: str, config: str | None, window: int | None = None) -> Score:
    """Score a checkpoint or an exported file on the validation images, as `evaluate.py` does.

    Args:
        path: The checkpoint or file.
        config: A config whose loaders replace the checkpoint's.
        window: Larger images are cut into windows of this size; None for none.

    Raises:
        ValueError: If there are no validation images, or one cannot be scored.
    """
    run = open_run(path, torch.device("cpu"), split=SPLIT, window=window, config_path=config)
    return Score(np.stack([counts for _, counts in sorted(_count(run).items())]))


def _count(run: EvaluationRun) -> dict[int, np.ndarray]:
    metrics = SegmentationMetrics(run.num_classes, run.data.ignore_index)
    failed: dict[int, str] = {}
    counts = {}
    for prediction in predictions(run, failed):
        metrics.reset()
        ids = predict_labels(prediction.logits[None], run.threshold).cpu()
        metrics.update(ids, prediction.labels[None])
        counts[prediction.index] = class_counts(metrics.confusion)
    left_out = {**run.data.loader.bad, **failed}
    if left_out or not counts:
        reason = next(iter(left_out.values()), "there is none")
        raise ValueError(f"not every validation image can be scored: {reason}")
    return counts
