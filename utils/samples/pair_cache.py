"""Decoded pairs, kept in memory that all loader processes share, or on disk."""

import errno
import hashlib
import logging
import mmap
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from utils.files.atomic_write import new_file
from utils.memory import free_memory

logger = logging.getLogger(__name__)

Arrays = tuple[np.ndarray, np.ndarray]

TYPES = (np.uint8, np.uint16, np.int16, np.float32)
ALIGNMENT = 64  # bytes; a cache line

# Columns of the table of pairs.
OFFSET, HEIGHT, WIDTH, CHANNELS, IMAGE_TYPE, LABEL_TYPE = range(6)
COLUMNS = 6
EMPTY = -1

CACHE_FOLDER = "saved/cache"  # the folder of everything that is kept for later runs

MIN_FREE = 2_000_000_000  # bytes on the disk, for checkpoints


class PairCache(Protocol):
    """Keeps images with their labels, by index in the dataset."""

    def get(self, index: int) -> Arrays | None:
        """Return image (H, W, C) and labels (H, W), read-only; None if they are not kept."""

    def put(self, index: int, image: np.ndarray, label: np.ndarray) -> None:
        """Keep a pair, if there is room."""


class RamCache:
    """One block of memory that the loader's processes share, filled as images are read.

    The block is reserved, but a page takes memory only once it is written to. When the block is
    full, further images are decoded each time.

    Args:
        num_samples: Samples of the dataset.
        limit: Size in bytes.
        forked: Whether other processes share it.

    Raises:
        ValueError: If there is not enough memory, or processes of this system do not share memory
            with those they start.
    """

    def __init__(self, num_samples: int, limit: float, *, forked: bool = True) -> None:
        if forked and multiprocessing.get_start_method() != "fork":
            raise ValueError(
                'cache: "ram" is shared with loader processes through fork, which this system '
                'does not use; set it to "disk", or num_workers to 0'
            )
        try:
            self._limit = int(limit)
            self._block = mmap.mmap(-1, self._limit)
        except (OSError, OverflowError, ValueError):
            raise ValueError(
                f"cache_gb: {limit / 1e9:g} GB cannot be allocated; {free_memory() / 1e9:.1f} GB "
                "of memory are free"
            ) from None
        table = mmap.mmap(-1, (num_samples + 1) * COLUMNS * 8)
        self._table = np.frombuffer(table, np.int64).reshape(num_samples + 1, COLUMNS)
        self._table[:] = EMPTY
        # The last row: the bytes in use, and whether a warning said that the block is full.
        self._state = self._table[num_samples]
        self._state[:] = 0
        self._lock = multiprocessing.Lock()

    def get(self, index: int) -> Arrays | None:
        """Return views of the block; None if the pair is not in it."""
        with self._lock:  # orders this read after the writing of the pair
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
            offset = int(self._state[0])
            if self._table[index, OFFSET] != EMPTY:
                return
            if offset + size > self._limit:
                self._warn_once()
                return
            self._state[0] = offset + size
        for array, start in ((image, offset), (label, _aligned(offset + image.nbytes))):
            block = np.frombuffer(self._block, array.dtype, array.size, start)
            block[:] = array.ravel()
        types = [TYPES.index(array.dtype.type) for array in (image, label)]
        with self._lock:
            self._table[index] = (offset, *image.shape, *types)

    def _view(self, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        count = int(np.prod(shape))
        view = np.frombuffer(self._block, dtype, count, offset).reshape(shape)
        view.flags.writeable = False
        return view

    def _warn_once(self) -> None:
        if not self._state[1]:
            kept = int((self._table[:-1, OFFSET] != EMPTY).sum())
            logger.warning(
                "cache: %.3g GB are full after %d of %d images; the rest is decoded each time",
                self._limit / 1e9,
                kept,
                len(self._table) - 1,
            )
        self._state[1] = 1


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class DiskCache:
    """Two NPY files a pair, which outlive the run and are memory-mapped when read.

    A file's name is a hash of the paths, sizes and times of the source files and of the reading
    rule, so an outdated pair is never found.

    Args:
        folder: Their folder; made if needed.
        files: The source files of each sample.
        rule: Everything else that the arrays depend on.

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
        """Return arrays mapped from the files; None if there are none."""
        paths = self._paths(index)
        if paths is None:
            return None
        try:
            image, label = (np.load(p, mmap_mode="r", allow_pickle=False) for p in paths)
        except Exception:  # missing, truncated by a power cut, or not ours
            return None
        known = image.dtype.type in TYPES and label.dtype.type in TYPES
        fits = image.ndim == 3 and image.shape[:2] == label.shape
        return (image, label) if known and fits else None

    def put(self, index: int, image: np.ndarray, label: np.ndarray) -> None:
        """Write a pair; a full disk ends the writing, not the training."""
        paths = None if self._full else self._paths(index)
        if paths is None:
            return
        try:
            if shutil.disk_usage(self.folder).free < MIN_FREE + image.nbytes:
                raise OSError(errno.ENOSPC, f"less than {MIN_FREE / 1e9:g} GB would be left")
            for path, array in zip(paths, (image, label), strict=True):
                _write(path, array)
        except OSError as error:
            self._full = True
            logger.warning(
                "cache: %s cannot be written to (%s); the missing pairs are decoded each time",
                self.folder,
                error.strerror,
            )

    def _paths(self, index: int) -> tuple[Path, Path] | None:
        """Return the two files of a pair; None if a source is not a file."""
        facts = [self._rule]
        try:
            for file in self._files[index]:
                status = os.stat(file)
                facts.append(f"{os.path.abspath(file)}|{status.st_size}|{status.st_mtime_ns}")
        except OSError:
            return None
        text = "\n".join(facts).encode(errors="surrogateescape")
        key = hashlib.sha256(text).hexdigest()[:32]
        return self.folder / f"{key}.image.npy", self.folder / f"{key}.label.npy"


def _write(path: Path, array: np.ndarray) -> None:
    with new_file(path, overwrite=True) as file:
        np.save(file, array, allow_pickle=False)
