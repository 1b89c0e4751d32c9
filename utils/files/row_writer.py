"""Files that are written row by row: what all of them do, and blocks of equally many rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np


class RowWriter(Protocol):
    """A file that is made from the rows of an image, from the top down.

    The constructor opens a temporary file. The caller discards the writer if a call of `write`
    fails; after a failed `finish` nothing is left.
    """

    def write(self, rows: np.ndarray) -> None:
        """Take the next rows, any number of them; the array may change after the call."""

    def finish(self) -> None:
        """Complete the file and give it its name."""

    def discard(self) -> None:
        """Remove what has been written; may be called at any time, also twice."""


class RowBlocks:
    """Rows that come in any number, and go out in blocks of one height.

    Formats are written in blocks, for compression or in tiles. With blocks of one height a file has
    the same bytes however the rows have come.

    Args:
        path: The file, for messages.
        total: The number of rows of the image; None if that is not known before the end.
        height: The rows of a block; the last block may have fewer.
        axis: The axis of the rows in the arrays.
    """

    def __init__(self, path: Path, total: int | None, height: int, axis: int = 0) -> None:
        self._path = path
        self._total = total
        self._height = height
        self._axis = axis
        self._kept: list[np.ndarray] = []
        self._kept_rows = 0
        self.rows = 0  # taken so far

    def push(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Take rows, and yield the blocks that are complete; iterate to the end.

        Raises:
            ValueError: If there are more rows than the image has.
        """
        count = rows.shape[self._axis]
        self.rows += count
        if self._total is not None and self.rows > self._total:
            raise ValueError(f"{self._path}: row {self.rows} of {self._total} rows")
        start = 0
        while self._kept_rows + count - start >= self._height:
            end = start + self._height - self._kept_rows
            yield self._joined(self._cut(rows, start, end))
            start = end
        if start < count:
            # A copy: rows that are kept must not change, nor keep a larger array in memory.
            self._kept.append(self._cut(rows, start, count).copy())
            self._kept_rows += count - start

    def rest(self) -> Iterator[np.ndarray]:
        """Yield the last block if there is one of fewer rows; call it once.

        Raises:
            ValueError: If rows are missing.
        """
        if self._total is not None and self.rows != self._total:
            raise ValueError(f"{self._path}: {self.rows} of {self._total} rows were written")
        if self._kept:
            yield self._joined(self._kept.pop())

    def _cut(self, rows: np.ndarray, start: int, end: int) -> np.ndarray:
        return rows[(slice(None),) * self._axis + (slice(start, end),)]

    def _joined(self, last: np.ndarray) -> np.ndarray:
        """Return what was kept and `last` as one array, and keep nothing."""
        block = np.concatenate([*self._kept, last], self._axis) if self._kept else last
        self._kept, self._kept_rows = [], 0
        return block
