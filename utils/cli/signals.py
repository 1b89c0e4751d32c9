"""End a run on a signal: at a step after which it can be resumed, and in time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

REQUEUE = 75  # EX_TEMPFAIL: try again later
GRACE_SECONDS = 9.0

# What the run exits with. Schedulers of clusters send SIGUSR1 ahead of the end of a job's time.
EXIT_CODES = {int(number): 128 + number for number in (signal.SIGTERM, signal.SIGINT)}
if hasattr(signal, "SIGUSR1"):
    EXIT_CODES[int(signal.SIGUSR1)] = REQUEUE
SIGNALS = tuple(EXIT_CODES)


def first_signal(came: Sequence[int]) -> int:
    """Return the first of `SIGNALS`, given how often each came; 0 if none did."""
    return next((number for number, times in zip(SIGNALS, came, strict=True) if times), 0)


def exit_ignoring_signals(code: int) -> NoReturn:
    """Exit with this code, whatever signals come meanwhile.

    Raises:
        SystemExit: Always.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(code)


@contextlib.contextmanager
def unwind_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program as an error would, so that temporary files are removed.

    The exit code is 143. Use it in the main thread; in any other one it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


class StopSignals:
    """Handlers of the signals that ask the program to end.

    Use as a context around the whole program, in the main thread. As long as there is nothing to
    save, a signal ends the program at once, with its own exit code. After `remember()` the first
    one is kept in `received`, for the training to stop at the next step.

    Args:
        said: Print a line when a signal comes before the run.
        grace: Seconds from the signal to the end. A process that waits for others, or is in the
            middle of a long step, cannot look at `received`; so the program ends after these
            seconds in any case. Files on the disk are complete at any time.
    """

    def __init__(self, *, said: bool = True, grace: float = GRACE_SECONDS) -> None:
        self.received = 0
        self.said = said
        self.grace = grace
        self._former: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        # The interpreter runs handlers between two of its instructions only, and then by their
        # numbers; but it writes the number of a signal into a socket at once.
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._former_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._former = {number: signal.signal(number, self._end) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_fd)
        self._writer.close()  # ends the thread
        self._reader.close()

    def remember(self) -> None:
        """Keep signals in `received` from now on, as there is something to save."""
        for number in SIGNALS:
            signal.signal(number, self._note)
        threading.Thread(target=self._watch, daemon=True).start()

    def _end(self, number: int, frame: FrameType | None) -> None:
        number = self._first(number)
        if self.said:
            os.write(2, f"\n{signal.Signals(number).name} before training began\n".encode())
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # in the middle of a print
            sys.stdout.flush()
        for process in multiprocessing.active_children():
            process.kill()
        # An exception would be lost where the interpreter lets none through, in `__del__` for one.
        os._exit(EXIT_CODES[number])

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or self._first(number)

    def _first(self, number: int) -> int:
        """Return the signal that came first, as far as that is known; else this one."""
        came = b""
        if select.select([self._reader], [], [], 0)[0]:
            came = self._reader.recv(4096, socket.MSG_PEEK)
        return next((other for other in came if other in EXIT_CODES), number)

    def _watch(self) -> None:
        try:
            while (data := self._reader.recv(1, socket.MSG_PEEK)) and data[0] not in EXIT_CODES:
                self._reader.recv(1)
        except OSError:
            return
        if data:
            time.sleep(self.grace)
            if self._writer.fileno() >= 0:  # the program still is in this context
                os.write(2, b"\nerror: no step ended in time to stop after it\n")
                os._exit(EXIT_CODES[data[0]])


@contextlib.contextmanager
def block_signals() -> Iterator[None]:
    """Hold back the signals that come while worker processes are started.

    A terminal or a cluster sends its signals to all processes of a job at once, and a main process
    whose workers are gone fails wherever it is. What is started here, a server that forks others
    too, gets none until `ignore_signals_in_worker`; the main process gets them afterwards.
    """
    came: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    handlers, mask = {}, None
    if main:  # in which Python runs the handler even if another thread got the signal
        handlers = {
            number: signal.signal(number, lambda number, frame: came.append(number))
            for number in SIGNALS
        }
    if hasattr(signal, "pthread_sigmask"):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            if handler is not None:  # one that another language has set cannot be put back
                signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def ignore_signals_in_worker() -> None:
    """Ignore signals in a worker, so that the main process can first end its step."""
    signal.set_wakeup_fd(-1)  # what comes here is not for the main one
    for number in SIGNALS:
        signal.signal(number, _end_later if number == signal.SIGTERM else signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _end_later(number: int, frame: FrameType | None) -> None:
    # Also with this signal the main process ends one that hangs.
    timer = threading.Timer(GRACE_SECONDS + 1, os._exit, [EXIT_CODES[number]])
    timer.daemon = True
    timer.start()
