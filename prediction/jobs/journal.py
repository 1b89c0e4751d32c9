"""The rows of a run on their way into the manifest, safe from the moment they are written."""

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from prediction.jobs.results_file import Row, checked_row

SYNC_SECONDS = 1.0  # between two waits for the disk, which take as long as a small image
EXTENSION = ".jsonl"


def journal_folder(manifest: Path) -> Path:
    """Return the folder of a manifest's journals, beside it."""
    return manifest.with_name(f"{manifest.name}.journal")


class Journal:
    """Rows of one process, one line each, in a file of its own that is made with the first.

    What a process has written survives its death, and after a power failure all but the last
    second is there. A line that was cut is no JSON, and is skipped when it is read.

    Args:
        folder: Exists, and contains the journals of all processes.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{uuid.uuid4().hex[:16]}{EXTENSION}"
        self._descriptor: int | None = None
        self._synced = 0.0
        self._lock = threading.Lock()

    def add(self, row: Row) -> None:
        """Append a row; threads may call this at once.

        Raises:
            OSError: If it cannot be written; then no part of it is there.
        """
        line = json.dumps(row).encode() + b"\n"
        with self._lock:
            if self._descriptor is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
                self._descriptor = os.open(self._path, flags, 0o666)
            _append(self._descriptor, line)
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                os.fsync(self._descriptor)
                self._synced = time.monotonic()

    def close(self) -> None:
        """Wait for the disk and close the file."""
        with self._lock:
            if self._descriptor is not None:
                descriptor, self._descriptor = self._descriptor, None
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)


def _append(descriptor: int, line: bytes) -> None:
    """Write a line wholly, or take back what a full disk has taken of it."""
    size = os.fstat(descriptor).st_size
    try:
        while line:
            line = line[os.write(descriptor, line) :]
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def find_journals(folder: Path) -> list[Path]:
    """Return the journals in a folder, in a fixed order; none if there is no folder.

    No image is in two of them: they are of one run, as each begins with those before merged.
    """
    return sorted(folder.glob(f"*{EXTENSION}"))


def read_journals(journals: Sequence[Path]) -> Iterator[Row]:
    """Yield the whole rows of journals; of an image the last is valid.

    Raises:
        OSError: If one cannot be read.
    """
    for path in journals:
        with open(path, "rb") as file:
            for line in file:
                try:
                    row = checked_row(json.loads(line))
                except ValueError:  # a crash has cut the line
                    continue
                if row is not None:
                    yield row
