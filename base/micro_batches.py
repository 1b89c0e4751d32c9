"""How a batch is split over ranks and micro-batches."""

import itertools
import logging
from typing import Any

import torch
from torch import Tensor

from base.base_trainer import TrainingError
from utils.distributed.collectives import rank, world_size

logger = logging.getLogger(__name__)


class MicroBatches:
    """Splits each batch into micro-batches, smaller ones after memory has run out.

    Args:
        batch_size: Images of a whole step, over all ranks.
        accumulation_steps: Micro-batches of a step.
    """

    def __init__(self, batch_size: int, accumulation_steps: int) -> None:
        self.batch_size = batch_size
        self.accumulation_steps = accumulation_steps
        self.size = batch_size // accumulation_steps  # of a micro-batch, over all ranks

    def split(self, batch_size: int) -> list[slice]:
        """Return which of this rank's images each micro-batch of a batch has."""
        return [rank_slice(rows) for rows in micro_batches(batch_size, self.size)]

    def halve(self, where: str) -> None:
        """Make micro-batches half as large from now on; `where` is the epoch and the step.

        Raises:
            TrainingError: If several ranks train, or a micro-batch is one image already.
        """
        message = f"out of memory in {where}"
        if world_size() > 1:
            # The others wait for this one in the middle of the step.
            raise TrainingError(
                f"{message}; use more trainer.accumulation_steps (now {self.accumulation_steps}), "
                "a smaller crop_size, or amp"
            )
        if self.size == 1:
            raise TrainingError(f"{message}, even for one image; use a smaller crop_size, or amp")
        self.size = -(-self.size // 2)
        logger.warning(
            "%s: from now on each batch is split into micro-batches of %d; "
            "trainer.accumulation_steps: %d splits it from the start",
            message,
            self.size,
            -(-self.batch_size // self.size),
        )


def micro_batches(batch_size: int, size: int) -> list[slice]:
    """Split a batch into as few micro-batches of at most `size` images, of nearly one size.

    A micro-batch of one image, on which BatchNorm may fail, is avoided by making another one
    larger by one, unless `size` is 1.
    """
    count = -(-batch_size // size)
    if size > 1:
        count = max(1, min(count, batch_size // 2))
    bounds = [batch_size * index // count for index in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


def rank_slice(rows: slice) -> slice:
    """Return what this rank has of a slice of the whole batch: every n-th image is its own."""
    first, last = (-(-(index - rank()) // world_size()) for index in (rows.start, rows.stop))
    return slice(first, last)


class AsyncHostCopy:
    """A non-blocking copy from the device to the host; the device goes on working.

    Args:
        tensor: (N,) of any type.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event = None
        self._host = tensor
        if tensor.device.type == "cuda":
            self._host = torch.empty_like(tensor, device="cpu", pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> list[Any]:
        """Return the numbers; wait only for the work that the device was given before the copy."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.tolist()
