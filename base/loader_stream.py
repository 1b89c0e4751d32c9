"""Items from worker processes, and the error when one of them dies."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeVar

from torch.utils.data import DataLoader

from utils.cli.signals import block_signals

T = TypeVar("T")

# How torch says that there is no room for a file of shared memory.
_NO_SHARED_MEMORY = ("shared memory(shm)", "</torch_")
_BUS_ERROR = -7  # the exit code of a process for which there was none when it wrote

_SETTLING_SECONDS = 2.0


class WorkerError(RuntimeError):
    """A process that loads images has ended."""


class LoaderStream(Generic[T]):
    """The items of a torch `DataLoader`.

    Args:
        loader: Its processes are started, or told to begin anew.

    Raises:
        WorkerError: If a process that loads has ended, here or at an item.
    """

    def __init__(self, loader: DataLoader[T]) -> None:
        self._workers: list[BaseProcess] = []
        # torch would end the program wherever it is when a process dies, at its exit, too.
        with _handler_kept(), block_signals(), self._explained():
            self._items = iter(loader)
        self._workers = getattr(self._items, "_workers", [])

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if lost := self._lost():
            raise self._error(lost)
        try:
            with self._explained():
                return next(self._items)
        except StopIteration:
            raise
        except BaseException:
            end_workers(self._items)
            raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
            # A process may die while it hands over an item, and the system takes its time to say.
            lost = self._lost()
            patience = time.monotonic() + (0 if "Caught" in str(error) else _SETTLING_SECONDS)
            while lost is None and self._workers and time.monotonic() < patience:
                time.sleep(0.05)
                lost = self._lost()
            if any(sign in str(error) for sign in _NO_SHARED_MEMORY):
                raise self._no_shared_memory() from None
            if lost is None:
                raise
            raise self._error(lost) from None

    def _lost(self) -> BaseProcess | None:
        return next((worker for worker in self._workers if not worker.is_alive()), None)

    def _error(self, lost: BaseProcess) -> WorkerError:
        code = lost.exitcode or 0
        if code == _BUS_ERROR:
            return self._no_shared_memory()
        self._remove_shared_memory()
        if code == -signal.SIGKILL:
            return WorkerError(
                "a process that loads images was killed, as a rule because memory ran out; use "
                "fewer num_workers or a smaller cache_gb"
            )
        how = f"with {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return WorkerError(
            f"a process that loads images has ended {how}; python check.py, or num_workers: 0, "
            "shows at which image"
        )

    def _no_shared_memory(self) -> WorkerError:
        self._remove_shared_memory()
        return WorkerError(
            "shared memory (/dev/shm) is too small for the batches that the processes hand over; "
            "in Docker use --shm-size=8g or --ipc=host, elsewhere num_workers: 0, which needs none"
        )

    def _remove_shared_memory(self) -> None:
        """Delete what processes have left that failed while they handed over an item."""
        for worker in self._workers:
            for path in Path("/dev/shm").glob(f"torch_{worker.pid}_*"):
                path.unlink(missing_ok=True)


def end_workers(items: object) -> None:
    """End the processes of a `DataLoader`'s iterator, if it has any.

    After an error they would live as long as its traceback, and the program would wait at its exit
    until they see that it has ended, ten seconds.
    """
    shut_down = getattr(items, "_shutdown_workers", None)
    if shut_down is not None:
        shut_down()


@contextlib.contextmanager
def _handler_kept() -> Iterator[None]:
    number = getattr(signal, "SIGCHLD", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.getsignal(number)
    try:
        yield
    finally:
        if former is not None:  # one that another language has set cannot be put back
            signal.signal(number, former)
