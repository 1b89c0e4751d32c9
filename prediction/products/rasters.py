"""Products with a pixel for each pixel of the image: ids, masks, confidence, probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prediction.products.rows import ImageFacts, Rows
from utils.cli.sanitize import one_line
from utils.drawing.palette import mask_palette
from utils.files.geotiff_writer import GeoTiffWriter
from utils.files.npy_writer import NpyWriter
from utils.files.png_file import GREY, PALETTE
from utils.files.png_writer import PngWriter
from utils.files.row_writer import RowWriter
from utils.files.tiff_writer import TiffWriter

if TYPE_CHECKING:
    from prediction.products.kinds import Settings


class Raster:
    """A file whose pixels are computed from those of the same place in `Rows`.

    Args:
        writer: The file.
        pixels: Computes its rows.
        needs: The fields of `Rows` that this takes beside the ids.
    """

    def __init__(
        self, writer: RowWriter, pixels: Callable[[Rows], np.ndarray], needs: Iterable[str] = ()
    ) -> None:
        self.needs = needs
        self._writer = writer
        self._pixels = pixels

    def write(self, rows: Rows) -> None:
        """Take the next rows."""
        self._writer.write(self._pixels(rows))

    def finish(self) -> None:
        """Complete the file and give it its name."""
        self._writer.finish()

    def discard(self) -> None:
        """Remove what has been written, unless the file is complete."""
        self._writer.discard()


def open_ids(path: Path, facts: ImageFacts, settings: Settings) -> Raster:
    """Open the file of the class ids: a PNG or TIFF with the classes' colours, or an array.

    Ids of 256 classes and more, whose ignored id is beyond 255, take 16 bits, and have no colours.
    """
    largest = max(len(facts.classes) - 1, facts.ignore_index or 0)
    dtype = np.dtype(np.uint8 if largest < 256 else np.uint16)
    colours = mask_palette(facts.palette) if dtype == np.uint8 else ()
    size = (facts.height, facts.width)
    writer: RowWriter
    if path.suffix == ".npy":
        writer = NpyWriter(path, size, dtype, overwrite=settings.overwrite)
    elif path.suffix == ".tif":
        writer = _open_tiff(path, facts, settings, size, dtype, colours, facts.ignore_index)
    else:
        writer = PngWriter(
            path, facts.width, facts.height, colour=PALETTE if colours else GREY,
            bits=8 * dtype.itemsize, palette=colours, overwrite=settings.overwrite,
        )  # fmt: skip
    return Raster(writer, lambda rows: _narrowed(path, rows.ids, dtype))


def open_class_mask(path: Path, facts: ImageFacts, settings: Settings, class_id: int) -> Raster:
    """Open the file of one class's pixels: 255 where an image shows it, else 0."""
    writer: RowWriter
    if path.suffix == ".tif":
        size = (facts.height, facts.width)
        writer = _open_tiff(path, facts, settings, size, np.dtype(np.uint8))
    else:
        writer = PngWriter(path, facts.width, facts.height, overwrite=settings.overwrite)
    return Raster(writer, lambda rows: np.where(rows.ids == class_id, np.uint8(255), np.uint8(0)))


def open_values(path: Path, facts: ImageFacts, settings: Settings, field: str) -> Raster:
    """Open the file of a field of `Rows` in 0..1: 0..255 in a PNG, as it is in a float32 TIFF.

    Where the image has no data, that is 0 in a PNG, and NaN in a TIFF.
    """
    writer: RowWriter
    if path.suffix == ".tif":
        size = (facts.height, facts.width)
        nodata = np.nan if facts.may_miss else None
        writer = _open_tiff(path, facts, settings, size, np.dtype(np.float32), nodata=nodata)
        return Raster(writer, lambda rows: getattr(rows, field), (field,))
    writer = PngWriter(path, facts.width, facts.height, flat=False, overwrite=settings.overwrite)

    def grey(rows: Rows) -> np.ndarray:
        values = getattr(rows, field) * np.float32(255)
        return np.rint(np.nan_to_num(values, copy=False)).astype(np.uint8)

    return Raster(writer, grey, (field,))


def open_probabilities(path: Path, facts: ImageFacts, settings: Settings) -> Raster:
    """Open the file of the probabilities (K, H, W): a float16 array, or a TIFF of float32 bands."""
    shape = (len(facts.classes), facts.height, facts.width)
    writer: RowWriter
    if path.suffix == ".tif":
        names = tuple(map(one_line, facts.classes))
        nodata = np.nan if facts.may_miss else None
        writer = _open_tiff(
            path, facts, settings, shape, np.dtype(np.float32), nodata=nodata, bands=names
        )
    else:
        writer = NpyWriter(path, shape, np.float16, overwrite=settings.overwrite)
    return Raster(writer, lambda rows: _there(rows.probabilities), ("probabilities",))


def _open_tiff(
    path: Path,
    facts: ImageFacts,
    settings: Settings,
    shape: tuple[int, ...],
    dtype: np.dtype,
    palette: Sequence[Sequence[int]] = (),
    nodata: float | None = None,
    bands: Sequence[str] = (),
) -> RowWriter:
    """Open a TIFF, with the image's geo-reference if it has one."""
    if facts.geo is None:
        return TiffWriter(
            path, shape, dtype, palette=palette, nodata=nodata, overwrite=settings.overwrite
        )
    return GeoTiffWriter(
        path, shape, dtype, facts.geo, palette=palette, nodata=nodata, bands=bands,
        overwrite=settings.overwrite,
    )  # fmt: skip


def _there(field: np.ndarray | None) -> np.ndarray:
    assert field is not None  # `needs` asks for it
    return field


def _narrowed(path: Path, ids: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return ids in the type of the file.

    Raises:
        ValueError: If one does not fit.
    """
    if ids.dtype == dtype:
        return ids
    limit = np.iinfo(dtype).max
    if ids.size and ids.max() > limit:
        raise ValueError(f"{path}: an id is {ids.max()}; the file can have 0 to {limit}")
    return ids.astype(dtype)
