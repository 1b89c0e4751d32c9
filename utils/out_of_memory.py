"""Recognise errors of too little memory, and work around them."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import TypeVar

import cv2
import torch
from torch import Tensor

T = TypeVar("T")

# What else than torch.OutOfMemoryError says it: a driver, a library of NVIDIA's, a processor's
# allocator on Linux and on Windows, shared memory, a GPU of Apple's.
_SIGNS = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "Cannot allocate memory",
    "backend out of memory",
    "Insufficient memory",
    "could not create a primitive\n",  # oneDNN; of what it cannot do it says more
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a GPU or the machine is out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # Of other kinds of errors the text may be a file's name.
    return isinstance(error, (RuntimeError, cv2.error)) and any(
        sign in f"{error}\n" for sign in _SIGNS
    )


def free_unused() -> None:
    """Give back what torch keeps of a GPU's memory; after the `except` block, not in it.

    As long as that lasts, the error's traceback keeps the tensors of the work that has failed.
    """
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def none_if_out_of_memory(work: Callable[..., T], *args: object) -> T | None:
    """Return `work(*args)`; None, with all of its memory freed, where memory was too small."""
    try:
        return work(*args)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    free_unused()
    return None


@contextlib.contextmanager
def out_of_memory_raises(kind: type[RuntimeError], message: str) -> Iterator[None]:
    """Raise another error where memory runs out in work that cannot begin again."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise kind(message) from None


def with_cpu_fallback(work: Callable[[Tensor], T], tensor: Tensor) -> T:
    """Return `work(tensor)`, computed on the CPU if the device's memory is too small."""
    if tensor.device.type == "cpu":
        return work(tensor)
    try:
        return work(tensor)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    free_unused()
    return work(tensor.cpu())
