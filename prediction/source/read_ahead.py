"""Items that another thread makes while the last ones are in work."""

import collections
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Hands on what is made in another thread, in order; used as a context.

    Args:
        items: What is made, in that thread.
        count: How many may wait.
        newest: Whether the oldest that wait are dropped for newer ones, as from a camera, which
            does not wait. Otherwise the thread waits.
    """

    def __init__(self, items: Iterable[T], count: int, *, newest: bool = False) -> None:
        self.dropped = 0
        self._items, self._count, self._newest = items, count, newest
        self._waiting: collections.deque[T] = collections.deque()
        self._changed = threading.Condition()
        self._is_closed = self._has_ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._make, daemon=True)

    def __enter__(self) -> "ReadAhead[T]":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._has_ended)
                if not self._waiting:
                    break
                item = self._waiting.popleft()
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error

    def _make(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _put(self, item: T) -> bool:
        """Let an item wait; return False once nobody takes any."""
        with self._changed:
            if self._newest:
                while len(self._waiting) >= self._count:
                    self._waiting.popleft()
                    self.dropped += 1
            self._changed.wait_for(lambda: len(self._waiting) < self._count or self._is_closed)
            if self._is_closed:
                return False
            self._waiting.append(item)
            self._changed.notify_all()
            return True
