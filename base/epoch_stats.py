"""What a training epoch adds up, and how fast it runs."""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from base.batches import EpochBatches
from utils.distributed.collectives import all_reduce_sum, is_main
from utils.metrics.confusion import SegmentationMetrics

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Speed(NamedTuple):
    """How fast a stretch of the training was."""

    images_per_second: float  # over all ranks
    data_wait: float  # the fraction of the time that was spent waiting for batches


class EpochStats:
    """The totals of a training epoch: those of this rank, or of all ranks once merged.

    Args:
        batches: The batches of the epoch.
        num_classes: K.
        ignore_index: The label of ignored pixels.
        device: Where the totals are.
    """

    def __init__(
        self, batches: EpochBatches, num_classes: int, ignore_index: int, device: torch.device
    ) -> None:
        self.batches = batches
        # Of the augmented images.
        self.metrics = SegmentationMetrics(num_classes, ignore_index, device=device)
        # The sum of the finite losses, the same on every rank.
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.overflows = 0  # steps that fp16 skipped because a gradient overflowed
        self.bad_steps = 0  # steps that were skipped because their loss was not finite
        self.merged = False  # whether `metrics` is that of all ranks

    def reset(self) -> None:
        """Begin a new epoch."""
        self.metrics.reset()
        self.loss_sum.zero_()
        self.overflows = self.bad_steps = 0
        self.merged = False

    def update(self, loss: Tensor, prediction: Tensor, labels: Tensor) -> None:
        """Add a step: its loss, the predicted classes and the labels, both (B, H, W)."""
        self.metrics.update(prediction, labels)
        self.loss_sum += loss

    def merge(self) -> None:
        """Add the confusion matrices of all ranks; a second call changes nothing."""
        if not self.merged:
            all_reduce_sum(self.metrics.counts)
            self.merged = True

    def summary(self, loss: Tensor, speed: Speed) -> dict[str, str]:
        """Return what a progress bar shows: the last loss, the mean IoU so far, the speed."""
        one_class = " (one class labelled)" * (self.metrics.labelled_classes() == 1)
        return {
            "loss": f"{loss.item():.3f}",
            f"mIoU{one_class}": f"{self.metrics.mean_iou().item():.3f}",
            "images/s": f"{speed.images_per_second:.1f}",
        }

    def compute(self) -> dict[str, Any]:
        """Return the mean `loss` over the steps with a finite one, and every metric."""
        return {
            "loss": self.loss_sum.item() / (len(self.batches) - self.bad_steps or math.nan),
            **self.metrics.compute(),
            "labelled_classes": self.metrics.labelled_classes(),
        }

    def report_skipped(self) -> None:
        """Log how many steps of the epoch were skipped, if any."""
        steps = len(self.batches)
        if self.overflows:
            logger.info(
                "fp16: %d of %d steps were skipped because their gradients overflowed; the loss "
                "scale is lowered until they fit",
                self.overflows,
                steps,
            )
        if self.bad_steps:
            logger.warning(
                "%d of %d steps were skipped because their loss was not finite",
                self.bad_steps,
                steps,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the totals of all ranks; before `merge()` every rank has to call this."""
        counts = self.metrics.counts.clone()
        return {
            "counts": (counts if self.merged else all_reduce_sum(counts)).cpu(),
            "loss_sum": self.loss_sum.item(),
            "overflows": self.overflows,
            "left_out": self.bad_steps,
            "batches": [len(self.batches), self.batches.batch_size],
        }

    def load_state_dict(self, state: Mapping[str, Any], batch: int) -> bool:
        """Take what `state_dict()` returned.

        Args:
            state: The totals of all ranks. Within an epoch the main rank takes all of the counts,
                and the others none.
            batch: The number of finished batches.

        Returns:
            False if the batches have changed since, so that the epoch has to begin anew.
        """
        self.reset()
        if state["batches"] != [len(self.batches), self.batches.batch_size]:
            logger.warning("the batches of an epoch have changed: the epoch begins anew")
            return False
        self.merged = batch == len(self.batches)
        if self.merged or is_main():
            self.metrics.counts.copy_(state["counts"])
        self.loss_sum.fill_(state["loss_sum"])
        self.overflows = state["overflows"]
        self.bad_steps = state["left_out"]
        return True


class TimedIterator(Iterator[T]):
    """Passes batches on and measures how fast they are used and how long they take to come.

    Args:
        items: The batches.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._waited = 0.0
        self.images = 0  # trained on so far; the caller adds them
        self._start = self._last = (time.perf_counter(), 0, 0.0)

    def __next__(self) -> T:
        started = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self._waited += time.perf_counter() - started

    def recent_speed(self) -> Speed:
        """Return the speed since the last call, or since the start."""
        since, self._last = self._last, (time.perf_counter(), self.images, self._waited)
        return self._speed(since)

    def mean_speed(self) -> Speed:
        """Return the speed since the start."""
        return self._speed(self._start)

    def _speed(self, since: tuple[float, int, float]) -> Speed:
        started, images, waited = since
        seconds = time.perf_counter() - started
        return Speed((self.images - images) / seconds, (self._waited - waited) / seconds)
