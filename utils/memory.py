"""How much memory there is, how much this process has, and how much a piece of work takes."""

import contextlib
import ctypes
import re
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

# Limit and usage: https://docs.kernel.org/admin-guide/cgroup-v2.html, and version 1.
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
          "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}  # fmt: skip


def free_memory() -> int:
    """Return the bytes that can be allocated without swapping, within a container's limit."""
    free = psutil.virtual_memory().available
    for limit, used in CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # no such limit
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(free, 0)


def resident_memory() -> int:
    """Return the bytes of this process that are in memory."""
    return int(psutil.Process().memory_info().rss)


def parse_bytes(text: str) -> int:
    """Return the number of bytes of `2GB`, `512MiB` or `1500000`; a letter alone will do.

    Raises:
        ValueError: If it is no such size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?\s*", text.upper())
    if found is None or not float(found[1]):
        raise ValueError(f"{text!r} is not a size; expected a number of bytes such as 2GB or 512MB")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def return_unused() -> None:
    """Give memory back to the system that the C library keeps for later, where it can be asked."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_little_unused() -> None:
    """Let the C library keep less freed memory for later from now on, where it is glibc.

    By default each thread has an arena of its own, whose holes nobody else can fill, and arrays of
    up to 32 MB leave such holes once one of that size has been freed.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        # https://man7.org/linux/man-pages/man3/mallopt.3.html
        library.mallopt(_M_ARENA_MAX, 1)
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def peak_of(work: Callable[[], object]) -> int:
    """Return how many bytes more than before this process had in memory during `work()`."""
    return_unused()
    before = resident_memory()
    if _reset_peak():
        work()
        return max(0, _peak() - before)
    with _Sampler() as sampler:
        work()
    return max(0, sampler.peak - before)


def _reset_peak() -> bool:
    """Let Linux measure the peak anew; False where there is no such thing."""
    try:
        # https://docs.kernel.org/filesystems/proc.html: 5 resets the peak to what is used now.
        Path("/proc/self/clear_refs").write_text("5")
        return _peak() < 2 * resident_memory()
    except (OSError, LookupError):
        return False


def _peak() -> int:
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise LookupError("the system does not tell the peak")
    return int(found[1]) * 1024


class _Sampler:
    """Looks at the memory every few milliseconds, where the system keeps no peak."""

    def __init__(self) -> None:
        self.peak = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._end.wait(0.002):
            self.peak = max(self.peak, resident_memory())

    def __enter__(self) -> "_Sampler":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()
        self.peak = max(self.peak, resident_memory())
