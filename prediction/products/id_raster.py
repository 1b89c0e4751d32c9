"""The ids of an image on disk, where GDAL can read them again and again."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from utils.files.gdal import gdal_settings, import_rasterio


class IdRaster:
    """A temporary TIFF beside a product, so that a large image takes no memory.

    Args:
        beside: The product.
        height: H of the image.
        width: W of the image.
    """

    def __init__(self, beside: Path, height: int, width: int) -> None:
        self._path = beside.with_name(f".{uuid.uuid4().hex[:12]}.tmp")
        self._size = (height, width)
        self._file: Any = None

    def write(self, top: int, ids: np.ndarray) -> None:
        """Write the next rows, (h, W) uint8 or uint16.

        Raises:
            OSError: If they cannot be written.
        """
        rasterio = import_rasterio("polygons are drawn by GDAL")
        with gdal_settings():
            if self._file is None:
                height, width = self._size
                self._file = rasterio.open(
                    self._path, "w", driver="GTiff", height=height, width=width, count=1,
                    dtype=ids.dtype, compress="lzw", bigtiff="if_safer",
                )  # fmt: skip
            window = rasterio.windows.Window(0, top, ids.shape[1], len(ids))
            self._file.write(ids, 1, window=window)

    @contextlib.contextmanager
    def band(self) -> Iterator[Any]:
        """Open what has been written as a band of rasterio, within this context.

        Raises:
            OSError: If it cannot be read.
        """
        rasterio = import_rasterio("polygons are drawn by GDAL")
        with gdal_settings():
            self._close()
            with rasterio.open(self._path, driver="GTiff") as file:
                yield rasterio.band(file, 1)

    def remove(self) -> None:
        """Remove the file; may be called at any time, also twice."""
        with contextlib.suppress(OSError):
            self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
