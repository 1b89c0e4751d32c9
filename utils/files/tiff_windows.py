"""Parts of a TIFF of any size: only the strips or tiles that hold them are decoded."""

import collections
import contextlib
import math
from typing import Any

import numpy as np
import tifffile

from utils.files.data_file import DataError, StrPath, check_stored, damaged, open_file
from utils.files.raster_window import RasterWindows
from utils.files.tiff_checks import MAX_IN_BYTE, check_segment
from utils.files.tiff_io import (
    BAND_AXES,
    ONE_FILE,
    as_rgb,
    check_complete,
    collect_complaints,
    has_known_colours,
    is_known,
    needs_codec,
    nodata_of,
    only_series,
)

# Decoded tiles that are kept: the next window needs some of them again.
CACHE_BYTES = 64 << 20
_RAW_BYTES = 1 << 20  # how much of rows that are not compressed is read at once


class TiffWindows(RasterWindows):
    """Reads windows of a TIFF with tifffile: the same pixels as `read_tiff()`.

    Args:
        path: The file.

    Raises:
        DataError: If the file is damaged, has several images, or is compressed in a way that needs
            a package that is not installed.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = path
        self._stack = contextlib.ExitStack()
        try:
            self._open()
        except (DataError, OSError):
            self.close()
            raise
        except Exception as error:
            # A damaged header can make the decoder raise anything.
            self.close()
            raise damaged(path, f"is cut off or damaged ({error})") from None
        self._cache: collections.OrderedDict[tuple[int, int], np.ndarray] = (
            collections.OrderedDict()
        )
        self._cached = 0

    def _open(self) -> None:
        file = self._stack.enter_context(open_file(self.path))
        with collect_complaints() as complaints:
            tiff = self._stack.enter_context(tifffile.TiffFile(file, **ONE_FILE))
            if len(tiff.pages) == 0:
                raise ValueError("it has no page")
            series = only_series(self.path, tiff.series)
            check_complete(self.path, series)
        if complaints:
            raise ValueError(complaints[0])
        page = series.keyframe
        others = [axis for axis in series.axes if axis not in "YX"]
        if page.imagedepth > 1 or len(others) > 1 or set(others) - set(BAND_AXES):
            raise DataError(
                f"{self.path}: has the axes {series.axes}; expected rows, columns, bands"
            )
        if series.dtype is None:
            raise DataError(f"{self.path}: has samples of {page.bitspersample} bits")
        if not is_known(page):
            raise needs_codec(self.path, f"compression {page.compression.name}")
        kind = int(page.compression)
        if kind in MAX_IN_BYTE and all(all(each.databytecounts) for each in series.pages):
            stored = sum(sum(each.databytecounts) for each in series.pages)
            claimed = series.size * page.bitspersample // 8
            check_stored(self.path, claimed, stored, MAX_IN_BYTE[kind])
        self._pages = list(series.pages)
        self._page = page
        self.height, self.width = int(page.imagelength), int(page.imagewidth)
        self.bands = page.samplesperpixel * len(self._pages)
        self.dtype = np.dtype(series.dtype).newbyteorder("=")
        self.nodata = nodata_of(self.path, page)
        # Rows that lie one after the other as they are, whatever the file calls a strip.
        self._is_raw = (
            not page.is_tiled
            and int(page.compression) == 1
            and page.bitspersample == 8 * self.dtype.itemsize
            and all(each.is_contiguous and each.dataoffsets[0] for each in self._pages)
        )
        self.block = self._block_size()

    def _block_size(self) -> tuple[int, int]:
        """Return the (height, width) of a strip or tile, as far as they are decoded at once."""
        page = self._page
        if self._is_raw:
            row = self.width * page.samplesperpixel * self.dtype.itemsize
            return max(1, min(self.height, _RAW_BYTES // row)), self.width
        if page.is_tiled:
            return int(page.tilelength), int(page.tilewidth)
        return min(int(page.rowsperstrip), self.height), self.width

    @property
    def is_tiled(self) -> bool:
        """Whether windows are decoded without the rest of their rows."""
        return self.block[1] < self.width

    @property
    def block_bytes(self) -> int:
        """The size of a decoded strip or tile."""
        samples = self._page.samplesperpixel if self._page.planarconfig == 1 else 1
        return math.prod(self.block) * samples * self.dtype.itemsize

    @property
    def has_known_colours(self) -> bool:
        """Whether `rgb()` knows the colours: grey, RGB or JPEG's."""
        return has_known_colours(self._page)

    def rgb(self, pixels: np.ndarray) -> np.ndarray:
        """Return what `read()` gave as RGB (h, w, 3) uint8."""
        return as_rgb(self._page, pixels)

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a window (height, width, C), as stored.

        Raises:
            DataError: If a strip or tile of it is damaged.
        """
        made = np.empty((height, width, self.bands), self.dtype)
        down, across = self.block
        for number, page in enumerate(self._pages):
            samples = page.samplesperpixel
            target = made[..., number * samples : (number + 1) * samples]
            for row in range(top // down, (top + height - 1) // down + 1):
                for column in range(left // across, (left + width - 1) // across + 1):
                    self._paste(number, row, column, target, (top, left))
        return made

    def _paste(
        self, page: int, row: int, column: int, target: np.ndarray, corner: tuple[int, int]
    ) -> None:
        """Copy what a strip or tile has of a window into it."""
        down, across = self.block
        rows = math.ceil(self.height / down)
        columns = math.ceil(self.width / across)
        planes = 1 if self._page.planarconfig == 1 else self._page.samplesperpixel
        top, left = row * down - corner[0], column * across - corner[1]
        inside = target[max(top, 0) : top + down, max(left, 0) : left + across]
        for plane in range(planes):
            segment = self._segment(page, (plane * rows + row) * columns + column)
            first, second = max(-top, 0), max(-left, 0)
            part = segment[first : first + inside.shape[0], second : second + inside.shape[1]]
            if part.shape[:2] != inside.shape[:2]:
                raise damaged(self.path, "is damaged: a strip or tile is smaller than it claims")
            if planes == 1:
                inside[...] = part
            else:
                inside[..., plane] = part[..., 0]

    def _segment(self, page: int, index: int) -> np.ndarray:
        """Return a decoded strip or tile (h, w, samples)."""
        key = (page, index)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        decoded = self._decode(page, index)
        self._cache[key] = decoded
        self._cached += decoded.nbytes
        while self._cached > CACHE_BYTES and len(self._cache) > 1:
            self._cached -= self._cache.popitem(last=False)[1].nbytes
        return decoded

    def _read_raw(self, number: int, index: int) -> np.ndarray:
        """Return rows that are stored as they are."""
        page, down = self._page, self.block[0]
        samples = page.samplesperpixel if page.planarconfig == 1 else 1
        plane, row = divmod(index, math.ceil(self.height / down))
        row *= down
        count = min(down, self.height - row)
        stride = self.width * samples * self.dtype.itemsize
        offset = self._pages[number].dataoffsets[0] + (plane * self.height + row) * stride
        data = self._read_bytes(self._pages[number], offset, count * stride)
        stored = self.dtype.newbyteorder(page.parent.byteorder)
        values = np.frombuffer(data, stored).reshape(count, self.width, samples)
        return values.astype(self.dtype, copy=False)

    def _decode(self, number: int, index: int) -> np.ndarray:
        if self._is_raw:
            return self._read_raw(number, index)
        page, key = self._pages[number], self._page
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        samples = key.samplesperpixel if key.planarconfig == 1 else 1
        if not count:
            # GDAL writes no data for empty strips and tiles.
            return np.full((*self.block, samples), self.nodata or 0, self.dtype)
        data = self._read_bytes(page, int(offset), int(count))
        check_segment(self.path, key, data)
        try:
            decoded, _, _ = key.decode(data, index, jpegtables=page.jpegtables, _fullsize=False)
        except Exception as error:
            raise damaged(self.path, f"is damaged in strip or tile {index} ({error})") from None
        if decoded is None:
            return np.full((*self.block, samples), self.nodata or 0, self.dtype)
        return np.asarray(decoded[0]).astype(self.dtype, copy=False)

    def _read_bytes(self, page: Any, offset: int, count: int) -> bytes:
        file = page.parent.filehandle
        file.seek(offset)
        data: bytes = file.read(count)
        if len(data) < count:
            raise damaged(self.path, "is cut off")
        return data

    def close(self) -> None:
        """Close the file."""
        self._stack.close()
