"""Cutout: fill random rectangles of an image.

DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout",
https://arxiv.org/abs/1708.04552. Differs from the paper: the number of rectangles varies, and they
have the image's proportions. The labels stay, so the network has to infer what is hidden.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from utils.config.types import Fraction, NonNegativeInt
from utils.transforms.base import PixelOperation
from utils.transforms.warp import fill_colour

Rectangle = tuple[int, int, int, int]


class Cutout(PixelOperation):
    """Fill rectangles of the image; the label stays.

    Args:
        cutout: The largest number of rectangles; the number is drawn uniformly from 0 to this.
        cutout_size: Their sides as fractions of the image's, in (0, 1).
    """

    stream = 5
    refines: ClassVar[dict[str, str]] = {"cutout_size": "cutout"}

    def __init__(self, *, cutout: NonNegativeInt = 0, cutout_size: Fraction = 0.25) -> None:
        self.cutout = cutout
        self.cutout_size = cutout_size

    @property
    def active(self) -> bool:
        """Return whether there may be a rectangle."""
        return self.cutout > 0

    def sample(self, rng: np.random.Generator, height: int, width: int) -> list[Rectangle]:
        """Draw rectangles around pixels anywhere in an image of a size in pixels.

        Returns:
            (top, bottom, left, right) of each, cut at the image's edges, in pixels.
        """
        rectangles = []
        for centre in rng.random((int(rng.integers(self.cutout + 1)), 2)).tolist():
            bounds = []
            for position, side in zip(centre, (height, width), strict=True):
                length = max(round(self.cutout_size * side), 1)
                first = int(position * side) - length // 2
                bounds += [max(first, 0), min(first + length, side)]
            top, bottom, left, right = bounds
            rectangles.append((top, bottom, left, right))
        return rectangles

    def pixels(
        self, image: np.ndarray, rng: np.random.Generator, fill: float | Sequence[float]
    ) -> np.ndarray:
        """Fill random rectangles of (H, W, C) with a colour."""
        return cut_out(image, self.sample(rng, *image.shape[:2]), fill)


def cut_out(
    image: np.ndarray, rectangles: Sequence[Rectangle], fill: float | Sequence[float]
) -> np.ndarray:
    """Fill rectangles (top, bottom, left, right) of an image (H, W, C) with a colour."""
    if not rectangles:
        return image
    image, colour = image.copy(), fill_colour(image, fill)
    for top, bottom, left, right in rectangles:
        image[top:bottom, left:right] = colour
    return image
