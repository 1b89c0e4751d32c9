"""Outlines cut open at their holes, drawn again by Pillow."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from prediction.products.keyhole import trace
from tests.prediction.products.vector_case import random_ids, real_masks

# Holes that touch at corners, share their leftmost pixel, or lie behind each other in one row.
SHAPES = {
    "point": ["1"],
    "line": ["1111"],
    "ring": ["111", "101", "111"],
    "corner": ["1111", "1011", "1101", "1111"],
    "same left": ["11111", "11011", "10111", "11011", "11111"],
    "in a row": ["111111111", "101010101", "111111111"],
    "diagonal": ["1100", "0110", "0011"],
    "comb": ["1111111", "1010101", "1111111", "1010101", "1110111"],
    "open corner": ["111", "101", "110"],
}


def drawn(points, shape):
    """As labelme draws a polygon."""
    canvas = Image.new("1", shape[::-1])
    line = [tuple(point) for point in points.tolist()] * 3  # Pillow wants two points at least
    ImageDraw.Draw(canvas).polygon(line[: max(3, len(points))], fill=1, outline=1)
    return np.array(canvas)


@pytest.mark.parametrize("name", SHAPES)
def test_feature_a_line_gives_its_region_again(name):
    region = np.array([list(map(int, row)) for row in SHAPES[name]], np.uint8)
    for turned in (region, region.T, region[::-1], region[:, ::-1]):
        turned = np.ascontiguousarray(turned)
        assert (drawn(trace(turned), turned.shape) == turned).all()


@pytest.mark.parametrize("blur", [0.0, 0.8, 2.5])
def test_feature_regions_of_random_masks(blur):
    for seed in range(6):
        ids = random_ids(seed, 40, 50, num_classes=2, blur=blur)
        for number in (0, 1):
            labels, count = ndimage.label(ids == number)
            for region in range(1, count + 1):
                mask = labels == region
                assert (drawn(trace(mask.astype(np.uint8)), mask.shape) == mask).all()


def test_feature_points_on_straight_lines_are_left_out():
    """A rectangle has four, one with a hole those of both and the cut."""
    region = np.ones((9, 12), np.uint8)
    assert sorted(trace(region).tolist()) == [[0, 0], [0, 8], [11, 0], [11, 8]]
    region[4, 6] = 0
    # The outline, where the cut begins and ends (twice), and the four neighbours of the hole.
    points = trace(region).tolist()
    assert len(points) <= 4 + 2 + 5 and [0, 4] in points and [5, 4] in points


def test_feature_regions_of_real_masks():
    for ids in real_masks()[:2]:
        for number in np.unique(ids):
            count, labels = cv2.connectedComponents((ids == number).view(np.uint8), connectivity=4)
            for region in range(1, count):
                mask = labels == region
                assert (drawn(trace(mask.astype(np.uint8)), mask.shape) == mask).all()
