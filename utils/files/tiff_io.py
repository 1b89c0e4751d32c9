"""TIFF files of any number of bands and any sample type, exactly as stored."""

import contextlib
import logging
import math
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from utils.files.data_file import DataError, StrPath, check_pixels, damaged, open_file
from utils.files.gdal import gdal_settings, has_rasterio
from utils.files.tiff_checks import check_segments

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, either byte order
MAX_BYTES = 4 << 30

_ORIENTATION = 274
_GDAL_NODATA = 42113  # https://gdal.org/en/stable/drivers/raster/gtiff.html
BAND_AXES = "SCIQ"  # samples, channels, and pages without another meaning
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # PhotometricInterpretation -> its samples
WHITE_IS_ZERO, _RGB, YCBCR = 0, 2, 6
GREY_OR_RGB = (0, 1, 2)
_JPEG = 7
_ALPHA = (1, 2)  # ExtraSamples: premultiplied or not

# A microscope's file may continue in others; only the named file is read.
ONE_FILE: dict[str, Any] = {"_multifile": False, "is_mmstack": False, "is_ndtiff": False}


def read_tiff(path: StrPath) -> tuple[np.ndarray, float | None]:
    """Read all bands of a TIFF.

    Bands are the samples of one page, interleaved or planar, or several pages of one size and one
    sample. Overviews and masks, flagged as such (NewSubfileType), are not bands. Values are as
    stored: palette images give their indices, and white-is-zero images are not inverted. If
    installed, rasterio reads files that tifffile cannot decode.

    Format: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf

    Returns:
        Pixels (H, W, C) in the file's type and the machine's byte order, and the value that
        marks missing ones (GDAL_NODATA) or None.

    Raises:
        DataError: If the file is missing, cut off, damaged, too large, has several images, or is
            compressed in a way that needs a package that is not installed.
    """
    with _open(path) as series:
        _check(path, series)
        nodata = nodata_of(path, series.keyframe)
        return _decode(path, series, nodata), nodata


def read_plain_tiff(path: StrPath) -> np.ndarray | None:
    """Read a TIFF of `is_plain_tiff` as RGB, if tifffile knows its colours.

    Returns:
        (H, W, 3) uint8, or None for palettes, CMYK, YCbCr, and compressions that need another
        package: the file is complete, and Pillow can read it.

    Raises:
        DataError: As `read_tiff`.
    """
    with _open(path) as series:
        _check(path, series)
        page = series.keyframe
        if not (is_known(page) and has_known_colours(page)):
            return None
        return as_rgb(page, _decode(path, series, None))


def has_known_colours(page: Any) -> bool:
    """Return whether `as_rgb()` knows the colours of a page."""
    kind, is_jpeg = int(page.photometric), int(page.compression) == _JPEG
    return kind in GREY_OR_RGB or (kind == YCBCR and is_jpeg)


def as_rgb(page: Any, pixels: np.ndarray) -> np.ndarray:
    """Return pixels (h, w, C) of an 8-bit page as RGB (h, w, 3) uint8, without its alpha."""
    if pixels.dtype == np.bool_:
        pixels = pixels * np.uint8(255)
    if int(page.photometric) == WHITE_IS_ZERO:
        pixels = 255 - pixels
    bands = [0, 1, 2] if pixels.shape[2] > 2 else [0, 0, 0]
    return np.ascontiguousarray(pixels[..., bands])


def tiff_nodata(path: StrPath) -> float | None:
    """Return the value that marks missing pixels of a TIFF; None if there is none, or no TIFF.

    Raises:
        DataError: As `read_tiff`.
    """
    with open_file(path) as file:
        if not file.read(4).startswith(TIFF_STARTS):
            return None
    with _open(path) as series:
        return nodata_of(path, series.keyframe)


def holds_bands(path: StrPath) -> bool:
    """Return whether a TIFF of `is_plain_tiff` must be read band by band nevertheless.

    It must if it names a value for missing pixels, or if its alpha channel is not transparency:
    rasterio and tifffile write the fourth band of red, green, blue and infrared as alpha.

    Raises:
        DataError: As `read_tiff`.
    """
    with _open(path) as series:
        page = series.keyframe
        if int(page.photometric) in GREY_OR_RGB and _GDAL_NODATA in page.tags:
            return True
        if page.samplesperpixel != 4 or int(page.photometric) != _RGB:
            return False
    alpha = read_tiff(path)[0][..., 3]
    first = alpha.flat[0]
    return bool((alpha != first).any() and ((alpha != 0) & (alpha != 255)).any())


def is_plain_tiff(path: StrPath) -> bool:
    """Return whether a TIFF is an ordinary image: 8 bits, and grey, palette, RGB(A) or CMYK.

    Raises:
        DataError: If the header cannot be used.
    """
    with _open(path) as series:
        return len(series.pages) == 1 and _is_plain(series.keyframe)


def _is_plain(page: Any) -> bool:
    alpha = len(page.extrasamples) == 1 and int(page.extrasamples[0]) in _ALPHA
    samples = _COLOURS.get(int(page.photometric), 0) + alpha
    return page.dtype in (np.uint8, np.bool_) and page.samplesperpixel == samples


@contextlib.contextmanager
def _open(path: StrPath) -> Iterator[Any]:
    """Yield the pages of a TIFF's image; any failure of a damaged file is a `DataError`."""
    with open_file(path) as file, collect_complaints() as complaints:
        try:
            with tifffile.TiffFile(file, **ONE_FILE) as tiff:
                # Count first: in a circular chain of pages, `series` would not end.
                if len(tiff.pages) == 0:
                    raise ValueError("it has no page")
                series = only_series(path, tiff.series)
                if complaints:
                    raise ValueError(complaints[0])
                yield series
        except (DataError, OSError):
            raise
        except Exception as error:
            # A damaged header can make the decoder raise anything.
            if "imagecodecs" in str(error):
                raise needs_codec(path, str(error)) from None
            raise damaged(path, f"is cut off or damaged ({error})") from None


@contextlib.contextmanager
def collect_complaints() -> Iterator[list[str]]:
    """Collect errors that tifffile only logs, such as a page offset beyond the file's end."""
    found: list[str] = []
    thread = threading.get_ident()

    def collect(record: logging.LogRecord) -> bool:
        if record.thread == thread and record.levelno >= logging.ERROR:
            found.append(record.getMessage())
        return record.thread != thread

    logger = logging.getLogger("tifffile")
    logger.addFilter(collect)
    try:
        yield found
    finally:
        logger.removeFilter(collect)


def only_series(path: StrPath, every: list[Any]) -> Any:
    """Return the one image of a file, without its overviews and masks."""
    found = [s for s in every if not (s.keyframe.is_reduced or s.keyframe.is_mask)]
    if len(found) != 1:
        shapes = " and ".join("x".join(map(str, series.shape)) for series in found[:3])
        raise DataError(
            f"{path}: has {len(found)} images of different kinds ({shapes or 'none'}); "
            "save the one to use as a file of its own"
        )
    return found[0]


def _check(path: StrPath, series: Any) -> None:
    _check_size(path, series)
    check_complete(path, series)
    check_segments(path, series)


def _check_size(path: StrPath, series: Any) -> None:
    """Check the header against the limits, before memory is allocated."""
    page = series.keyframe
    check_pixels(path, page.imagewidth, page.imagelength)
    shape = "x".join(map(str, series.shape))
    if series.dtype is None:
        raise DataError(
            f"{path}: has samples of {page.bitspersample} bits in format {page.sampleformat}, "
            "which cannot be read; save it with 8, 16 or 32 bits, the same in all bands"
        )
    if series.size * series.dtype.itemsize > MAX_BYTES:
        raise DataError(
            f"{path}: claims {shape} values, more than {MAX_BYTES >> 30} GiB; cut it into tiles"
        )
    others = [axis for axis in series.axes if axis not in "YX"]
    if page.imagedepth > 1 or len(others) > 1 or set(others) - set(BAND_AXES):
        raise DataError(
            f"{path}: has the axes {series.axes} ({shape}); expected rows, columns and one axis "
            "of bands; save each image as a file of its own"
        )


def check_complete(path: StrPath, series: Any) -> None:
    """Check that every strip and tile lies in the file; decoders may make up missing ones."""
    end = series.dataoffset + series.size * series.dtype.itemsize if series.dataoffset else 0
    for page in series.pages:
        offsets, counts = page.dataoffsets, page.databytecounts
        if page.is_contiguous:
            lacks = 0 < sum(counts) < page.nbytes  # 0: left out, see _decode
        else:
            lacks = min(len(offsets), len(counts)) < math.prod(page.chunked)
        if lacks:
            raise damaged(path, "is damaged: its header lists too few strips or tiles")
        end = max(end, *(int(o) + int(c) for o, c in zip(offsets, counts, strict=False)))
    size = os.stat(path).st_size
    if end > size:
        raise damaged(path, f"is cut off: its pixels end at byte {end}, the file at {size}")


def _decode(path: StrPath, series: Any, nodata: float | None) -> np.ndarray:
    """Return all values (H, W, C), by a package that can decode them."""
    page = series.keyframe
    known = is_known(page)
    single = len(series.pages) == 1
    if single and not known and has_rasterio():
        return _read_gdal(path, series.dtype)
    if any(p.is_contiguous and p.dataoffsets[0] == 0 for p in series.pages):
        # GDAL writes no data for empty strips, and tifffile would read the header as pixels.
        return _bands_last(np.full(series.shape, nodata or 0, series.dtype), series.axes)
    if known:
        return _bands_last(series.asarray(maxworkers=1), series.axes)
    # Pillow would silently change the values of other kinds, and it turns an image that has an
    # orientation.
    upright = page.tags.valueof(_ORIENTATION, default=1) == 1
    plain = single and upright and _is_plain(page)
    if plain and page.photometric in (1, 2) and not page.extrasamples:
        pixels = np.array(Image.open(path))
        return pixels.reshape(*pixels.shape[:2], -1)
    raise needs_codec(path, f"compression {page.compression.name}, predictor {page.predictor}")


def is_known(page: Any) -> bool:
    """Return whether tifffile can decode a page with the installed packages."""
    return (
        page.compression in tifffile.TIFF.DECOMPRESSORS
        and page.predictor in tifffile.TIFF.UNPREDICTORS
    )


def _read_gdal(path: StrPath, dtype: np.dtype) -> np.ndarray:
    """Return the same values (H, W, C), read by GDAL."""
    import rasterio
    from rasterio.errors import RasterioError

    with gdal_settings():
        try:
            with rasterio.open(path, driver="GTiff") as source:
                pixels = source.read()
        except RasterioError as error:
            raise ValueError(str(error)) from None
    return np.moveaxis(pixels, 0, 2).astype(dtype.newbyteorder("="), copy=False)


def needs_codec(path: StrPath, what: str) -> DataError:
    """Return the error of a file whose compression no installed package knows."""
    return DataError(
        f"{path}: cannot be decoded ({what}) without another package: pip install imagecodecs "
        "(or rasterio)"
    )


def _bands_last(pixels: np.ndarray, axes: str) -> np.ndarray:
    """Return (H, W, C) without a change of the order in memory."""
    bands = [axis for axis in axes if axis not in "YX"]
    if not bands:
        return pixels[..., None]
    return pixels.transpose([axes.index(axis) for axis in ("Y", "X", *bands)])


def nodata_of(path: StrPath, page: Any) -> float | None:
    """Return the value of GDAL's nodata tag."""
    tag = page.tags.get(_GDAL_NODATA)
    if tag is None:
        return None
    text = str(tag.value).strip(" \0")
    try:
        return float(text)
    except ValueError:
        raise DataError(
            f"{path}: its nodata tag is {text!r}; expected a number. Remove it with "
            "gdal_edit.py -unsetnodata, and set nodata in the config"
        ) from None
