"""Arrays that are kept in memory as far as they may, and in a temporary file beyond."""

import math
import tempfile
from collections.abc import Hashable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np


class _Slot(NamedTuple):
    """An array's place in the file."""

    offset: int
    capacity: int  # bytes
    shape: tuple[int, ...]
    dtype: np.dtype


class Spill:
    """Keeps arrays by key; what does not fit into a limit goes to a temporary file without a name.

    The file is read and written, not mapped: mapped pages would count as this process's memory.
    One thread uses a spill at a time.

    Args:
        limit: The most bytes to keep in memory.
        folder: Where the temporary file goes; None for the system's folder for such files.

    Raises:
        OSError: From `put()`, if the file cannot be written.
    """

    def __init__(self, limit: float, folder: Path | None = None) -> None:
        self._limit, self._folder = limit, folder
        self._kept: dict[Hashable, np.ndarray] = {}
        self._slots: dict[Hashable, _Slot] = {}
        self._places: dict[Hashable, tuple[int, int]] = {}  # offset and capacity, kept for reuse
        self._held, self._end = 0, 0
        self._file: BinaryIO | None = None

    def put(self, key: Hashable, array: np.ndarray) -> None:
        """Keep an array; it replaces one of the same key, and must not be changed afterwards."""
        self._forget(key)
        if self._held + array.nbytes <= self._limit:
            self._kept[key] = array
            self._held += array.nbytes
            return
        offset, capacity = self._places.get(key, (self._end, 0))
        if capacity < array.nbytes:
            offset, capacity = self._end, array.nbytes
            self._end += capacity
            self._places[key] = (offset, capacity)
        _write(self._opened(), offset, np.ascontiguousarray(array))
        self._slots[key] = _Slot(offset, capacity, array.shape, array.dtype)

    def rows(self, key: Hashable, first: int, last: int) -> np.ndarray:
        """Return rows of an array (..., H, W): those from `first` up to `last`."""
        if key in self._kept:
            return self._kept[key][..., first:last, :]
        slot = self._slots[key]
        *outer, height, width = slot.shape
        made = np.empty((*outer, last - first, width), slot.dtype)
        row = width * slot.dtype.itemsize
        for number, plane in enumerate(made.reshape(math.prod(outer), last - first, width)):
            _read(self._opened(), slot.offset + (number * height + first) * row, plane)
        return made

    def take(self, key: Hashable) -> np.ndarray | None:
        """Return an array and keep it no longer; None if there is none of this key."""
        if key not in self._kept and key not in self._slots:
            return None
        array = self._kept.get(key)
        if array is None:
            array = self.rows(key, 0, self._slots[key].shape[-2])
        self._forget(key)
        return array

    def close(self) -> None:
        """Free the memory and remove the file."""
        self._kept.clear()
        self._slots.clear()
        self._places.clear()
        self._held = self._end = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _forget(self, key: Hashable) -> None:
        if key in self._kept:
            self._held -= self._kept.pop(key).nbytes
        self._slots.pop(key, None)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            file: Any = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
            self._file = file
        return self._file

    def __enter__(self) -> "Spill":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _write(file: BinaryIO, offset: int, array: np.ndarray) -> None:
    if not array.size:
        return
    file.seek(offset)
    data = memoryview(array.data).cast("B")
    while data:
        data = data[file.write(data) :]


def _read(file: BinaryIO, offset: int, array: np.ndarray) -> None:
    if not array.size:
        return
    file.seek(offset)
    data = memoryview(array.data).cast("B")
    while data:
        count = file.readinto(data)  # type: ignore[attr-defined]
        if not count:
            raise OSError("a temporary file is shorter than what was written to it")
        data = data[count:]
