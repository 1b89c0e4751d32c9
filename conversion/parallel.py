"""The same work on many files, on all cores; a file that fails is named and skipped."""

import functools
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from utils.cli.launcher import usable_cores
from utils.cli.sanitize import first_line
from utils.progress import complain, track

Item = TypeVar("Item")
Result = TypeVar("Result")

POOL_FROM = 256  # files; fewer are done before processes would have started


def run_each(
    function: Callable[[Item], Result], items: Mapping[str, Item], *, processes: int | None = None
) -> dict[str, Result]:
    """Call a function on every item; name on stderr those that fail, and go on.

    Args:
        function: Raises ValueError or OSError for a broken input. Pickled, as are the items.
        items: By their names in messages.
        processes: Their number; None: all cores, where that pays.

    Returns:
        Name -> result of the items that did not fail, in their order.

    Raises:
        ValueError: If a process was killed.
    """
    results = {}
    if processes is None:
        processes = usable_cores() if len(items) >= POOL_FROM else 1
    outcomes = _outcomes(functools.partial(_attempt, function), list(items.values()), processes)
    bar = track(outcomes, total=len(items), unit="file")
    for name, (result, reason) in zip(items, bar, strict=True):
        if result is None:
            complain(f"skipped {name}: {reason.removeprefix(f'{name}: ')}")
        else:
            results[name] = result
    return results


def _attempt(function: Callable[[Item], Result], item: Item) -> tuple[Result | None, str]:
    """Return the result, or the reason for none: not every exception can be pickled."""
    try:
        return function(item), ""
    except MemoryError:
        return None, "does not fit in memory"
    except (ValueError, OSError) as error:
        return None, first_line(error)


def _outcomes(
    attempt: Callable[[Item], tuple[Result | None, str]], items: Sequence[Item], processes: int
) -> Iterator[tuple[Result | None, str]]:
    """Yield the outcome of each item, in order."""
    if processes == 1:
        yield from map(attempt, items)
        return
    # A forked process would inherit locks that OpenCV's threads hold.
    context = multiprocessing.get_context("spawn")
    # Only this process handles Ctrl-C; each of the others would print a traceback.
    with ProcessPoolExecutor(
        processes, context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        try:
            yield from pool.map(attempt, items, chunksize=8)
        except BrokenProcessPool:
            raise ValueError(
                "a process was killed, usually because memory ran out; close other programs and "
                "start again"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
