"""Opens an image: small ones are read at once, large ones window by window."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from prediction.source.image_source import (
    ImageSource,
    MaskedImage,
    PixelRule,
    SpooledImage,
    ToRgb,
    UprightImage,
    WindowedImage,
    load_image,
)
from utils.files.data_file import MAX_PIXELS, DataError, open_file
from utils.files.gdal import has_rasterio
from utils.files.image_head import UPRIGHT, read_head
from utils.files.jpeg_file import JPEG_START
from utils.files.npy_file import NPY_START
from utils.files.png_file import PNG_START, check_png_file
from utils.files.raster_window import GdalMask, GdalWindows, NpyWindows, RasterWindows, RowsInOrder
from utils.files.tiff_io import TIFF_STARTS
from utils.files.tiff_windows import TiffWindows

# More pixels than Pillow's limit in fewer bytes than this for each is what bombs have, and empty
# maps: photographs have at least a tenth of a byte.
_BYTES_OF_A_PIXEL = 1 / 50

# A strip of a TIFF that is larger than this is not decoded at once.
_LARGE_STRIP = 64 << 20


@dataclasses.dataclass(frozen=True)
class Limits:
    """What may be in memory of an image."""

    whole: float  # the most bytes of an image that stays in memory
    # The most bytes of an image that is decoded at once, and then kept in a file: of a format that
    # has no windows, or is decoded by GDAL with slightly different colours.
    once: float = 1 << 30
    rows: float = 64 << 20  # the most bytes of rows that are kept of a file read in order
    folder: Path | None = None  # where other rows go; None for the system's temporary folder
    large: bool = False  # whether more pixels are meant than a file's size makes likely


def open_map(path: Path, rule: PixelRule, limits: Limits) -> ImageSource:
    """Open a geo-referenced image, with the mask or alpha band that says where it has data.

    Raises:
        DataError: As `open_image()`.
    """
    source = open_image(path, rule, limits)
    bands = rule.band_rule
    takes_all = bands is not None and (bands.bands is None or bands.channels in bands.bands)
    mask = GdalMask(path, alpha=not takes_all)
    return MaskedImage(source, mask) if mask.exists else source


def open_image(path: Path, rule: PixelRule, limits: Limits) -> ImageSource:
    """Open an image.

    Raises:
        DataError: If it cannot be read, claims a size that is not likely, or is too large for its
            format and the packages that are installed.
    """
    head = read_head(path)
    count = head.width * head.height
    if count > MAX_PIXELS and not limits.large:
        _refuse_bomb(path, head.width, head.height)
    decoded = count * _bytes_of_pixel(path, rule)
    if count <= MAX_PIXELS and decoded <= limits.whole:
        return load_image(path, rule)
    source = _open_windows(path, rule, limits)
    if rule.exif == "apply" and head.orientation != UPRIGHT:
        return UprightImage(source, head.orientation)
    return source


def _refuse_bomb(path: Path, width: int, height: int) -> None:
    size = os.stat(path).st_size
    if width * height * _BYTES_OF_A_PIXEL > size:
        raise DataError(
            f"{path}: claims {width}x{height} pixels in {size} bytes, which is likely a damaged or "
            "hostile file; if it is meant, such as a mostly empty map, add --large"
        )


def _bytes_of_pixel(path: Path, rule: PixelRule) -> int:
    """Return how many bytes a decoded pixel takes, about."""
    if rule.band_rule is None:
        return 3
    return rule.band_rule.channels * np.dtype(rule.band_rule.dtype).itemsize


def _open_windows(path: Path, rule: PixelRule, limits: Limits) -> ImageSource:
    """Open the files of an image for windows; decode it once where its format has none."""
    opened: list[RasterWindows] = []
    try:
        for each in rule.paths(path):
            raster = _open_raster(each, rule, limits)
            if raster is None:
                return _spooled(path, rule, limits)
            opened.append(raster)
        return WindowedImage(opened, rule, _rgb_of(opened[0]))
    except BaseException:
        for raster in opened:
            raster.close()
        raise


def _open_raster(path: Path, rule: PixelRule, limits: Limits) -> RasterWindows | None:
    """Open one file; None if it is to be decoded at once."""
    with open_file(path) as file:
        start = file.read(16)
    if start.startswith(NPY_START):
        return NpyWindows(path)
    if start.startswith(TIFF_STARTS):
        return _open_tiff(path, rule, limits)
    if rule.band_rule is not None:
        return None
    if start.startswith(PNG_START) and has_rasterio():
        check_png_file(path)
        return _in_order(functools.partial(GdalWindows, path, "PNG"), limits)
    if start.startswith(JPEG_START) and has_rasterio() and not _fits_once(path, limits):
        # GDAL's decoder smooths colours otherwise than libjpeg-turbo, which decodes whole images.
        return _in_order(functools.partial(GdalWindows, path, "JPEG"), limits)
    return None


def _open_tiff(path: Path, rule: PixelRule, limits: Limits) -> RasterWindows | None:
    tiff = TiffWindows(path)
    if rule.band_rule is None and not tiff.has_known_colours:
        tiff.close()
        return None
    if tiff.is_tiled:
        return tiff
    tiff.close()
    if tiff.block_bytes > max(limits.rows, _LARGE_STRIP):
        # One strip that is the whole image: GDAL decodes it row by row.
        return _in_order(functools.partial(GdalWindows, path, "GTiff"), limits)
    return _in_order(functools.partial(TiffWindows, path), limits)


def _in_order(opener: Callable[[], RasterWindows], limits: Limits) -> RowsInOrder:
    return RowsInOrder(opener, limits.rows, limits.folder)


def _fits_once(path: Path, limits: Limits) -> bool:
    """Return whether an image of 8-bit colours may be decoded at once."""
    head = read_head(path)
    count = head.width * head.height
    return count <= MAX_PIXELS and 3 * count + os.stat(path).st_size <= limits.once


def _spooled(path: Path, rule: PixelRule, limits: Limits) -> ImageSource:
    """Decode an image at once and keep it in a file.

    Raises:
        DataError: If it is too large for that.
    """
    head = read_head(path)
    if not _fits_once(path, limits):
        raise DataError(
            f"{path}: has {head.width}x{head.height} pixels, and such a file is decoded at once, "
            f"for which {limits.once / 1e6:.0f} MB are not enough: "
            + ("save it as TIFF" if has_rasterio() else "pip install rasterio, or save it as TIFF")
            + ", or raise --memory"
        )
    loaded = load_image(path, dataclasses.replace(rule, exif=None))
    return SpooledImage(path, loaded, limits.folder)


def _rgb_of(raster: RasterWindows) -> ToRgb:
    """Return what makes RGB of a file's values, as `read_image()` does."""
    inner = raster.source if isinstance(raster, RowsInOrder) else raster
    if isinstance(inner, TiffWindows):
        return inner.rgb
    colours = inner.colours() if isinstance(inner, GdalWindows) else None
    bits = inner.bits if isinstance(inner, GdalWindows) else 8

    def to_rgb(stored: np.ndarray) -> np.ndarray:
        if stored.dtype != np.uint8:
            raise DataError(f"{raster.path}: has {stored.dtype} values; convert it to 8 bits")
        if colours is not None:
            made: np.ndarray = colours[stored[..., 0]]
            return made
        if bits < 8:
            stored = stored * np.uint8(255 // (2**bits - 1))
        bands = [0, 1, 2] if stored.shape[2] >= 3 else [0, 0, 0]
        return np.ascontiguousarray(stored[..., bands])

    return to_rgb
