"""Peak memory of some work, on a GPU or on the CPU."""

import gc
from collections.abc import Callable
from pathlib import Path

import torch


def peak_memory(work: Callable[[], object], device: str = "cpu") -> float:
    """Return the peak memory of some work in MiB, beyond what the process has before it.

    On the CPU that is resident memory: a process that had more before, and has not returned it,
    seems to need less. Measure in a new process.

    Returns:
        The number; NaN on the CPU of a system that does not report it (only Linux does).
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    forget = Path("/proc/self/clear_refs")
    if not forget.exists():
        return float("nan")
    forget.write_text("5")  # resets the peak
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 2**10


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
