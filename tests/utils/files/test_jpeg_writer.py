"""JPEG files whose rows come one after the other, read by Pillow."""

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.row_files import check_guarantees, write_all
from utils.files.jpeg_writer import JpegWriter, check_jpeg_size


def smooth(height, width):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def test_feature_pillow_reads_what_was_written(tmp_path):
    rows = smooth(70, 50)
    write_all(JpegWriter(tmp_path / "a.jpg", 50), rows, [1, 1, 40])
    image = Image.open(tmp_path / "a.jpg")
    assert image.format == "JPEG" and image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - rows).max() < 12
    write_all(JpegWriter(tmp_path / "b.jpg", 50), rows)
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()


def test_feature_thin_red_lines_stay_red(tmp_path):
    """As they would not with colours of half the resolution."""
    rows = np.full((32, 32, 3), 255, np.uint8)
    rows[:, ::8] = (255, 0, 0)
    write_all(JpegWriter(tmp_path / "a.jpg", 32), rows)
    assert np.abs(np.asarray(Image.open(tmp_path / "a.jpg")).astype(int) - rows).max() < 40


@pytest.mark.parametrize(
    ("width", "height", "below", "fits"),
    [
        (65_500, 2_000, 0, True), (65_501, 1, 0, False), (1, 65_501, 0, False),
        (100, 65_000, 500, True), (100, 65_000, 501, False), (13_000, 13_000, 9_000, True),
        (14_000, 13_000, 0, False),
    ],
)  # fmt: skip
def test_exception_sizes(width, height, below, fits):
    if fits:
        check_jpeg_size("a.jpg", width, height, below)
        return
    with pytest.raises(ValueError, match=rf"a\.jpg: {width}x{height}.*65500.*179.*choose png"):
        check_jpeg_size("a.jpg", width, height, below)


def test_feature_files_are_whole_or_not_there(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)

    def open_one(path, overwrite=False):
        return JpegWriter(path, 300, overwrite=overwrite)

    check_guarantees(tmp_path, "a.jpg", open_one, rows, 30_000)
