"""Read images and label masks, the same way everywhere."""

import contextlib
import functools
import io
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageFile, UnidentifiedImageError

from utils.cli.extensions import IMAGE_EXTENSIONS
from utils.files.data_file import (
    DataError,
    StrPath,
    check_pixels,
    check_stored,
    damaged,
    read_bytes,
)
from utils.files.file_facts import file_facts
from utils.files.file_notes import add_note
from utils.files.jpeg_end import mending_command, with_proper_end
from utils.files.jpeg_file import JPEG_START, MAX_IN_JPEG, JpegHeader, mend_scan, read_jpeg_header
from utils.files.npy_file import NPY_START, read_npy
from utils.files.png_file import (
    MAX_INFLATION,
    PALETTE,
    PNG_START,
    RGB,
    RGB_ALPHA,
    PngHeader,
    needed_chunks,
    read_png_header,
)
from utils.files.tiff_io import TIFF_STARTS, is_plain_tiff, read_plain_tiff, read_tiff

# The formats that Pillow reads; others hide damage, or start other programs.
_PILLOW_FORMATS = ("BMP", "GIF", "TIFF", "WEBP")

# Pixels that a byte can hold. GIF: at most 3839 pixels in twelve bits. A lossless WebP may need no
# bit for a pixel.
_MAX_IN_BYTE = {"BMP": 8, "GIF": 2600}

_LARGEST_ID = 1 << 31
_IGNORED_ID = 255  # ignored by default

# Pillow always applies the orientation of a TIFF, and only of a TIFF.
_TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip


def read_image(path: StrPath) -> np.ndarray:
    """Read an 8-bit image as RGB.

    The EXIF rotation is not applied, because label masks never have one. Transparency is dropped.

    A JPEG that is complete except for its end is read and noted (`utils/files/file_notes.py`).

    Damage is found as far as the formats allow: by checksums in PNG, by structure and impossible
    codes in JPEG and WebP. A changed byte that still decodes to an image cannot be detected.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: If the file is missing, not an image, cut off, damaged, an animation, or has
            more than 8 bits a channel.
    """
    data = read_bytes(path)
    if data.startswith(JPEG_START):
        return _read_jpeg(path, data)
    if data.startswith(PNG_START):
        header = check_png(path, data, max_bits=8)
        return _read_png(path, needed_chunks(path, data), header)
    if data.startswith(TIFF_STARTS):
        return _read_tiff(path, data)
    return np.array(_open(path, data).convert("RGB"))


def read_mask(path: StrPath) -> np.ndarray:
    """Read a label mask without interpreting it.

    A palette image gives its indices, never its colours; one of 1, 2 or 4 bits a sample gives
    numbers from 0 on, never shades of grey. Transparency is dropped. Floating-point numbers are ids
    if all of them are whole; pixels that a TIFF marks as missing by another value become 255.

    Returns:
        Ids (H, W), uint8, int32 or int64; or colours (H, W, 3) uint8 if the file has colours.

    Raises:
        DataError: If the file is missing, not an image, cut off, damaged, or lossily compressed.
    """
    data = read_bytes(path)
    if data.startswith(JPEG_START):
        raise DataError(f"{path}: is a JPEG, which changes label values; export the masks as PNG")
    if data.startswith(PNG_START):
        return decode_png_mask(path, data)
    if data.startswith(TIFF_STARTS):
        _check_frames(path, file_facts(path).frames)
        return _ids_or_colours(path, *read_tiff(path))
    if data.startswith(NPY_START):
        return _ids_or_colours(path, read_npy(path))
    if _is_lossy_webp(data):
        raise DataError(
            f"{path}: is a lossy WebP, which changes label values; export the masks as PNG"
        )
    image = _open(path, data)
    if image.mode in ("P", "L", "1"):
        return np.array(image, dtype=np.uint8)
    return np.array(image.convert("RGB"))


def decode_png_mask(path: StrPath, data: bytes) -> np.ndarray:
    """Return the ids (H, W) or colours (H, W, 3) of a mask that is a PNG; see `read_mask`.

    Raises:
        DataError: If it is damaged, or has colours of 16 bits.
    """
    header = check_png(path, data, max_bits=16)
    if header.colour in (RGB, RGB_ALPHA):
        if header.bits == 16:
            raise DataError(f"{path}: has colours of 16 bits a channel; convert it to 8 bits")
        return _decode(path, needed_chunks(path, data), cv2.IMREAD_COLOR_RGB)
    data = needed_chunks(path, data, indices=header.colour == PALETTE)
    mask = _decode(path, data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if header.bits == 16:
        return mask.astype(np.int32)
    # The decoder stretches fewer bits to 0..255.
    return mask if header.bits == 8 else mask // (255 // (2**header.bits - 1))


def check_png(path: StrPath, data: bytes, *, max_bits: int) -> PngHeader:
    """Return the header of a PNG with one image of an acceptable size.

    Raises:
        DataError: If it has another content, or cannot hold what its header claims.
    """
    header = read_png_header(path, data)
    check_pixels(path, header.width, header.height)
    if header.bits > max_bits:
        raise DataError(f"{path}: has {header.bits} bits a channel; convert it to {max_bits} bits")
    _check_frames(path, header.frames)
    check_stored(path, header.raw_bytes, len(data), MAX_INFLATION)
    return header


def list_images(folder: Path, extensions: tuple[str, ...] = IMAGE_EXTENSIONS) -> list[Path]:
    """List all files below a folder with an extension (any case), without hidden ones, sorted."""
    found = []
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if name.lower().endswith(extensions) and not name.startswith("."):
                found.append(Path(root, name))
    return sorted(found)


def _read_jpeg(path: StrPath, data: bytes) -> np.ndarray:
    """Decode a JPEG and refuse damage that libjpeg only warns of while it makes up pixels.

    OpenCV and Pillow hide these warnings or print them.
    """
    header = read_jpeg_header(path, data)
    check_pixels(path, header.width, header.height)
    if header.bits != 8:
        raise DataError(f"{path}: has {header.bits} bits a channel; convert it to 8 bits")
    check_stored(path, header.width * header.height, len(data), MAX_IN_JPEG)
    is_cmyk = len(header.sampling) == 4
    data, space = mend_scan(data, header), "CMYK" if is_cmyk else "RGB"
    try:
        try:
            pixels = simplejpeg.decode_jpeg(data, space)
        except ValueError:
            pixels = _decode_without_end(path, data, header, space)
            if pixels is None:
                raise
    except ValueError as error:
        if "subsampling" in str(error):  # no other library decodes these strictly
            factors = " ".join(f"{across}x{down}" for across, down in header.sampling)
            raise DataError(
                f"{path}: is damaged, or has a sampling ({factors}) that hides damage; "
                "convert it to RGB and save it again"
            ) from None
        raise DataError(
            f"{path}: is cut off or damaged ({error}); get the file again from its source; if "
            "that is damaged too, write what can be decoded anew, with an editor or "
            f"{mending_command(path)}, and check the result"
        ) from None
    if not is_cmyk:
        return pixels
    # The file has the inverse, as Adobe's programs write it.
    return np.array(Image.fromarray(255 - pixels, "CMYK").convert("RGB"))


def _decode_without_end(
    path: StrPath, data: bytes, header: JpegHeader, space: str
) -> np.ndarray | None:
    """Return the pixels of a JPEG that is complete except for its end; None for any other."""
    guess = with_proper_end(data, header)
    if guess is None:
        return None
    mended, shorter, what = guess
    try:
        pixels = simplejpeg.decode_jpeg(mended, space)
    except ValueError:
        return None
    with contextlib.suppress(ValueError):
        simplejpeg.decode_jpeg(shorter, space)
        return None  # something is left over
    add_note(path, "JPEG", what)
    return pixels


def _read_png(path: StrPath, data: bytes, header: PngHeader) -> np.ndarray:
    plain = header.colour == RGB and not header.interlaced
    if plain and (decode := _fast_png_decoder()) is not None:
        # If it fails, OpenCV below raises the error.
        with contextlib.suppress(Exception):
            return decode(data)
    return _decode(path, data, cv2.IMREAD_COLOR_RGB)


@functools.cache
def _fast_png_decoder() -> Callable[[bytes], np.ndarray] | None:
    """Return imagecodecs' decoder if installed: it takes two thirds of OpenCV's time."""
    try:
        from imagecodecs import png_decode
    except ImportError:
        return None
    return png_decode


def _read_tiff(path: StrPath, data: bytes) -> np.ndarray:
    """Read a plain TIFF; refuse several pages, many bands and more than 8 bits."""
    facts = file_facts(path)
    check_pixels(path, facts.width, facts.height)
    _check_frames(path, facts.frames)
    if not is_plain_tiff(path):
        raise DataError(
            f"{path}: is not a plain image but has {facts.channels} x {facts.bits} bits a pixel "
            f"({facts.mode}); convert it to RGB with 8 bits a channel, or name the bands to read"
        )
    pixels = read_plain_tiff(path)
    if pixels is not None:
        return pixels
    image = _open(path, data).convert("RGB")
    turn = _TURNED_BACK.get(facts.exif_orientation or 1)
    return np.array(image if turn is None else image.transpose(turn))


def _ids_or_colours(path: StrPath, pixels: np.ndarray, nodata: float | None = None) -> np.ndarray:
    """Return bands (H, W, C) as a mask."""
    kind, channels = pixels.dtype, pixels.shape[2]
    if kind == np.uint8 and channels in (3, 4):
        return np.ascontiguousarray(pixels[:, :, :3])
    if kind.kind == "f" and channels == 1:
        return _whole_numbers(path, pixels[:, :, 0], nodata)
    if kind.kind not in "biu" or channels != 1:
        raise DataError(
            f"{path}: has {channels} bands of type {kind}; expected one of class ids as whole "
            "numbers, or 8-bit RGB colours"
        )
    ids = pixels[:, :, 0]
    if kind.itemsize == 1 and kind.kind in "bu":
        return ids.astype(np.uint8)
    return ids.astype(np.int64 if kind.itemsize >= 4 and kind != np.int32 else np.int32)


def _whole_numbers(path: StrPath, values: np.ndarray, nodata: float | None) -> np.ndarray:
    """Return floating-point numbers, which QGIS and NumPy write by default, as ids (H, W) int32."""
    # Very large floating-point numbers are always whole.
    with np.errstate(invalid="ignore", over="ignore"):
        odd = ~((np.abs(values) < _LARGEST_ID) & (values == np.floor(values)))
    if nodata is not None and odd.any():
        missing = odd & (np.isnan(values) if math.isnan(nodata) else values == nodata)
        if missing.any() and not (values == _IGNORED_ID).any():
            values, odd = np.where(missing, _IGNORED_ID, values), odd & ~missing
    if odd.any():
        row, column = np.argwhere(odd)[0].tolist()
        raise DataError(
            f"{path}: has {values[row, column]:.6g} at row {row}, column {column}, and "
            f"{int(odd.sum()) - 1} more such values; expected class ids as whole numbers: write "
            f"ids (not scores, heights or fractions), and an id of its own, such as {_IGNORED_ID}, "
            "where there is no data"
        )
    return values.astype(np.int32)


def _is_lossy_webp(data: bytes) -> bool:
    """Return whether the first image is of the kind "VP8 " and not "VP8L".

    https://developers.google.com/speed/webp/docs/riff_container
    """
    if not (data.startswith(b"RIFF") and data[8:12] == b"WEBP"):
        return False
    position = 12
    while data[position : position + 4] not in (b"VP8 ", b"VP8L", b""):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    return data[position : position + 4] == b"VP8 "


def _decode(path: StrPath, data: bytes, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _damaged(path, error.err) from None
    if image is None:
        raise _damaged(path, "its pixels cannot be decoded")
    return image


def _open(path: StrPath, data: bytes) -> ImageFile.ImageFile:
    """Decode an image with Pillow, which raises if data is missing."""
    try:
        # Pillow also warns, once for each worker, of problems that the checks here refuse.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS)
            check_pixels(path, *image.size)
            if (most := _MAX_IN_BYTE.get(image.format or "")) is not None:
                check_stored(path, math.prod(image.size), len(data), most)
            if image.format != "TIFF":  # see _read_tiff
                _check_frames(path, getattr(image, "n_frames", 1))
            _check_filled(path, image)
            image.load()
    except UnidentifiedImageError:
        raise DataError(
            f"{path}: is not an image that can be read (it begins with {data[:12]!r}); expected "
            "JPEG, PNG, BMP, TIFF, WebP or GIF"
        ) from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: is too large ({error}); cut it into tiles") from None
    except DataError:
        raise
    except Exception as error:
        # A damaged header can make the decoder raise anything.
        raise _damaged(path, error) from None
    return image


def _check_filled(path: StrPath, image: ImageFile.ImageFile) -> None:
    """Refuse the two kinds of files for which Pillow makes up missing pixels."""
    if image.format == "BMP" and image.info.get("compression") in (1, 2):
        raise DataError(f"{path}: is a BMP with run-length encoding; save it without, or as PNG")
    if image.format == "GIF" and image.tile[0][1] != (0, 0, *image.size):
        raise DataError(f"{path}: its first frame covers only a part of it; export it as PNG")


def _check_frames(path: StrPath, frames: int) -> None:
    if frames > 1:
        raise DataError(
            f"{path}: has {frames} images, and it is not clear which one to use; save each as a "
            "file of its own"
        )


def _damaged(path: StrPath, reason: object) -> DataError:
    return damaged(path, f"is cut off or damaged ({reason})")
