import cv2
import numpy as np
import pytest
import torch

from utils.out_of_memory import is_out_of_memory

MUCH = 2**46  # more than any address space has


@pytest.mark.parametrize(
    "work",
    [
        lambda: torch.empty(MUCH),
        lambda: torch.nn.functional.conv2d(
            torch.zeros(1).expand(1, 1, 2**22, 2**22), torch.ones(1, 1, 3, 3)
        ),
        lambda: np.empty(MUCH),
        lambda: cv2.resize(np.zeros((2, 2), np.uint8), (2**30, 2**30)),
        lambda: bytearray(MUCH),
    ],
    ids=["torch", "torch's convolution", "NumPy", "OpenCV", "Python"],
)
def test_feature_real_errors_are_known(work):
    with pytest.raises(Exception) as caught:
        work()
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough "
                     "memory: you tried to allocate 9000000000 bytes."),
        RuntimeError("unable to mmap 8192 bytes from file </torch_1>: Cannot allocate memory (12)"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17 GB, max allowed: 18 GB)"),
    ],
)  # fmt: skip
def test_feature_texts_are_known(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError("CUDA error: out of memory.jpg: cannot be read"),
        OSError(28, "No space left on device"),
        KeyboardInterrupt(),
    ],
)
def test_feature_other_errors_are_not(error):
    assert not is_out_of_memory(error)


@pytest.mark.gpu
def test_feature_a_real_error_of_a_gpu():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(MUCH, device="cuda")
    assert is_out_of_memory(caught.value)
