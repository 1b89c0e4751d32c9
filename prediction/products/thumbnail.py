"""A small copy of an image and its mask, made while the rows stream by."""

import math

import cv2
import numpy as np

from utils.pages.images import fitting

CHUNK_ROWS = 512  # rows that are averaged together


class Thumbnail:
    """Shrink an image by averaging and its ids by picking, some rows at a time.

    Args:
        height: H of the image.
        width: W of the image.
        max_side: The largest side of the thumbnail, in pixels; smaller images keep their size.
    """

    def __init__(self, height: int, width: int, max_side: int) -> None:
        self._height = height
        small_width, small_height = fitting(height, width, max_side)
        self._mean = np.zeros((small_height, small_width, 3), np.float32)
        self.ids = np.zeros((small_height, small_width), np.int64)
        # The middle of each small pixel.
        self._rows = _middles(small_height, height)
        self._columns = _middles(small_width, width)

    def add(self, top: int, image: np.ndarray, ids: np.ndarray) -> None:
        """Take rows of the image, (h, W, 3) uint8, and their ids, (h, W)."""
        here = np.flatnonzero((self._rows >= top) & (self._rows < top + len(ids)))
        self.ids[here] = ids[self._rows[here] - top][:, self._columns]
        for start in range(0, len(image), CHUNK_ROWS):
            self._average(top + start, image[start : start + CHUNK_ROWS])

    def image(self) -> np.ndarray:
        """Return the small image, uint8 RGB."""
        return np.rint(self._mean).astype(np.uint8)

    def _average(self, top: int, image: np.ndarray) -> None:
        small_height, small_width, _ = self._mean.shape
        narrow = cv2.resize(image, (small_width, len(image)), interpolation=cv2.INTER_AREA)
        # How much of each small row lies in each of these rows.
        edges = np.arange(top, top + len(image) + 1) * (small_height / self._height)
        first, last = int(edges[0]), min(small_height, math.ceil(edges[-1]))
        small = np.arange(first, last)[:, None]
        weights = np.minimum(edges[1:], small + 1) - np.maximum(edges[:-1], small)
        weights = np.maximum(weights, 0).astype(np.float32)
        rows = narrow.reshape(len(image), -1).astype(np.float32)
        self._mean[first:last] += (weights @ rows).reshape(-1, small_width, 3)


def _middles(count: int, size: int) -> np.ndarray:
    return ((np.arange(count) + 0.5) * size / count).astype(np.int64)
