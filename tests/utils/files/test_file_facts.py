"""utils/files/file_facts.py against files whose header is known, as they were made for the test."""

import numpy as np
import pytest

from tests.bad_files import GREY, HEIGHT, KINDS, PHOTO, WIDTH, Kind, chunk, png
from utils.files.data_file import DataError
from utils.files.file_facts import file_facts

BY_NAME = {kind.name: kind for kind in KINDS}

# name -> format, mode, channels, bits
EXPECTED = {
    "good.jpg": ("JPEG", "RGB", 3, 8), "progressive.jpg": ("JPEG", "RGB", 3, 8),
    "grey.jpg": ("JPEG", "grey", 1, 8), "cmyk.jpg": ("JPEG", "CMYK", 4, 8),
    "twelve_bits.jpg": ("JPEG", "12-bit RGB", 3, 12), "png_called.jpg": ("PNG", "RGB", 3, 8),
    "grey.png": ("PNG", "grey", 1, 8), "grey_alpha.png": ("PNG", "grey+alpha", 2, 8),
    "rgba.png": ("PNG", "RGBA", 4, 8), "palette.png": ("PNG", "palette", 1, 8),
    "palette_two_bits.png": ("PNG", "2-bit palette", 1, 2),
    "one_bit.png": ("PNG", "1-bit grey", 1, 1), "sixteen.png": ("PNG", "16-bit grey", 1, 16),
    "sixteen_rgb.png": ("PNG", "16-bit RGB", 3, 16), "good.bmp": ("BMP", "RGB", 3, 8),
    "good.webp": ("WEBP", "RGB", 3, 8), "alpha.webp": ("WEBP", "RGBA", 4, 8),
    "good.gif": ("GIF", "palette", 1, 8), "good.tif": ("TIFF", "RGB", 3, 8),
    "palette.tif": ("TIFF", "palette", 1, 8), "float.tif": ("TIFF", "float grey", 1, 32),
    "deep.tif": ("TIFF", "16-bit grey", 1, 16), "deep_rgb.tif": ("TIFF", "16-bit RGB", 3, 16),
    "five_bands.tif": ("TIFF", "5 bands", 5, 8),
    # Damage behind the header is not seen.
    "cut_in_scan.jpg": ("JPEG", "RGB", 3, 8), "wrong_sum_pixels.png": ("PNG", "RGB", 3, 8),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_feature_headers(tmp_path, name):
    path = BY_NAME[name].put(tmp_path)
    facts = file_facts(path)
    assert (facts.format, facts.mode, facts.channels, facts.bits) == EXPECTED[name]
    assert (facts.width, facts.height, facts.frames) == (WIDTH, HEIGHT, 1)
    assert facts.exif_orientation is None
    assert facts.size_bytes == len(path.read_bytes())


@pytest.mark.parametrize(
    ("name", "frames"),
    [("animated.png", 2), ("animated.gif", 2), ("animated.webp", 2), ("two_pages.tif", 2),
     ("circular.tif", 2), ("thumbnail.tif", 1)],
)  # fmt: skip
def test_feature_frames(tmp_path, name, frames):
    assert file_facts(BY_NAME[name].put(tmp_path)).frames == frames


@pytest.mark.parametrize("exif", [b"nonsense", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\1"])
def test_feature_damaged_exif_is_none(tmp_path, exif):
    path = Kind("x.png", png(PHOTO, 2, extra=chunk(b"eXIf", exif))).put(tmp_path)
    assert file_facts(path).exif_orientation is None


@pytest.mark.parametrize(
    ("array", "size", "mode", "bits"),
    [
        (GREY, (WIDTH, HEIGHT, 1), "grey", 8),
        (PHOTO, (WIDTH, HEIGHT, 3), "3 bands", 8),
        (np.moveaxis(PHOTO, 2, 0), (WIDTH, HEIGHT, 3), "3 bands", 8),
        (PHOTO.astype(np.float32), (WIDTH, HEIGHT, 3), "float 3 bands", 32),
        (GREY.astype(np.int16), (WIDTH, HEIGHT, 1), "16-bit grey", 16),
    ],
)
def test_feature_arrays(tmp_path, array, size, mode, bits):
    np.save(tmp_path / "x.npy", array)
    facts = file_facts(tmp_path / "x.npy")
    assert (facts.width, facts.height, facts.channels) == size
    assert (facts.format, facts.mode, facts.bits) == ("NPY", mode, bits)


@pytest.mark.parametrize(
    ("name", "words"),
    [("page.png", "is not an image"), ("cut_header.png", "cut off"), ("cut_header.jpg", "cut off"),
     ("strange_bits.png", "damaged header"), ("empty.png", "is empty"),
     ("pipe.png", "not a regular file")],
)  # fmt: skip
def test_exception_no_header(tmp_path, name, words):
    with pytest.raises(DataError, match=rf"{name}: .*{words}"):
        file_facts(BY_NAME[name].put(tmp_path))


@pytest.mark.parametrize("data", [b"II*\0\x08\0\0\0", b"\x93NUMPY\x01\0", b"BM12", b"II*\0" * 9])
def test_exception_header_of_nothing(tmp_path, data):
    path = Kind("x.bin", data).put(tmp_path)
    with pytest.raises(DataError, match=r"x\.bin"):
        file_facts(path)
