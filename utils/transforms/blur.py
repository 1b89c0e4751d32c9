"""Gaussian blur, as in pytorch-segmentation."""

from collections.abc import Sequence

import cv2
import numpy as np

from utils.transforms.base import PixelOperation


class Blur(PixelOperation):
    """Blur the image.

    Args:
        blur: Blur with a sigma drawn uniformly from [0, 1) pixels; below 0.606 nothing changes.
    """

    stream = None

    def __init__(self, *, blur: bool = False) -> None:
        self.blur = blur

    @property
    def active(self) -> bool:
        """Return whether the blur is on."""
        return self.blur

    def pixels(
        self, image: np.ndarray, rng: np.random.Generator, fill: float | Sequence[float]
    ) -> np.ndarray:
        """Blur (H, W, C) with a random sigma."""
        return blur(image, rng.random())


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur an image (H, W, C) with the Gaussian kernel of pytorch-segmentation; sigma is in pixels.

    Its side is `int(3.3 * sigma)` made odd: a sigma below 0.606 pixels gives a side of 1 and leaves
    the image as it is, a sigma up to 1 a side of 3.
    """
    side = int(3.3 * sigma) | 1
    if side == 1:
        return image
    blurred = cv2.GaussianBlur(
        image, (side, side), sigmaX=sigma, sigmaY=sigma, borderType=cv2.BORDER_REFLECT_101
    )
    return blurred.reshape(image.shape)
