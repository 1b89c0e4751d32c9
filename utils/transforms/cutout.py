"""Rectangles of a picture that a network has to do without.

DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout",
https://arxiv.org/abs/1708.04552. Differs from the paper: the number of rectangles varies, and they
have the picture's proportions. The labels stay, so that what is hidden is to be guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.transforms.geometry import fill_colour

Rectangle = tuple[int, int, int, int]


def sample_rectangles(
    rng: np.random.Generator, height: int, width: int, *, most: int, size: float
) -> list[Rectangle]:
    """Draw 0 to `most` rectangles around pixels anywhere in the picture.

    Args:
        rng: Source of chance.
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        most: Greatest number of rectangles; each number from 0 on is as likely.
        size: Sides as shares of the picture's.

    Returns:
        (top, bottom, left, right) of each, cut at the picture's edges, in pixels.
    """
    rectangles = []
    for centre in rng.random((int(rng.integers(most + 1)), 2)).tolist():
        bounds = []
        for place, side in zip(centre, (height, width), strict=True):
            length = max(round(size * side), 1)
            first = int(place * side) - length // 2
            bounds += [max(first, 0), min(first + length, side)]
        top, bottom, left, right = bounds
        rectangles.append((top, bottom, left, right))
    return rectangles


def cut_out(
    image: np.ndarray, rectangles: Sequence[Rectangle], fill: float | Sequence[float]
) -> np.ndarray:
    """Fill rectangles with a colour.

    Args:
        image: (H, W, C) of any type.
        rectangles: (top, bottom, left, right) of each, in pixels.
        fill: The colour, one value or one a channel, in the unit of `image`.

    Returns:
        Image (H, W, C); the argument itself where there is no rectangle.
    """
    if not rectangles:
        return image
    image, colour = image.copy(), fill_colour(image, fill)
    for top, bottom, left, right in rectangles:
        image[top:bottom, left:right] = colour
    return image
