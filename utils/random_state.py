"""Seed, read and set every random generator."""

import enum
import os
import random
from typing import Any

import numpy as np
import torch


@enum.unique
class Stream(enum.IntEnum):
    """The first word of a random seed, which keeps what is drawn for one purpose from another."""

    SAMPLE = 1  # the augmentation of a sample
    ORDER = 2  # the order of an epoch
    SUBSTITUTE = 4  # samples in place of one that cannot be used
    STEP = 6  # dropout and dropped paths of a step


def seed_everything(seed: int, *, deterministic: bool = False) -> None:
    """Seed Python, NumPy and torch; optionally allow only deterministic kernels."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        # cuBLAS reads this when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not deterministic


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make what a step draws (dropout, dropped paths) a function of its number alone.

    So it does not matter what else has drawn before, or how often the run was resumed.
    """
    words = np.random.SeedSequence((Stream.STEP, seed, step, rank)).generate_state(2)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))


def get_random_state() -> dict[str, Any]:
    """Return the state of every generator, as tensors and plain data for a checkpoint."""
    version, numbers, gauss = random.getstate()
    numpy_state: Any = np.random.get_state()
    _, keys, position, has_gauss, cached = numpy_state
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what `get_random_state` returned; GPUs that are missing are skipped."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    for device, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda_state, device)
