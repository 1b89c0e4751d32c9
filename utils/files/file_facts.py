"""The header of an image file, read without decoding the pixels."""

import contextlib
import dataclasses
import io
import os
import warnings

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from utils.files.data_file import DataError, StrPath, damaged, open_file, read_bytes
from utils.files.jpeg_file import JPEG_START, read_jpeg_header
from utils.files.npy_file import NPY_START
from utils.files.png_file import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    PNG_START,
    RGB,
    RGB_ALPHA,
    read_png_header,
)
from utils.files.tiff_io import TIFF_STARTS, collect_complaints

_ORIENTATION = 0x0112
_NO_IMAGE = 0b101  # NewSubfileType: an overview or thumbnail, a mask
_PNG_MODES = {
    GREY: "grey", RGB: "RGB", PALETTE: "palette", GREY_ALPHA: "grey+alpha", RGB_ALPHA: "RGBA",
}  # fmt: skip
# PhotometricInterpretation and channels -> mode
_TIFF_MODES = {(2, 3): "RGB", (2, 4): "RGBA", (3, 1): "palette", (5, 4): "CMYK", (6, 3): "RGB"}
# Pillow's mode -> mode, channels, bits of a channel.
_PILLOW_MODES = {
    "1": ("grey", 1, 1), "L": ("grey", 1, 8), "P": ("palette", 1, 8), "RGB": ("RGB", 3, 8),
    "RGBA": ("RGBA", 4, 8), "RGBX": ("RGBA", 4, 8), "CMYK": ("CMYK", 4, 8),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """How an image is stored."""

    format: str  # "JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF" or "NPY"
    # "grey", "palette", "RGB", "RGBA", "grey+alpha", "CMYK" or "4 bands"; prefixed by "16-bit " or
    # "float " if values do not have 8 bits.
    mode: str
    width: int  # in pixels
    height: int  # in pixels
    channels: int  # values of each pixel; a palette image has one
    bits: int  # bits of each value
    frames: int  # images in the file, without overviews and thumbnails
    exif_orientation: int | None  # 1 to 8 (1: upright), or None if the file has none
    size_bytes: int  # size of the file


def file_facts(path: StrPath) -> FileFacts:
    """Read the header of an image or mask.

    A header can be right although the pixels are damaged; only reading them tells.

    Raises:
        DataError: If the file cannot be opened, or no header is found in it.
    """
    with open_file(path) as file:
        start = file.read(16)
    if start.startswith(JPEG_START):
        return _jpeg(path)
    if start.startswith(PNG_START):
        return _png(path)
    try:
        if start.startswith(TIFF_STARTS):
            return _tiff(path)
        if start.startswith(NPY_START):
            return _npy(path)
        return _other(path)
    except UnidentifiedImageError:
        raise DataError(
            f"{path}: is not an image that can be read (it begins with {start!r})"
        ) from None
    except Exception as error:
        # A damaged header can make the reader raise anything.
        raise damaged(path, f"has a damaged header ({error})") from None


def _jpeg(path: StrPath) -> FileFacts:
    data = read_bytes(path)
    header = read_jpeg_header(path, data)
    channels = len(header.sampling)
    mode = {3: "RGB", 4: "CMYK"}.get(channels, _bands(channels))
    return FileFacts(
        "JPEG", _deep(mode, header.bits), header.width, header.height, channels, header.bits, 1,
        orientation_of(header.exif), len(data),
    )  # fmt: skip


def _png(path: StrPath) -> FileFacts:
    data = read_bytes(path)
    header = read_png_header(path, data)
    mode = _deep(_PNG_MODES[header.colour], header.bits)
    return FileFacts(
        "PNG", mode, header.width, header.height, header.channels, header.bits, header.frames,
        orientation_of(header.exif), len(data),
    )  # fmt: skip


def _tiff(path: StrPath) -> FileFacts:
    # Complaints matter only to a reader of the pixels.
    with open_file(path) as file, collect_complaints(), tifffile.TiffFile(file) as tiff:
        # Count first: in a circular chain of pages, a loop over `pages` would not end.
        if len(tiff.pages) == 0:
            raise ValueError("it has no page")
        page = tiff.pages.first
        frames = sum(not getattr(other, "subfiletype", 0) & _NO_IMAGE for other in tiff.pages)
        channels, bits = page.samplesperpixel, page.bitspersample
        tag = page.tags.get(_ORIENTATION)
        size = os.fstat(file.fileno()).st_size
    width, height = int(page.imagewidth), int(page.imagelength)
    mode = _TIFF_MODES.get((int(page.photometric), channels), _bands(channels))
    is_float = page.dtype is not None and page.dtype.kind == "f"
    return FileFacts(
        "TIFF", _deep(mode, bits, is_float), width, height, channels, bits, max(1, frames),
        None if tag is None else int(tag.value), size,
    )  # fmt: skip


def _npy(path: StrPath) -> FileFacts:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim not in (2, 3):
        raise ValueError(f"{array.ndim} dimensions; expected 2 or 3")
    height, width, *bands = array.shape
    if bands and height < min(width, bands[0]):  # the bands come first
        bands, height, width = [height], width, bands[0]
    channels = bands[0] if bands else 1
    bits, is_float = 8 * array.dtype.itemsize, array.dtype.kind == "f"
    mode = _bands(channels)
    return FileFacts(
        "NPY", _deep(mode, bits, is_float), width, height, channels, bits, 1, None,
        os.stat(path).st_size,
    )  # fmt: skip


def _other(path: StrPath) -> FileFacts:
    data = read_bytes(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=("BMP", "GIF", "WEBP"))
    mode, channels, bits = _PILLOW_MODES[image.mode]
    return FileFacts(
        image.format or "", _deep(mode, bits), *image.size, channels, bits,
        getattr(image, "n_frames", 1), orientation_of(image.info.get("exif", b"")), len(data),
    )  # fmt: skip


def _bands(channels: int) -> str:
    return "grey" if channels == 1 else f"{channels} bands"


def _deep(mode: str, bits: int, is_float: bool = False) -> str:
    if is_float:
        return f"float {mode}"
    return mode if bits == 8 else f"{bits}-bit {mode}"


def orientation_of(exif: bytes) -> int | None:
    """Return the orientation, 1 to 8, that EXIF data names; None if it names none."""
    if not exif:
        return None
    tags = Image.Exif()
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        # Damaged EXIF data do not make a damaged image.
        warnings.simplefilter("ignore")
        tags.load(exif)
    value = tags.get(_ORIENTATION)
    return value if value in range(1, 9) else None
