"""How much memory some work takes, on a GPU or on the CPU."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import torch


def peak_memory(work: Callable[[], object], device: str = "cpu") -> float:
    """MiB that some work takes at its peak, on top of what the process holds before it.

    On the CPU that is what the system has had to give: a process that has held more before, and
    keeps it for itself, seems to need less. Measure in a new one.

    Returns:
        The number; NaN on the CPU of a system that does not tell (only Linux does).
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
    forget.write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 2**10


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
