import weakref
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from utils.out_of_memory import is_out_of_memory, none_if_out_of_memory, with_cpu_fallback

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
        RuntimeError("could not create a primitive"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17 GB, max allowed: 18 GB)"),
    ],
)  # fmt: skip
def test_feature_texts_are_known(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        RuntimeError("could not create a primitive descriptor for a convolution"),
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError("CUDA error: out of memory.jpg: cannot be read"),
        OSError(28, "No space left on device"),
        KeyboardInterrupt(),
    ],
)
def test_feature_other_errors_are_not(error):
    assert not is_out_of_memory(error)


def test_feature_what_has_no_room_is_none_and_frees_its_tensors():
    held = []

    def work(size):
        tensor = torch.ones(4)
        held.append(weakref.ref(tensor))
        return torch.empty(size) * tensor

    assert none_if_out_of_memory(work, MUCH) is None
    assert held[0]() is None
    assert none_if_out_of_memory(work, 4).shape == (4,)
    with pytest.raises(RuntimeError, match="size"):
        none_if_out_of_memory(work, 5)


def test_feature_the_machines_memory_is_the_second_choice():
    """Stands in for a tensor of an accelerator."""
    far = SimpleNamespace(device=torch.device("cuda"), cpu=lambda: torch.ones(2))

    def work(tensor):
        if tensor is far:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return tensor + 1

    assert with_cpu_fallback(work, far).tolist() == [2, 2]
    assert with_cpu_fallback(lambda tensor: "there", far) == "there"
    with pytest.raises(ZeroDivisionError):
        with_cpu_fallback(lambda tensor: 1 / 0, far)


@pytest.mark.gpu
def test_feature_what_a_gpu_has_no_room_for_is_done_in_the_machines_memory():
    def work(tensor):
        if tensor.device.type != "cpu":
            torch.empty(MUCH, device=tensor.device)
        return tensor + 1

    assert with_cpu_fallback(work, torch.ones(2, device="cuda")).device.type == "cpu"
    with pytest.raises(TypeError):
        with_cpu_fallback(lambda tensor: tensor + "a", torch.ones(2, device="cuda"))
