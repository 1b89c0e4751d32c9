"""Collectives that do nothing in one process.

One process is the usual case: then nothing here needs torch.distributed, and every call returns at
once. Ranks exchange tensors only, never pickled objects.
"""

import contextlib
import datetime
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from utils.cli.launcher import end_with_launcher, is_launched, launched_rank
from utils.cli.signals import SIGNALS, first_signal
from utils.distributed.rendezvous import fresh_namespace

# A process that has died is noticed at once; this is for one that has come to a standstill.
PATIENCE = datetime.timedelta(minutes=30)
# Until all have come; the first may be minutes ahead where files are far away.
MEETING_TIME = datetime.timedelta(minutes=10)
# Where each rank works on its own files, one may finish long before another.
PATIENCE_FOR_SHARES = datetime.timedelta(days=7)

_whole_batch = False


def init_process_group(device_type: str, patience: datetime.timedelta = PATIENCE) -> None:
    """Initialise torch.distributed if there are other processes; to be called once."""
    if is_launched() and not dist.is_initialized():
        # Collectives of tensors on the CPU, too: texts, for one.
        backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
        store, own_rank, size = next(dist.rendezvous("env://", timeout=MEETING_TIME))
        if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)):
            store = fresh_namespace(store, own_rank, size, MEETING_TIME)
        end_with_launcher()
        dist.init_process_group(
            backend, store=store, rank=own_rank, world_size=size, timeout=patience
        )


def destroy_process_group() -> None:
    """Destroy the process group; every rank calls this at the end."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_peer_failure(error: BaseException) -> bool:
    """Return whether an error says that another process has ended during a collective."""
    kinds = (dist.DistBackendError, dist.DistNetworkError)
    return world_size() > 1 and (isinstance(error, kinds) or "/gloo/" in str(error))


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else launched_rank()


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Return whether this is rank 0, which writes files and prints."""
    return rank() == 0


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum a tensor over the ranks, in place; return it. Every rank gets the same bits."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def any_signal(own: int) -> int:
    """Return the signal that ends any process, 0 if none does; all of them have to call this."""
    received = torch.tensor([own == number for number in SIGNALS])
    return first_signal(all_reduce_sum(received.long()).tolist())


def all_gather_text(text: str) -> list[str]:
    """Return the text of each rank, by rank."""
    if world_size() == 1:
        return [text]
    words = text.encode(errors="surrogatepass")  # a file's name may be no text
    data = torch.frombuffer(bytearray(words), dtype=torch.uint8) if words else torch.empty(0).byte()
    rows, counts = _gather(data)
    return [part.numpy().tobytes().decode(errors="surrogatepass") for part in rows.split(counts)]


def broadcast_text(text: str) -> str:
    """Return the text of the main rank; what the others pass does not matter."""
    return all_gather_text(text if is_main() else "")[0]


def all_gather_json(data: Any) -> list[Any]:
    """Return the plain data of each rank, by rank; floats keep every bit, tuples become lists."""
    return [json.loads(text) for text in all_gather_text(json.dumps(data))]


def run_on_main_and_broadcast(find: Callable[[], Any], fault: type[ValueError]) -> Any:
    """Call a function on the main rank; return its result on every rank.

    Args:
        find: Returns plain data, as for `all_gather_json()`.
        fault: What it may raise; every process raises it then.
    """
    if world_size() == 1:
        return find()
    answer = {}
    if is_main():
        try:
            answer["found"] = find()
        except fault as error:
            answer["fault"] = str(error)
    answer = json.loads(broadcast_text(json.dumps(answer)))
    if "fault" in answer:
        raise fault(answer["fault"])
    return answer["found"]


def all_gather_rows(tensor: Tensor) -> Tensor:
    """Return the rows (N, ...) of all ranks, rank after rank; without gradients.

    The ranks may have different numbers of rows.
    """
    return _gather(tensor)[0] if world_size() > 1 else tensor


def broadcast_buffers(module: nn.Module) -> None:
    """Give every rank the main one's buffers, such as the statistics of BatchNorm."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


@contextlib.contextmanager
def whole_batch() -> Iterator[None]:
    """Let `batch_sum()` and `batch_rows()` work on the batch of all ranks.

    Every rank has to do the same inside, or they wait for each other forever.
    """
    global _whole_batch
    before, _whole_batch = _whole_batch, world_size() > 1
    try:
        yield
    finally:
        _whole_batch = before


def batch_sum(tensor: Tensor) -> Tensor:
    """Make a sum over this rank's images one over the whole batch.

    The value is the same on every rank. The gradient is that of this rank's images; summed over the
    ranks, as the gradients of the weights are, it is that of the whole batch.
    """
    return _Sum.apply(tensor) if _whole_batch else tensor


def batch_rows(tensor: Tensor) -> Tensor:
    """Return the rows (N, ...) of all ranks, rank after rank; gradients as in `batch_sum()`.

    The ranks may have different numbers of rows.
    """
    return _Rows.apply(tensor) if _whole_batch else tensor


def sum_of_all(tensor: Tensor) -> Tensor:
    """Return a sum that each rank uses differently: the gradient is the sum of theirs."""
    return _SumOfAll.apply(tensor)


class _Sum(torch.autograd.Function):
    """All-reduce forward, nothing backward: every rank does the same with the sum."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return all_reduce_sum(tensor.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _SumOfAll(_Sum):
    """All-reduce forward and backward."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return all_reduce_sum(gradients[0].clone())


class _Rows(torch.autograd.Function):
    """All-gather forward, the own rows backward."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        rows, counts = _gather(tensor)
        ctx.own = slice(sum(counts[: rank()]), sum(counts[: rank() + 1]))
        return rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0][ctx.own]


def _gather(tensor: Tensor) -> tuple[Tensor, list[int]]:
    """Return the rows (N, ...) of all ranks in one tensor, and how many each has."""
    sizes = torch.zeros(world_size(), dtype=torch.int64, device=tensor.device)
    sizes[rank()] = len(tensor)
    counts = all_reduce_sum(sizes).tolist()
    # Zeros for what the others have: a sum is the one collective that takes any sizes.
    rows = tensor.new_zeros(sum(counts), *tensor.shape[1:])
    rows[sum(counts[: rank()]) : sum(counts[: rank() + 1])] = tensor
    whole = rows.to(torch.uint8) if tensor.dtype == torch.bool else rows
    return all_reduce_sum(whole).to(tensor.dtype), counts
