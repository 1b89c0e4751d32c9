"""Images in pages, decoded again by Pillow."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from utils.drawing.palette import IGNORED_COLOUR, voc_palette
from utils.pages.images import fitting, jpeg, mask_png, palette_png


def decoded(url):
    head, data = url.split(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == f"data:image/{image.format.lower()}"
    return image


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(100, 50, (50, 100)), (1000, 500, (160, 320)), (500, 1000, (320, 160)), (9000, 1, (1, 320))],
)
def test_feature_sides(height, width, size):
    assert fitting(height, width, 320) == size


def test_feature_photographs_are_near():
    image = np.repeat(np.arange(0, 250, 5, np.uint8)[:, None, None], 40, 1).repeat(3, 2)
    found = np.array(decoded(jpeg(image)))
    assert np.abs(found.astype(int) - image).max() < 4


@pytest.mark.parametrize("classes", [5, 300])
def test_feature_masks_are_exact(classes):
    """Also where there are more colours than a palette has."""
    palette = voc_palette(classes)
    ids = np.arange(400).reshape(20, 20) % classes
    ids[0, 0] = 1000
    found = np.array(decoded(mask_png(ids, palette, 1000)).convert("RGB"))
    expected = np.array([*palette, IGNORED_COLOUR])[np.where(ids == 1000, classes, ids)]
    assert (found == expected).all()


def test_feature_opacity():
    found = decoded(palette_png(np.array([[0, 1]]), [(1, 2, 3), (4, 5, 6)], (0, 99)))
    assert np.array(found.convert("RGBA")).tolist() == [[[1, 2, 3, 0], [4, 5, 6, 99]]]
