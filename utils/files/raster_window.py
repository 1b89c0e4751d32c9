"""Windows of a raster of any size, as its file has the values."""

import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from utils.files.data_file import DataError, StrPath, damaged
from utils.files.gdal import gdal_settings, import_rasterio
from utils.files.npy_file import open_npy


class RasterWindows(ABC):
    """A raster that is open for the reading of windows.

    Attributes:
        path: The file.
        height: Rows of the image.
        width: Columns of the image.
        bands: Values of a pixel.
        dtype: The type of a value, in the machine's byte order.
        nodata: The value that marks missing pixels, or None.
    """

    path: StrPath
    height: int
    width: int
    bands: int
    dtype: np.dtype
    nodata: float | None = None

    @abstractmethod
    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a window (height, width, bands), as stored.

        Raises:
            DataError: If that part of the file cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


class NpyWindows(RasterWindows):
    """Reads windows of an NPY file: the same values as `read_npy()`."""

    def __init__(self, path: StrPath) -> None:
        self.path = path
        array = open_npy(path)
        self.height, self.width, self.bands = array.shape
        self.dtype = array.dtype.newbyteorder("=")

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a window (height, width, bands)."""
        # Mapped anew each time: pages of a mapping count as this process's memory while it lasts.
        array = open_npy(self.path)
        return np.array(array[top : top + height, left : left + width], self.dtype)

    def close(self) -> None:
        """Do nothing: no file is open between two windows."""


class GdalWindows(RasterWindows):
    """Reads windows of a file with GDAL, through rasterio.

    Args:
        path: The file.
        driver: GDAL's name of its format: no other is tried.

    Raises:
        DataError: If rasterio is not installed, or the file cannot be read.
    """

    # libjpeg only warns of damage, and makes up what is missing.
    _STRICT = {"GDAL_ERROR_ON_LIBJPEG_WARNING": True, "GDAL_JPEG_TO_RGB": True}  # noqa: RUF012

    def __init__(self, path: StrPath, driver: str) -> None:
        rasterio = import_rasterio(
            f"{path}: is too large to be decoded at once, and is to be read in parts"
        )
        self.path = path
        self._error: type[Exception] = rasterio.errors.RasterioError
        with gdal_settings(**self._STRICT):
            try:
                self._file = rasterio.open(path, driver=driver)
            except self._error as error:
                raise damaged(path, f"is cut off or damaged ({error})") from None
        self.height, self.width, self.bands = self._file.height, self._file.width, self._file.count
        self.dtype = np.dtype(self._file.dtypes[0])
        self.nodata = self._file.nodata
        self._lock = threading.Lock()

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a window (height, width, bands), as stored."""
        values = self._read(self._file.read, top, left, height, width)
        return np.ascontiguousarray(np.moveaxis(values, 0, 2))

    @property
    def dataset(self) -> Any:
        """The file as rasterio has opened it."""
        return self._file

    def mask(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return GDAL's mask of a window, (height, width) uint8: 0 where there is no data."""
        return self._read(self._file.dataset_mask, top, left, height, width)

    def _read(
        self, read: Callable[..., np.ndarray], top: int, left: int, height: int, width: int
    ) -> np.ndarray:
        with self._lock, gdal_settings(**self._STRICT):
            try:
                return read(window=((top, top + height), (left, left + width)))
            except self._error as error:
                reason = error.__cause__ or error
                raise damaged(self.path, f"is cut off or damaged ({reason})") from None

    def colours(self) -> np.ndarray | None:
        """Return the palette (256, 3) uint8 of a palette image, else None."""
        with self._lock, gdal_settings():
            try:
                table = self._file.colormap(1)
            except ValueError:
                return None
        made = np.zeros((256, 3), np.uint8)
        for index, colour in table.items():
            made[index] = colour[:3]
        return made

    @property
    def bits(self) -> int:
        """The bits of a value in the file, of which `dtype` may have more."""
        tags: dict[str, Any] = self._file.tags(1, ns="IMAGE_STRUCTURE")
        return int(tags.get("NBITS", 8 * self.dtype.itemsize))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class GdalMask:
    """Where a geo-referenced file says that it has data: by a mask in it, or by its alpha band.

    A fourth band that has more than two values is a band like infrared, which many programs write
    as alpha, and no mask.

    Args:
        path: The file.
        alpha: Whether alpha is looked at: not where a model takes that band.

    Raises:
        DataError: If rasterio is not installed, or the file cannot be read.
    """

    _SAMPLES, _SIDE = 5, 64  # a grid of windows that are looked at for more than two values

    def __init__(self, path: StrPath, *, alpha: bool) -> None:
        self._gdal = GdalWindows(path, "GTiff")
        file = self._gdal.dataset
        flags = {flag.name for flags in file.mask_flag_enums for flag in flags}
        own = "per_dataset" in flags and "alpha" not in flags
        self.exists = own or (alpha and "alpha" in flags and self._is_alpha())
        if not self.exists:
            self._gdal.close()

    def _is_alpha(self) -> bool:
        height, width = self._gdal.height, self._gdal.width
        for row in range(self._SAMPLES):
            for column in range(self._SAMPLES):
                top, left = (
                    max(0, (side - self._SIDE) * number // (self._SAMPLES - 1))
                    for side, number in ((height, row), (width, column))
                )
                values = self._gdal.mask(top, left, min(self._SIDE, height - top),
                                         min(self._SIDE, width - left))  # fmt: skip
                if ((values != 0) & (values != 255)).any():
                    return False
        return True

    def missing(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return where a window has no data, (height, width) bool."""
        made: np.ndarray = self._gdal.mask(top, left, height, width) == 0
        return made

    def close(self) -> None:
        """Close the file."""
        self._gdal.close()


class ArrayWindows(RasterWindows):
    """Windows of an array that is in memory: the source of what is kept in a file instead.

    Args:
        path: For messages.
        pixels: (H, W, C).
    """

    def __init__(self, path: StrPath, pixels: np.ndarray) -> None:
        self.path, self._pixels = path, pixels
        self.height, self.width, self.bands = pixels.shape
        self.dtype = pixels.dtype

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a view (height, width, bands)."""
        return self._pixels[top : top + height, left : left + width]

    def close(self) -> None:
        """Free the array."""
        self._pixels = np.empty((0, 0, 0), self.dtype)


class RowsInOrder(RasterWindows):
    """Windows of a file whose rows can only be decoded one after the other, from the top.

    The last rows are kept, in memory if they fit and else in a temporary file, so that windows can
    be read in bands from the top down. A window above the kept rows begins the file anew.

    Args:
        opener: Opens the file; called again where it begins anew.
        limit: The most bytes of rows to keep in memory.
        folder: Where the temporary file goes; None for the system's folder.
    """

    _CHUNK = 8 << 20  # bytes of rows that are decoded at once

    def __init__(
        self, opener: Callable[[], RasterWindows], limit: float, folder: Any = None
    ) -> None:
        self._opener, self._limit, self._folder = opener, limit, folder
        self._source = opener()
        source = self._source
        self.path, self.height, self.width = source.path, source.height, source.width
        self.bands, self.dtype, self.nodata = source.bands, source.dtype, source.nodata
        self._row_bytes = self.width * self.bands * self.dtype.itemsize
        self._chunk = max(1, min(self.height, self._CHUNK // max(1, self._row_bytes)))
        self._lock = threading.Lock()
        self._kept: np.ndarray | None = None
        self._file: BinaryIO | None = None
        self._capacity = 0
        self._next = 0  # the first row that is not decoded yet
        self.keep(1)

    @property
    def source(self) -> RasterWindows:
        """The file, as it is open now."""
        return self._source

    def keep(self, rows: int) -> None:
        """Keep at least so many of the last rows; forgets those that are kept now."""
        with self._lock:
            self._restart()
            self._capacity = min(self.height, rows + self._chunk)
            self._free()
            if self._capacity * self._row_bytes <= self._limit:
                shape = (self._capacity, self.width, self.bands)
                self._kept = np.empty(shape, self.dtype)
            else:
                self._file = cast(BinaryIO, _temporary(self._folder))

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a window (height, width, bands), as stored."""
        if height > self._capacity:
            self.keep(height)
        with self._lock:
            if top < self._next - self._capacity:
                self._restart()
            while self._next < top + height:
                self._decode()
            made = np.empty((height, width, self.bands), self.dtype)
            for row in range(height):
                self._copy(top + row, left, made[row])
            return made

    def spool(self) -> None:
        """Decode and keep all rows now, and close the source: windows may come in any order."""
        self.keep(self.height)
        with self._lock:
            while self._next < self.height:
                self._decode()
            self._source.close()
            self._opener = lambda: self._source  # of which nothing is read any more

    def _decode(self) -> None:
        count = min(self._chunk, self.height - self._next)
        rows = self._source.read(self._next, 0, count, self.width)
        for number, row in enumerate(rows):
            slot = (self._next + number) % self._capacity
            if self._kept is not None:
                self._kept[slot] = row
            else:
                assert self._file is not None
                self._file.seek(slot * self._row_bytes)
                _write_all(self._file, row)
        self._next += count

    def _copy(self, row: int, left: int, target: np.ndarray) -> None:
        slot = row % self._capacity
        if self._kept is not None:
            target[...] = self._kept[slot, left : left + len(target)]
            return
        assert self._file is not None
        pixel = self.bands * self.dtype.itemsize
        self._file.seek(slot * self._row_bytes + left * pixel)
        data = memoryview(target.data).cast("B")
        if self._file.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise DataError(f"{self.path}: a temporary file of its rows is cut off")

    def _restart(self) -> None:
        if self._next:
            self._source.close()
            self._source = self._opener()
            self._next = 0

    def _free(self) -> None:
        self._kept = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> None:
        """Close the file, and remove the temporary one."""
        self._source.close()
        self._free()


def _temporary(folder: Path | None) -> Any:
    return tempfile.TemporaryFile(dir=folder, buffering=0)


def _write_all(file: BinaryIO, row: np.ndarray) -> None:
    data = memoryview(np.ascontiguousarray(row).data).cast("B")
    while data:
        data = data[file.write(data) :]
