"""A lock: one program at a time writes into a run folder."""

from __future__ import annotations

import contextlib
import datetime
import errno
import logging
import os
import re
import socket
import stat
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = "run.lock"
# A program that is about to end, or has just begun, gets a moment to do so.
TRIES = 5
SECONDS_BETWEEN = 0.1

logger = logging.getLogger(__name__)

_held: set[tuple[int, int]] = set()  # device and inode of the lock files of this process


class RunLock:
    """Hold a run folder until the context ends: no second program writes into it meanwhile.

    The file `run.lock` in the folder is locked with a POSIX record lock. Such a lock belongs to one
    process (processes that load are forked and do not inherit it), the kernel releases it when the
    process dies, however it dies, and NFS supports it. It is also released when the process closes
    any descriptor of the file, so nothing else in the program may open it. The file itself stays:
    whoever removed it could remove the one that another program has just locked.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._file = (0, 0)

    def take(self, run: Path, *, only_if_there: bool = False) -> None:
        """Lock a run folder. Where the platform or file system has no locks, log a warning.

        Args:
            run: The folder.
            only_if_there: Make no lock file in a folder without one, as it is no run's.

        Raises:
            ValueError: If another program holds it; the message names its process and machine.
            OSError: If the lock file cannot be opened.
        """
        path = run / LOCK_FILE
        if only_if_there and not os.path.lexists(path):
            return
        with contextlib.suppress(OSError):
            found = os.stat(path, follow_symlinks=False)
            if (found.st_dev, found.st_ino) in _held:  # to open it would release that lock
                raise ValueError(_refusal(run, f"process {os.getpid()}\nmachine {_host()}\n"))
        if fcntl is None:
            _warn(run, "this platform has no record locks")
            return
        descriptor = _open(path)
        try:
            locked = _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            _warn(run, error.strerror or str(error))
            return
        if not locked:
            text = os.pread(descriptor, 1000, 0).decode(errors="replace")
            os.close(descriptor)
            raise ValueError(_refusal(run, text))
        found = os.fstat(descriptor)
        self._descriptor, self._file = descriptor, (found.st_dev, found.st_ino)
        _held.add(self._file)
        since = datetime.datetime.now().isoformat(" ", "seconds")
        text = f"process {os.getpid()}\nmachine {_host()}\nsince {since}\n"
        with contextlib.suppress(OSError):  # on a full disk the lock still holds
            os.pwrite(descriptor, text.encode(), 0)
            os.ftruncate(descriptor, len(text.encode()))

    def release(self) -> None:
        """Release the folder."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)  # the next refusal must not name this process
        _held.discard(self._file)
        os.close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _open(path: Path) -> int:
    """Open the lock file, or make it; never follow a link in its place."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "is a link; remove it", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a file; remove it", str(path))
    return descriptor


def _lock(descriptor: int) -> bool:
    """Lock a file; return False if another process holds it.

    Raises:
        OSError: If there are no locks here.
    """
    for attempt in range(TRIES):
        if attempt:
            time.sleep(SECONDS_BETWEEN)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
    return False


def _warn(run: Path, reason: str) -> None:
    logger.warning(
        "%s cannot be locked (%s), so a second program could write into it: start no other one "
        "that does until this one has ended",
        run,
        reason,
    )


def _refusal(run: Path, text: str) -> str:
    """Describe who holds a run folder, and what to do."""
    found = re.match(r"process ([1-9]\d{0,9})\nmachine ([\w.-]{1,255})\n(since [\d :-]+\n)?", text)
    if found is None or (found[2] == _host() and not _lives(int(found[1]))):
        return f"{run}: another process is using this run folder; wait until it has ended"
    number, host, since = found.groups()
    began = f" ({since.strip()})" if since else ""
    where = gone = ""
    if host != _host():
        where = f" on {host}"
        # A file server may keep the lock of a machine that has lost its power.
        gone = f", or remove {run / LOCK_FILE} if {host} is switched off"
    return (
        f"{run}: process {number} on {host} is using this run folder{began}; wait until it has "
        f"ended, or end it with `kill {number}`{where} (`kill -9 {number}` if it hangs){gone}"
    )


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    return True


def _host() -> str:
    return socket.gethostname()
