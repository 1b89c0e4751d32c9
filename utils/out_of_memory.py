"""Tells that memory has run out from every other fault."""

from __future__ import annotations

import errno

import cv2
import torch

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
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, of a GPU or of the machine.

    To free what the failed work has taken, let the `except` block end first: the traceback holds
    its tensors.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # Of other kinds of errors the text may be a file's name.
    return isinstance(error, (RuntimeError, cv2.error)) and any(
        sign in str(error) for sign in _SIGNS
    )
