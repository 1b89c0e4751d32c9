"""Checks of a TIFF's compressed strips and tiles, before anything decodes them."""

import importlib.util
import lzma
import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import simplejpeg

from utils.files.data_file import DataError, StrPath, check_stored
from utils.files.jpeg_file import MAX_IN_JPEG

_JPEG = (6, 7)
_DEFLATE = (8, 32946)
_LZMA = 34925
# Maximum bytes that one byte can hold; LZW: 3840 in twelve bits. For other compressions there is
# nearly no limit.
MAX_IN_BYTE = {5: 2600, **dict.fromkeys(_DEFLATE, 1032), 32773: 64}
_BLOCK = 32  # pixels by which an encoder may pad a strip or tile
_SLACK = 1 << 20  # bytes of a strip beyond its rows


def check_segments(path: StrPath, series: Any) -> None:
    """Refuse strips and tiles that decoders would make up, or that take far too much memory.

    Raises:
        DataError: If a JPEG is damaged, or a strip or tile unpacks to more than its pixels, or
            cannot unpack to as many.
    """
    page = series.keyframe
    kind = int(page.compression)
    for each in series.pages:
        if kind in MAX_IN_BYTE and all(each.databytecounts):  # 0: GDAL leaves out empty ones
            bits = math.prod(page.shape) * page.bitspersample
            check_stored(path, bits // 8, sum(each.databytecounts), MAX_IN_BYTE[kind])
    if _needs_check(page):
        for data in _segments(series):
            check_segment(path, page, data)


def _needs_check(page: Any) -> bool:
    kind = int(page.compression)
    if kind in (*_DEFLATE, _LZMA):
        # tifffile's own decoder unpacks everything; imagecodecs stops at the end of the strip.
        return importlib.util.find_spec("imagecodecs") is None
    return kind in _JPEG and page.dtype == np.uint8


def check_segment(path: StrPath, page: Any, data: bytes) -> None:
    """Refuse one strip or tile of a page as `check_segments()` does.

    Raises:
        DataError: If it is damaged.
    """
    if not _needs_check(page):
        return
    kind = int(page.compression)
    if kind in _JPEG:
        width, height = page.tilewidth or page.imagewidth, page.tilelength or page.rowsperstrip
        most = (width + _BLOCK) * (min(height, page.imagelength) + _BLOCK)
        _check_jpeg(path, data, page.jpegtables, most)
    else:
        most = math.prod(page.chunks) * page.dtype.itemsize + _SLACK
        _check_inflated(path, data, most, is_lzma=kind == _LZMA)


def _segments(series: Any) -> Iterator[bytes]:
    for page in series.pages:
        file = page.parent.filehandle
        for data, _ in file.read_segments(page.dataoffsets, page.databytecounts):
            if data:
                yield data


def _check_jpeg(path: StrPath, data: bytes, tables: bytes | None, most: int) -> None:
    """Refuse a damaged JPEG; libtiff and tifffile silently make up what is missing.

    https://www.awaresystems.be/imaging/tiff/specification/TIFFTechNote2.pdf
    """
    whole = tables[:-2] + data[2:] if tables else data  # without the end and start markers
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(whole)
        if height * width > min(most, len(data) * MAX_IN_JPEG):
            raise ValueError(f"it claims {width}x{height} pixels, more than it can hold")
        simplejpeg.decode_jpeg(whole, "CMYK" if space in ("CMYK", "YCCK") else "RGB")
    except ValueError as error:
        raise DataError(
            f"{path}: is damaged, or has a JPEG in which damage cannot be detected ({error}); copy "
            "it again, or export it without JPEG compression"
        ) from None


def _check_inflated(path: StrPath, data: bytes, most: int, *, is_lzma: bool) -> None:
    try:
        unpacker = lzma.LZMADecompressor() if is_lzma else zlib.decompressobj()
        size = len(unpacker.decompress(data, most + 1))
    except (zlib.error, lzma.LZMAError):
        return  # the decoder raises a better error
    if size > most:
        raise DataError(
            f"{path}: is damaged: a strip or tile unpacks to more than its pixels; export it again"
        )
