"""Work on items in other threads, with the results in the order of the items."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    pool: Executor, work: Callable[[T], R], items: Iterable[T], waiting: int
) -> Iterator[R]:
    """Yield the result of each item, of which a few more are in work meanwhile.

    Args:
        pool: Has the threads.
        work: Makes a result of an item.
        items: The items.
        waiting: How many results may wait until they are taken.
    """
    ahead: collections.deque[Future[R]] = collections.deque()
    for item in items:
        ahead.append(pool.submit(work, item))
        if len(ahead) > waiting:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()
