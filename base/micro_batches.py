"""How a batch is divided over processes and accumulation steps."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from utils.distributed.collectives import rank, world_size


def micro_batches(batch_size: int, part_size: int) -> list[slice]:
    """A batch in as few parts as can be, of as nearly one size, none larger than `part_size`.

    Only where a part of one picture would be left, on which BatchNorm may fail, a part is larger
    by one.
    """
    count = -(-batch_size // part_size)
    if part_size > 1:
        count = max(1, min(count, batch_size // 2))
    bounds = [batch_size * place // count for place in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


def rank_slice(part: slice) -> slice:
    """Of a part of the whole batch, what this process has: every n-th picture is its own."""
    first, last = (-(-(place - rank()) // world_size()) for place in (part.start, part.stop))
    return slice(first, last)


class AsyncHostCopy:
    """Numbers that leave the device while it goes on working.

    Args:
        tensor: (N,) of any type.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event = None
        self._numbers = tensor
        if tensor.device.type == "cuda":
            self._numbers = torch.empty_like(tensor, device="cpu", pin_memory=True)
            self._numbers.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> list[Any]:
        """The numbers; waits for no more than what the device had to do before."""
        if self._event is not None:
            self._event.synchronize()
        return self._numbers.tolist()
