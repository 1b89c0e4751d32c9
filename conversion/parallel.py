"""The same work on many files, on all cores; one that fails is named and skipped."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from utils.progress import complain, track

Item = TypeVar("Item")
Result = TypeVar("Result")

POOL_FROM = 256  # files; fewer are done before the processes have started


def run_each(
    function: Callable[[Item], Result], items: Mapping[str, Item], *, processes: int | None = None
) -> dict[str, Result]:
    """Call a function on every item; name those that fail on stderr, and go on.

    Args:
        function: A mistake in an input is its ValueError or OSError. Pickled, as the items are.
        items: By the name that messages use.
        processes: How many; None: all cores, where that pays.

    Returns:
        Name -> result of those that did not fail, in the order of the items.

    Raises:
        ValueError: If a process was ended from outside.
    """
    results = {}
    if processes is None:
        processes = _cores() if len(items) >= POOL_FROM else 1
    outcomes = _outcomes(functools.partial(_attempt, function), list(items.values()), processes)
    bar = track(outcomes, total=len(items), unit="file")
    for name, (result, reason) in zip(items, bar, strict=True):
        if result is None:
            complain(f"skipped {name}: {reason.removeprefix(f'{name}: ')}")
        else:
            results[name] = result
    return results


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _attempt(function: Callable[[Item], Result], item: Item) -> tuple[Result | None, str]:
    """The result, or why there is none: an exception may not survive the way between processes."""
    try:
        return function(item), ""
    except MemoryError:
        return None, "does not fit into memory"
    except (ValueError, OSError) as error:
        return None, str(error).strip().partition("\n")[0] or type(error).__name__


def _outcomes(
    attempt: Callable[[Item], tuple[Result | None, str]], items: Sequence[Item], processes: int
) -> Iterator[tuple[Result | None, str]]:
    """What `attempt` gives for each item, in order."""
    if processes == 1:
        yield from map(attempt, items)
        return
    # Forked, a process would inherit locks that OpenCV's threads hold.
    context = multiprocessing.get_context("spawn")
    # Only this process answers Ctrl-C; the others would each print a traceback.
    with ProcessPoolExecutor(
        processes, context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        try:
            yield from pool.map(attempt, items, chunksize=8)
        except BrokenProcessPool:
            raise ValueError(
                "a process was ended from outside, as a rule for want of memory; close other "
                "programs and start again"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
