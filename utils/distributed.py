"""The few calls that differ on one or many processes.

One process is the usual case: then nothing here needs torch.distributed, and every call returns at
once. Processes exchange tensors only, never pickled objects.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from utils.launcher import is_launched, launched_rank

# A process that has died is noticed at once; this is for one that has come to a standstill.
PATIENCE = datetime.timedelta(minutes=30)

_whole_batch = False


def join_processes(device_type: str) -> None:
    """Meet the other processes, if there are any; to be called once.

    Args:
        device_type: `"cuda"` or `"cpu"`, where the tensors are that will be exchanged.
    """
    if is_launched() and not dist.is_initialized():
        # Tensors on the CPU are exchanged beside those on GPUs: what a file says, for one.
        backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)


def leave_processes() -> None:
    """Part from the others; to be called at the end, by all of them."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0 on."""
    return dist.get_rank() if dist.is_initialized() else launched_rank()


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and speaks to the user."""
    return rank() == 0


def add_up(tensor: Tensor) -> Tensor:
    """The sum of a tensor over the processes, in place; every process gets the same bits."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def from_main(text: str) -> str:
    """What the main process says; the others' own words do not matter."""
    if world_size() == 1:
        return text
    data = torch.tensor(list(text.encode()), dtype=torch.uint8)
    size = torch.tensor([len(data)])
    dist.broadcast(size, 0)
    if not is_main():
        data = torch.empty(int(size), dtype=torch.uint8)
    dist.broadcast(data, 0)
    return bytes(data.tolist()).decode()


def share_buffers(module: nn.Module) -> None:
    """Give every process the main one's buffers, such as the statistics of BatchNorm."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


@contextlib.contextmanager
def whole_batch() -> Iterator[None]:
    """Let `batch_sum()` and `batch_rows()` speak of the batch of all processes.

    Every process has to do the same inside, or they wait for each other forever.
    """
    global _whole_batch
    before, _whole_batch = _whole_batch, world_size() > 1
    try:
        yield
    finally:
        _whole_batch = before


def batch_sum(tensor: Tensor) -> Tensor:
    """A sum over this process's part of a batch becomes one over the whole batch.

    The value is the same on every process. The gradient is that of this process's part; summed over
    the processes, as the gradients of the weights are, it is that of the whole.
    """
    return _Sum.apply(tensor) if _whole_batch else tensor


def batch_rows(tensor: Tensor) -> Tensor:
    """The rows (N, ...) of all processes, one process after the other; gradients as `batch_sum()`.

    The processes may have different numbers of rows.
    """
    return _Rows.apply(tensor) if _whole_batch else tensor


def sum_of_all(tensor: Tensor) -> Tensor:
    """A sum that goes on differently in each process: the gradient is the sum of theirs."""
    return _SumOfAll.apply(tensor)


class _Sum(torch.autograd.Function):
    """All-reduce forward, nothing backward: every process does the same with the sum."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return add_up(tensor.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _SumOfAll(_Sum):
    """All-reduce forward and backward."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return add_up(gradients[0].clone())


class _Rows(torch.autograd.Function):
    """All-gather forward, the own rows backward."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        sizes = torch.zeros(world_size(), dtype=torch.int64, device=tensor.device)
        sizes[rank()] = len(tensor)
        counts = add_up(sizes).tolist()
        ctx.own = slice(sum(counts[: rank()]), sum(counts[: rank() + 1]))
        # Zeros for what the others have: a sum is the one exchange that takes any sizes.
        rows = tensor.new_zeros(sum(counts), *tensor.shape[1:])
        rows[ctx.own] = tensor
        whole = rows.to(torch.uint8) if tensor.dtype == torch.bool else rows
        return add_up(whole).to(tensor.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0][ctx.own]
