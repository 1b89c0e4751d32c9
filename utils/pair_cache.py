"""Decoded pairs, kept in memory that all loader processes share, or on disk."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import multiprocessing
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

logger = logging.getLogger(__name__)

Arrays = tuple[np.ndarray, np.ndarray]

TYPES = (np.uint8, np.uint16, np.int16, np.float32)
ALIGNMENT = 64  # bytes; a cache line

# Columns of the table that says where a pair lies.
OFFSET, HEIGHT, WIDTH, CHANNELS, IMAGE_TYPE, LABEL_TYPE = range(6)
COLUMNS = 6
EMPTY = -1


class PairCache(Protocol):
    """Keeps pictures with their labels, by place in the dataset."""

    def get(self, index: int) -> Arrays | None:
        """Picture (H, W, C) and labels (H, W), not to be written to; None if they are not kept."""

    def put(self, index: int, image: np.ndarray, label: np.ndarray) -> None:
        """Keep a pair, if there is room."""


class RamCache:
    """One block of memory that the loader's processes share, filled as pictures are read.

    The block is reserved and not yet used: a page costs memory once something lies in it. When it
    is full, further pictures are decoded each time.

    Args:
        num_samples: Pictures in the dataset.
        limit: Bytes.
        forked: Whether other processes are to share it.

    Raises:
        ValueError: If processes of this system do not share memory with those they start.
    """

    def __init__(self, num_samples: int, limit: int, *, forked: bool = True) -> None:
        if forked and multiprocessing.get_start_method() != "fork":
            raise ValueError(
                'cache: "ram" is shared with loader processes through fork, which this system '
                'does not use; set it to "disk", or num_workers to 0'
            )
        self._limit = limit
        self._block = mmap.mmap(-1, limit)
        table = mmap.mmap(-1, (num_samples + 1) * COLUMNS * 8)
        self._table = np.frombuffer(table, np.int64).reshape(num_samples + 1, COLUMNS)
        self._table[:] = EMPTY
        self._used = self._table[num_samples : num_samples + 1, 0]
        self._used[0] = 0
        self._lock = multiprocessing.Lock()
        self._told = False

    def get(self, index: int) -> Arrays | None:
        """Views of the block; None if the pair is not in it."""
        with self._lock:  # orders this read behind the writing of the pair
            row = self._table[index].copy()
        if row[OFFSET] == EMPTY:
            return None
        offset, height, width, channels = (int(value) for value in row[:IMAGE_TYPE])
        image_type, label_type = (np.dtype(TYPES[value]) for value in row[IMAGE_TYPE:])
        image = self._view(offset, image_type, (height, width, channels))
        label = self._view(_aligned(offset + image.nbytes), label_type, (height, width))
        return image, label

    def put(self, index: int, image: np.ndarray, label: np.ndarray) -> None:
        """Keep a pair, if there is room."""
        size = _aligned(image.nbytes) + _aligned(label.nbytes)
        with self._lock:
            offset = int(self._used[0])
            if self._table[index, OFFSET] != EMPTY:
                return
            if offset + size > self._limit:
                self._tell()
                return
            self._used[0] = offset + size
        for array, place in ((image, offset), (label, _aligned(offset + image.nbytes))):
            block = np.frombuffer(self._block, array.dtype, array.size, place)
            block[:] = array.ravel()
        types = [TYPES.index(array.dtype.type) for array in (image, label)]
        with self._lock:
            self._table[index] = (offset, *image.shape, *types)

    def _view(self, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        count = int(np.prod(shape))
        view = np.frombuffer(self._block, dtype, count, offset).reshape(shape)
        view.flags.writeable = False
        return view

    def _tell(self) -> None:
        if not self._told:
            kept = int((self._table[:-1, OFFSET] != EMPTY).sum())
            logger.warning(
                "cache: %.1f GB are full after %d of %d pictures; the rest is decoded each time",
                self._limit / 1e9,
                kept,
                len(self._table) - 1,
            )
        self._told = True


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class DiskCache:
    """Two NPY files a pair, which outlive the run and are mapped into memory when read.

    The name of a file is made from the paths, sizes and times of what it was decoded from and from
    the rule that it was read by, so that a pair that no longer fits is never found.

    Args:
        folder: Where to; made if needed.
        files: For each sample, the files that it is read from.
        rule: What else the arrays depend on.

    Raises:
        ValueError: If the folder cannot be made.
    """

    def __init__(self, folder: str | Path, files: Sequence[Sequence[str]], rule: str) -> None:
        self.folder = Path(folder)
        self._files = files
        self._rule = rule
        self._full = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cache_dir: {folder} cannot be made ({error.strerror})") from None

    def get(self, index: int) -> Arrays | None:
        """Arrays mapped from the files; None if they are not there."""
        paths = self._paths(index)
        if paths is None:
            return None
        try:
            image, label = (np.load(p, mmap_mode="r", allow_pickle=False) for p in paths)
        except (OSError, ValueError, EOFError):  # not there, or left unfinished by a power cut
            return None
        return image, label

    def put(self, index: int, image: np.ndarray, label: np.ndarray) -> None:
        """Write a pair; a disk that is full ends the writing, not the training."""
        paths = None if self._full else self._paths(index)
        if paths is None:
            return
        try:
            for path, array in zip(paths, (image, label), strict=True):
                _write(path, array)
        except OSError as error:
            self._full = True
            logger.warning(
                "cache: %s cannot be written to (%s); what is missing is decoded each time",
                self.folder,
                error.strerror,
            )

    def _paths(self, index: int) -> tuple[Path, Path] | None:
        """The two files of a pair; None if what it is read from is no file."""
        facts = [self._rule]
        try:
            for file in self._files[index]:
                status = os.stat(file)
                facts.append(f"{os.path.abspath(file)}|{status.st_size}|{status.st_mtime_ns}")
        except OSError:
            return None
        key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]
        return self.folder / f"{key}.image.npy", self.folder / f"{key}.label.npy"


def _write(path: Path, array: np.ndarray) -> None:
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.save(file, array, allow_pickle=False)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def free_memory() -> int:
    """Bytes that the system can hand out without swapping."""
    import psutil

    return psutil.virtual_memory().available
