"""GeoTIFF files of any height and number of bands, written row by row by GDAL."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from utils.files.atomic_write import move, refuse_existing, temporary_path
from utils.files.data_file import StrPath
from utils.files.gdal import gdal_settings, import_rasterio
from utils.files.geo_file import GeoReference
from utils.files.row_writer import RowBlocks
from utils.files.tiff_io import collect_complaints
from utils.files.tiff_writer import DEFLATE_LEVELS, TILE, tile_height

_FULL = 1 << 20  # free bytes of a disk on which GDAL has failed for want of space


class GeoTiffWriter:
    """Write a TIFF with the geo-reference of another file row by row.

    If that file is tiled or has overviews, the new one is a cloud-optimized GeoTIFF: GDAL makes it
    at the end, of the complete rows. Everything is written in a folder with a random name beside
    the file, which only the user can enter: GDAL makes files beside the one that it is told to.

    Args:
        path: The name of the complete file.
        shape: (H, W) or (K, H, W); rows come as (h, W) or (K, h, W).
        dtype: The type of the pixels.
        geo: Where the image lies; its `nodata` is that of other pixels and not used.
        palette: A colour for each uint8 value; none for a grey image.
        nodata: The value that marks missing pixels; None for none.
        bands: A name for each of K bands.
        overwrite: Whether to replace a file of this name.

    Raises:
        DataError: If rasterio is not installed.
        FileExistsError: If the path exists and `overwrite` is off.
        OSError: If it cannot be written.
    """

    def __init__(
        self,
        path: StrPath,
        shape: tuple[int, ...],
        dtype: np.typing.DTypeLike,
        geo: GeoReference,
        *,
        palette: Sequence[Sequence[int]] = (),
        nodata: float | None = None,
        bands: Sequence[str] = (),
        overwrite: bool = False,
    ) -> None:
        self._path, self._overwrite = Path(path), overwrite
        self._rasterio = import_rasterio(f"{path}: is to be geo-referenced")
        self._dtype = np.dtype(dtype)
        self._is_float = self._dtype.kind == "f"
        self._is_cog = geo.block is not None or geo.overviews
        count, height, width = shape if len(shape) == 3 else (1, *shape)
        tile = tile_height(width, count, self._dtype.itemsize)
        self._blocks = RowBlocks(self._path, height, tile, axis=1)
        self._top = 0
        self._dataset: Any = None
        if not overwrite:
            refuse_existing(self._path)
        self._folder = temporary_path(self._path)
        os.mkdir(self._folder, 0o700)
        self._rows = self._folder / "rows.tif"
        try:
            with self._gdal():
                self._dataset = self._create((count, height, width), tile, geo, nodata)
                if len(palette):
                    self._dataset.write_colormap(1, dict(enumerate(map(tuple, palette))))
                for number, name in enumerate(bands, 1):
                    self._dataset.set_band_description(number, name)
        except BaseException:
            self.discard()
            raise

    def write(self, rows: np.ndarray) -> None:
        """Take the next rows, (h, W) or (K, h, W).

        Raises:
            ValueError: If there are more rows than the image has.
            OSError: If they cannot be written.
        """
        with self._gdal():
            for block in self._blocks.push(rows if rows.ndim == 3 else rows[None]):
                self._write_block(block)

    def finish(self) -> None:
        """Complete the file and give it its name.

        Raises:
            ValueError: If rows are missing.
            FileExistsError: If the path has come to exist and `overwrite` is off.
            OSError: If it cannot be written; nothing is left behind.
        """
        try:
            with self._gdal():
                for block in self._blocks.rest():
                    self._write_block(block)
                self._dataset.close()
            file = self._rows
            self._check_complete(file)
            if self._is_cog:
                file = self._optimized()
            move(file, self._path, overwrite=self._overwrite)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what has been written, unless the file is complete."""
        if self._dataset is not None and not self._dataset.closed:
            with contextlib.suppress(OSError), self._gdal():
                self._dataset.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _create(
        self, shape: tuple[int, ...], tile: int, geo: GeoReference, nodata: float | None
    ) -> Any:
        """Create the file that the rows are written to, in tiles of `tile` rows."""
        count, height, width = shape
        return self._rasterio.open(
            self._rows, "w", driver="GTiff", count=count, height=height, width=width,
            dtype=self._dtype.name, nodata=nodata, crs=geo.crs,
            transform=self._rasterio.Affine(*geo.transform),
            tiled=True, blockxsize=TILE, blockysize=tile, interleave="band", bigtiff="if_safer",
            compress="deflate", zlevel=DEFLATE_LEVELS[self._dtype.kind],
            predictor=3 if self._is_float else 1,
        )  # fmt: skip

    def _write_block(self, block: np.ndarray) -> None:
        height, width = block.shape[1:]
        window = self._rasterio.windows.Window(0, self._top, width, height)
        self._dataset.write(block.astype(self._dtype, copy=False), window=window)
        self._top += height

    def _optimized(self) -> Path:
        """Return the complete rows as a cloud-optimized GeoTIFF with overviews."""
        import rasterio.shutil

        file = self._folder / "cog.tif"
        resampling = "average" if self._is_float else "nearest"  # ids are never mixed
        with self._gdal():
            rasterio.shutil.copy(
                self._rows, file, driver="COG", blocksize=TILE, compress="deflate",
                level=DEFLATE_LEVELS[self._dtype.kind], predictor="yes" if self._is_float else "no",
                overview_resampling=resampling, bigtiff="if_safer",
            )  # fmt: skip
        self._check_complete(file)
        return file

    @contextlib.contextmanager
    def _gdal(self) -> Iterator[None]:
        """Turn an error of GDAL into an OSError, with the reason that GDAL does not give."""
        try:
            with gdal_settings():
                yield
        except Exception as error:
            # Errors of GDAL's own are of no public class, or a SystemError where GDAL says nothing.
            is_gdal = type(error).__module__.startswith("rasterio")
            if not (is_gdal or isinstance(error, SystemError)):
                raise
            reason = error.__cause__ or error if is_gdal else "no reason is known"
            raise self._failed(reason) from None

    def _check_complete(self, file: Path) -> None:
        """Check that every tile lies in the file: closing it does not report errors."""
        size = file.stat().st_size
        try:
            with collect_complaints() as complaints, tifffile.TiffFile(file) as tiff:
                tiles = [
                    tile
                    for page in tiff.pages
                    for tile in zip(page.dataoffsets, page.databytecounts, strict=True)
                ]
        except (ValueError, IndexError, KeyError, tifffile.TiffFileError) as error:
            raise self._failed(error) from None
        is_whole = all(0 < offset < offset + count <= size for offset, count in tiles)
        if complaints or not tiles or not is_whole:
            raise self._failed("its end is missing")

    def _failed(self, reason: object) -> OSError:
        if shutil.disk_usage(self._folder).free < _FULL:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        return OSError(errno.EIO, f"GDAL cannot write it ({reason})", str(self._path))
