"""Small copies, against OpenCV's of the whole image."""

import cv2
import numpy as np
import pytest

from prediction.products import thumbnail
from prediction.products.thumbnail import Thumbnail
from tests.prediction.products.vector_case import random_ids
from utils.drawing.visualize import pick


def made(image, ids, side, step):
    small = Thumbnail(*ids.shape, side)
    for top in range(0, len(ids), step):
        small.add(top, image[top : top + step], ids[top : top + step])
    return small.image(), small.ids


@pytest.mark.parametrize("step", [1, 13, 1000])
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(97, 131, (64, 47)), (200, 100, (32, 64)), (40, 30, (30, 40)), (700, 3, (1, 64)),
     (2, 900, (64, 1))],
)  # fmt: skip
def test_feature_the_image_is_averaged_and_ids_are_picked(monkeypatch, height, width, size, step):
    monkeypatch.setattr(thumbnail, "CHUNK_ROWS", 50)
    ids = random_ids(0, height, width, blur=0.0)
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    small, small_ids = made(image, ids, 64, step)
    expected = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    assert small.dtype == np.uint8 and np.abs(small - expected).max() <= 1.01
    assert (small_ids == pick(ids, size)).all()


def test_feature_small_images_stay_as_they_are():
    ids = random_ids(0, 40, 30)
    image = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)
    small, small_ids = made(image, ids, 320, 7)
    assert (small == image).all() and (small_ids == ids).all()
