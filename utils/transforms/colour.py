"""Colour jitter of 8-bit RGB images.

Brightness, contrast, saturation and hue mean what they mean in torchvision's `ColorJitter`:
https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.ColorJitter.html. Values
are rounded where torchvision cuts them, so a channel can differ by a grey value.
"""

from collections.abc import Sequence
from typing import Annotated

import cv2
import msgspec
import numpy as np

from utils.config.types import NonNegativeFloat
from utils.files.data_file import DataError
from utils.transforms.base import PixelOperation

HalfTurn = Annotated[float, msgspec.Meta(ge=0, le=0.5)]

# Rec. 601, the weights of cv2.COLOR_RGB2GRAY and of torchvision.
GREY_WEIGHTS = (0.299, 0.587, 0.114)

# A band of rows as floats stays in the cache: six times faster than a whole image.
BAND_ROWS = 64


class ColourJitter(PixelOperation):
    """Change brightness, contrast, saturation and hue of 8-bit RGB images, in a random order.

    Args:
        brightness: Multiply by a factor from [1 - brightness, 1 + brightness], none below 0.
        contrast: Scale the distances from the mean grey by such a factor.
        saturation: Scale the distances from the pixel's grey by such a factor.
        hue: Shift the hue by up to this part of a turn, at most 0.5.
        channels: Channels of the images.

    Raises:
        ValueError: If the images are not of three channels.
    """

    stream = 4

    def __init__(
        self,
        *,
        brightness: NonNegativeFloat = 0.0,
        contrast: NonNegativeFloat = 0.0,
        saturation: NonNegativeFloat = 0.0,
        hue: HalfTurn = 0.0,
        channels: int = 3,
    ) -> None:
        self.factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        self.hue = hue
        self.used = [name for name, width in (*self.factors.items(), ("hue", hue)) if width]
        if self.used and channels != 3:
            raise ValueError(
                f"{', '.join(self.used)}: colour jitter is defined for 8-bit RGB only, and these "
                f"images have {channels} channel{'s' * (channels != 1)}; remove it"
            )

    @property
    def active(self) -> bool:
        """Return whether one of the four is on."""
        return bool(self.used)

    def sample(self, rng: np.random.Generator) -> list[tuple[str, float]]:
        """Draw the four changes in a random order, whichever of them are on.

        Returns:
            The name of each with its factor, or with the shift of the hue, in turns.
        """
        drawn = [
            (name, rng.uniform(max(0.0, 1 - width), 1 + width))
            for name, width in self.factors.items()
        ]
        drawn.append(("hue", rng.uniform(-self.hue, self.hue)))
        return [drawn[i] for i in rng.permutation(len(drawn))]

    def pixels(
        self, image: np.ndarray, rng: np.random.Generator, fill: float | Sequence[float]
    ) -> np.ndarray:
        """Change the colours of (H, W, 3) uint8, padding included."""
        if image.dtype != np.uint8 or image.shape[2:] != (3,):
            raise DataError(
                f"{', '.join(self.used)}: colour jitter is defined for 8-bit RGB images, and this "
                f"one has shape {image.shape} and type {image.dtype}; remove it from the config"
            )
        adjust = {
            "brightness": adjust_brightness,
            "contrast": adjust_contrast,
            "saturation": adjust_saturation,
            "hue": adjust_hue,
        }
        for name, value in self.sample(rng):
            if name in self.used:
                image = adjust[name](image, value)
        return image


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiply (H, W, 3) uint8 by a factor."""
    return cv2.convertScaleAbs(image, alpha=factor)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale the distances of (H, W, 3) uint8 from the image's mean grey by a factor."""
    mean = cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
    values = factor * np.arange(256) + (1 - factor) * mean
    return cv2.LUT(image, np.clip(np.rint(values), 0, 255).astype(np.uint8))


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale the distances of each pixel of (H, W, 3) uint8 from its own grey by a factor."""
    grey = np.tile(GREY_WEIGHTS, (3, 1))
    return cv2.transform(image, factor * np.eye(3) + (1 - factor) * grey)


def adjust_hue(image: np.ndarray, turns: float) -> np.ndarray:
    """Shift the hue of (H, W, 3) uint8 by a part of a turn; -0.5 and 0.5 are the opposite hue."""
    result = np.empty_like(image)
    for top in range(0, len(image), BAND_ROWS):
        # Hue in 8 bits would be 1.4 degrees coarse, several grey values in a saturated colour.
        band = image[top : top + BAND_ROWS].astype(np.float32)
        hsv: np.ndarray = cv2.cvtColor(band, cv2.COLOR_RGB2HSV)
        hsv[..., 0] += 360 * (turns % 1)
        result[top : top + BAND_ROWS] = np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
    return result
