"""Size and EXIF orientation of an image file, from its first bytes."""

import warnings
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from PIL import Image

from utils.files.data_file import DataError, StrPath, open_file
from utils.files.file_facts import file_facts, orientation_of
from utils.files.npy_file import NPY_START
from utils.files.tiff_io import TIFF_STARTS

ExifRule = Literal["apply", "ignore"]

UPRIGHT = 1
SWAPPING = (5, 6, 7, 8)  # orientations that exchange width and height

# Pillow reads only the header of these until their pixels are requested.
_LAZY_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")


class ImageHead(NamedTuple):
    """The head of an image file."""

    width: int  # in pixels, as stored
    height: int  # in pixels, as stored
    orientation: int = UPRIGHT  # the EXIF orientation, 1 to 8; 1 if the file has none

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) of the stored pixels."""
        return self.width, self.height

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) as a person sees the image, with the orientation applied."""
        swapped = self.orientation in SWAPPING
        return (self.height, self.width) if swapped else (self.width, self.height)


def read_head(path: StrPath) -> ImageHead:
    """Read the size and orientation of an image without its pixels.

    This is a hundred times as fast as decoding, so that all files of a dataset can be checked
    before a training. The claims of the head are not verified; reading the image does that.

    Raises:
        DataError: If the file cannot be opened, or no head is found in it.
    """
    with open_file(path) as file:
        start = file.read(16)
        file.seek(0)
        if not start.startswith((*TIFF_STARTS, NPY_START)):
            try:
                # Pillow also warns of problems that the readers of the pixels refuse.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    image = _open_lazily(file, start)
                    exif = image.info.get("exif", b"")
            except Exception as error:
                # A damaged header can make the reader raise anything.
                raise DataError(f"{path}: has no header that can be read ({error})") from None
            return ImageHead(*image.size, orientation_of(exif) or UPRIGHT)
    facts = file_facts(path)
    orientation = facts.exif_orientation
    known = orientation if orientation in range(1, 9) else None
    return ImageHead(facts.width, facts.height, known or UPRIGHT)


def _open_lazily(file: BinaryIO, start: bytes) -> Image.Image:
    """Return an image whose pixels are not decoded, of any size.

    `Image.open()` would refuse a large one, although a part of it can be read.
    """
    Image.init()
    for name in _LAZY_FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts is None or accepts(start) is True:
            image: Image.Image = factory(file, "")
            return image
    raise ValueError(f"it begins with {start!r}")


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels, (H, W) or (H, W, C), so that the image is upright.

    The orientations are those of the EXIF standard (CIPA DC-008, tag 0x0112): 3 is half a turn, 6
    a quarter turn clockwise, 8 one counter-clockwise; 2, 4, 5 and 7 are mirrored.

    Returns:
        A contiguous array of the same values, (W, H) or (W, H, C) for 5 to 8.
    """
    if orientation in SWAPPING:
        pixels = pixels.swapaxes(0, 1)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    rows = slice(None, None, -1 if flip_rows else 1)
    columns = slice(None, None, -1 if flip_columns else 1)
    return np.ascontiguousarray(pixels[rows, columns])
