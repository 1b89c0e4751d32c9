"""Read pictures and label masks, the same way everywhere."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from utils.formats import IMAGE_EXTENSIONS

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


class DataError(ValueError):
    """A file of a dataset that cannot be used; the message names it and says what to do."""


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an 8-bit picture as RGB.

    The EXIF rotation is not applied, as label masks never carry one.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: If the file is missing, no picture, cut off, or has more than 8 bits a channel.
    """
    data = _read_bytes(path)
    if data.startswith(_PNG_START) and len(data) > 24 and data[24] == 16:
        raise DataError(f"{path}: has 16 bits a channel; convert it to 8 bits")
    if data.startswith((_JPEG_START, _PNG_START)):
        _check_complete(path, data)
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:
            raise DataError(f"{path}: cannot be decoded ({error.err})") from None
        if image is None:
            raise DataError(f"{path}: cannot be decoded; the file is damaged")
        return image
    picture = _open(path, data)
    if picture.mode not in ("1", "L", "P", "RGB", "RGBA", "CMYK", "LA", "PA", "YCbCr"):
        raise DataError(
            f"{path}: has pixels of type {picture.mode}; convert it to 8 bits a channel"
        )
    return np.array(picture.convert("RGB"))


def read_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a label mask without interpreting it.

    A palette picture gives its indices, never its colours.

    Returns:
        Ids (H, W), uint8 or int32; or colours (H, W, 3) uint8 where the file holds colours.

    Raises:
        DataError: If the file is missing, no picture, cut off, or lossily compressed.
    """
    data = _read_bytes(path)
    if data.startswith(_JPEG_START):
        raise DataError(f"{path}: is a JPEG, which changes label values; export the masks as PNG")
    picture = _open(path, data)
    if picture.mode in ("P", "L", "1"):
        return np.asarray(picture, dtype=np.uint8)
    if picture.mode.startswith("I"):
        return np.asarray(picture).astype(np.int32)
    if picture.mode in ("RGB", "RGBA"):
        return np.array(picture.convert("RGB"))
    raise DataError(f"{path}: has pixels of type {picture.mode}; expected class ids or RGB colours")


def list_images(folder: Path, extensions: tuple[str, ...] = IMAGE_EXTENSIONS) -> list[Path]:
    """All files below a folder with one of the extensions (any case), hidden ones left out, sorted.

    Args:
        folder: Searched with its sub-folders.
        extensions: Lower case, with the dot.
    """
    found = []
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if name.lower().endswith(extensions) and not name.startswith("."):
                found.append(Path(root, name))
    return sorted(found)


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not data:
        raise DataError(f"{path}: is empty (0 bytes)")
    return data


def _check_complete(path: str | os.PathLike[str], data: bytes) -> None:
    """OpenCV fills up what a cut-off file lacks and says nothing, so look for the end mark."""
    end = _JPEG_END if data.startswith(_JPEG_START) else _PNG_END
    if data.endswith(end):
        return
    # Some cameras write padding or notes behind the end; only a full decoding can tell.
    _open(path, data)


def _open(path: str | os.PathLike[str], data: bytes) -> Image.Image:
    """A decoded Pillow picture; Pillow raises where data is missing."""
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except UnidentifiedImageError:
        raise DataError(f"{path}: is not a picture that can be read") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: is too large ({error})") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise DataError(
            f"{path}: is cut off or damaged ({error}); copy or export it again"
        ) from None
    return picture
