"""What is known of the images of a run: kept as each is finished, merged when the run ends."""

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Entry = dict[str, Any]


class Place(NamedTuple):
    """Where an entry lies."""

    path: Path  # the journal
    offset: int  # the first byte of its line
    time: int  # when it was made, in nanoseconds

    def read(self) -> Entry:
        """Return the entry."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return json.loads(file.readline())


class Journal:
    """Entries of images, one JSON line each, in files beside the file that is made of them.

    Each process writes into a file of its own, `<file>.<random>.journal`. Whoever merges takes the
    files of all processes: it renames them first. A process whose file is taken goes on with a new
    one, and repeats the line that it has just written if that may have come too late. So nothing is
    lost when processes end at different times or are killed; a line that is there twice is merged
    once.

    Args:
        target: The file that is made of the entries.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    def append(self, key: str, entry: Entry) -> None:
        """Write the entry of an image, so that it outlasts a loss of power.

        Raises:
            OSError: If it cannot be written.
        """
        # Letters beyond ASCII are escaped: names of files may be no valid text.
        line = json.dumps({"key": key, "time": time.time_ns(), **entry}).encode() + b"\n"
        while True:
            self._write(line)
            if self._is_there():
                break
            self._close()

    def waiting(self) -> dict[str, Place]:
        """Return where the newest entry of each key lies that is not merged yet, of all processes.

        While other processes merge, an entry may be gone before it is read.
        """
        return _newest((*self._files(".journal"), *self._files(".merging")))

    @contextlib.contextmanager
    def merge(self) -> Iterator[dict[str, Place]]:
        """Hand out where the newest entry of each key lies; one process at a time.

        When the context ends without an error, the entries are removed; otherwise they stay for
        the next time.

        Raises:
            OSError: If they cannot be read.
        """
        self._close()
        with _locked(self._target.with_name(f".{self._target.name}.lock")):
            for path in self._files(".journal"):
                os.replace(path, path.with_suffix(".merging"))
            taken = self._files(".merging")
            yield _newest(taken)
            for path in taken:
                path.unlink(missing_ok=True)

    def _files(self, suffix: str) -> list[Path]:
        start = f"{self._target.name}."
        names = sorted(os.listdir(self._target.parent)) if self._target.parent.is_dir() else []
        return [
            self._target.with_name(name)
            for name in names
            if name.startswith(start) and name.endswith(suffix)
        ]

    def _write(self, line: bytes) -> None:
        if self._file is None:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            name = f"{self._target.name}.{uuid.uuid4().hex[:12]}.journal"
            self._path = self._target.with_name(name)
            self._file = open(self._path, "xb")  # noqa: SIM115
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            self._close()  # what follows half a line would be lost with it
            raise

    def _is_there(self) -> bool:
        """Return whether the file still has its name, and so is not being merged."""
        assert self._path is not None
        return self._path.exists()

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # after a failure there may be more to write
                self._file.close()
            self._file = None


def _newest(paths: Iterable[Path]) -> dict[str, Place]:
    newest: dict[str, Place] = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # just merged
            for key, place in _read(path):
                if key not in newest or newest[key].time <= place.time:
                    newest[key] = place
    return newest


def _read(path: Path) -> Iterator[tuple[str, Place]]:
    """Yield the key and place of each line; one that a killed process left unfinished is none."""
    offset = 0
    with open(path, "rb") as file:
        for line in file:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                yield str(entry["key"]), Place(path, offset, int(entry["time"]))
            offset += len(line)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock, for which others wait; it ends with the process, however that ends."""
    if fcntl is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
