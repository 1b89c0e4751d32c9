"""TIFF files of any height and number of bands, written row by row in compressed tiles."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from utils.files.atomic_write import PendingFile, open_spool, refuse_existing
from utils.files.data_file import StrPath
from utils.files.row_writer import RowBlocks

TILE = 512  # width and, as a rule, height of a tile in pixels
MIN_TILE = 16  # the sides of a tile are multiples of this
TILE_ROW_BYTES = 64 << 20  # wide images of many bands have lower tiles: a row of them is in memory
BIG_BYTES = 4_000_000_000  # a file that may be larger is a BigTIFF
_GDAL_NODATA = 42113
_ASCII = 2
# By the kind of type. Integers are ids, which compress well; floats hardly do at any level.
DEFLATE_LEVELS = {"u": 6, "f": 1}
_IN_MEMORY = 16 << 20  # bytes of compressed tiles that need no file of their own


def tile_height(width: int, bands: int, itemsize: int) -> int:
    """Return the height of a tile, lower than `TILE` where a row of tiles would be too large."""
    height = TILE
    while height > MIN_TILE and height * width * bands * itemsize > TILE_ROW_BYTES:
        height //= 2
    return height


class TiffWriter:
    """Write a TIFF without a geo-reference row by row; `GeoTiffWriter` writes those with one.

    The tiles are compressed as the rows come, into a temporary file without a name. At the end
    tifffile, which wants the tiles of a band one after the other, copies them.

    Args:
        path: The name of the complete file.
        shape: (H, W) or (K, H, W); rows come as (h, W) or (K, h, W).
        dtype: The type of the pixels.
        palette: A colour for each uint8 value; none for a grey image.
        nodata: The value that marks missing pixels, written as GDAL does; None for none.
        overwrite: Whether to replace a file of this name.

    Raises:
        FileExistsError: If the path exists and `overwrite` is off.
        OSError: If it cannot be written.
    """

    def __init__(
        self,
        path: StrPath,
        shape: tuple[int, ...],
        dtype: np.typing.DTypeLike,
        *,
        palette: Sequence[Sequence[int]] = (),
        nodata: float | None = None,
        overwrite: bool = False,
    ) -> None:
        self._path, self._shape, self._dtype = Path(path), shape, np.dtype(dtype)
        self._palette, self._nodata, self._overwrite = palette, nodata, overwrite
        bands = shape[0] if len(shape) == 3 else 1
        self._tile = tile_height(shape[-1], bands, self._dtype.itemsize)
        self._blocks = RowBlocks(self._path, shape[-2], self._tile, axis=1)
        # For each band, where each of its tiles is in the temporary file, and its length.
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(bands)]
        if not overwrite:
            refuse_existing(self._path)
        self._spool = open_spool(self._path, _IN_MEMORY)

    def write(self, rows: np.ndarray) -> None:
        """Take the next rows, (h, W) or (K, h, W).

        Raises:
            ValueError: If there are more rows than the image has.
            OSError: If they cannot be written.
        """
        for block in self._blocks.push(rows if rows.ndim == 3 else rows[None]):
            self._write_tiles(block)

    def finish(self) -> None:
        """Complete the file and give it its name.

        Raises:
            ValueError: If rows are missing.
            FileExistsError: If the path has come to exist and `overwrite` is off.
            OSError: If it cannot be written; nothing is left behind.
        """
        try:
            for block in self._blocks.rest():
                self._write_tiles(block)
            pending = PendingFile(self._path, overwrite=self._overwrite)
            try:
                self._write_file(pending.file)
                pending.finish()
            finally:
                pending.discard()
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what has been written, unless the file is complete."""
        self._spool.close()

    def _write_tiles(self, block: np.ndarray) -> None:
        """Compress a row of tiles (K, h, W)."""
        tile = np.zeros((self._tile, TILE), self._dtype)
        for band, places in zip(block, self._places, strict=True):
            for left in range(0, band.shape[1], TILE):
                part = band[:, left : left + TILE]
                if part.shape != tile.shape:
                    tile[:] = 0
                tile[: part.shape[0], : part.shape[1]] = part
                data = zlib.compress(tile.data, DEFLATE_LEVELS[self._dtype.kind])
                places.append((self._spool.tell(), len(data)))
                self._spool.write(data)

    def _write_file(self, file: BinaryIO) -> None:
        options: dict[str, Any] = {"photometric": "minisblack"}
        if len(self._palette):
            colours = np.zeros((3, 256), np.uint16)
            colours[:, : len(self._palette)] = np.array(self._palette).T * 257  # of 16 bits
            options = {"photometric": "palette", "colormap": colours}
        if len(self._places) > 1:
            options["planarconfig"] = "separate"
        if self._nodata is not None:
            options["extratags"] = [(_GDAL_NODATA, _ASCII, 0, f"{self._nodata:g}", True)]
        is_big = self._spool.tell() + 16 * sum(map(len, self._places)) > BIG_BYTES
        with tifffile.TiffWriter(file, bigtiff=is_big) as writer:
            writer.write(
                self._tiles(), shape=self._shape, dtype=self._dtype, tile=(self._tile, TILE),
                compression="adobe_deflate", metadata=None, software=False, **options,
            )  # fmt: skip

    def _tiles(self) -> Iterator[bytes]:
        for place, size in (place for places in self._places for place in places):
            self._spool.seek(place)
            yield self._spool.read(size)
