"""What tests of files that are written row by row share."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

FOREIGN = b"somebody's own"


def random_cuts(height: int) -> st.SearchStrategy[list[int]]:
    """Rows at which an image is cut into blocks, also empty ones."""
    return st.lists(st.integers(0, height), max_size=6).map(sorted)


def blocks(cuts: Sequence[int], height: int) -> Iterator[slice]:
    for top, end in itertools.pairwise([0, *cuts, height]):
        yield slice(top, end)


@contextlib.contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Let no file grow beyond `room` bytes, which the system reports as it reports a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_all(writer, rows: np.ndarray, cuts: Sequence[int] = (), axis: int = 0) -> None:
    """Write an array in blocks of rows, and complete the file."""
    for block in blocks(cuts, rows.shape[axis]):
        writer.write(rows[(slice(None),) * axis + (block,)])
    writer.finish()


def check_guarantees(
    folder: Path, name: str, open_writer, rows: np.ndarray, room: int, axis: int = 0
) -> None:
    """Check what every writer of rows promises about files that are not complete.

    Args:
        folder: An empty folder.
        name: The name of the file.
        open_writer: Opens it: `open_writer(path, overwrite=False)`.
        rows: Its rows, which compress to more than `room` bytes.
        room: The size at which the disk is full.
        axis: The axis of the rows.
    """
    path = folder / name
    half = np.take(rows, range(rows.shape[axis] // 2), axis)

    # Nothing has the name before the end, and nothing is left of what is discarded.
    writer = open_writer(path)
    writer.write(half)
    assert not path.exists()
    writer.discard()
    writer.discard()
    assert os.listdir(folder) == []

    # A full disk, wherever it is found.
    for limit in (room, room // 2, 10):
        with full_disk(limit), pytest.raises(OSError):
            writer = open_writer(path)
            try:
                writer.write(rows)
                writer.finish()
            finally:
                writer.discard()
        assert os.listdir(folder) == [], limit

    # An existing file is replaced only if that is asked for, also if it comes in between.
    path.write_bytes(FOREIGN)
    with pytest.raises(FileExistsError, match=f"{name} already exists"):
        open_writer(path)
    path.unlink()
    writer = open_writer(path)
    path.write_bytes(FOREIGN)
    writer.write(rows)
    with pytest.raises(FileExistsError):
        writer.finish()
    assert path.read_bytes() == FOREIGN and os.listdir(folder) == [name]
    writer = open_writer(path, overwrite=True)
    writer.write(rows)
    writer.finish()
    writer.discard()  # of no effect any more
    assert path.read_bytes() != FOREIGN and os.listdir(folder) == [name]
