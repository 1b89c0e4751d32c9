"""Colour jitter of 8-bit RGB pictures.

Brightness, contrast, saturation and hue mean what they mean in torchvision's `ColorJitter`:
https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.ColorJitter.html. Values
are rounded where torchvision cuts them, so a channel can differ by a grey value.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from utils.files.data_file import DataError

# Rec. 601, the weights of cv2.COLOR_RGB2GRAY and of torchvision.
GREY_WEIGHTS = (0.299, 0.587, 0.114)

OPERATIONS = ("brightness", "contrast", "saturation", "hue")

# A band of rows as floats stays in the cache: six times faster than a whole picture.
BAND_ROWS = 64


@dataclass(frozen=True)
class ColourJitter:
    """What happens to the colours of one picture.

    Args:
        brightness: Factor of every value; 1 changes nothing.
        contrast: Factor of the distance from the picture's mean grey.
        saturation: Factor of the distance from the pixel's own grey.
        hue: Shift of the hue, in turns.
        order: `OPERATIONS` in the order in which they are applied.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    order: tuple[str, ...] = OPERATIONS


def sample_jitter(
    rng: np.random.Generator,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> ColourJitter:
    """Draw a jitter; all its parts are drawn whatever is switched on.

    Args:
        rng: Source of chance.
        brightness: The factor is uniform in [max(0, 1 - brightness), 1 + brightness].
        contrast: Likewise.
        saturation: Likewise.
        hue: The shift is uniform in [-hue, hue], at most half a turn.

    Returns:
        The parameters of `jitter`, in a random order of the four.
    """
    return ColourJitter(
        brightness=rng.uniform(max(0.0, 1 - brightness), 1 + brightness),
        contrast=rng.uniform(max(0.0, 1 - contrast), 1 + contrast),
        saturation=rng.uniform(max(0.0, 1 - saturation), 1 + saturation),
        hue=rng.uniform(-hue, hue),
        order=tuple(OPERATIONS[i] for i in rng.permutation(len(OPERATIONS))),
    )


def jitter(image: np.ndarray, parameters: ColourJitter) -> np.ndarray:
    """Change the colours of a picture.

    Args:
        image: (H, W, 3) uint8, RGB.
        parameters: What to do.

    Returns:
        (H, W, 3) uint8; the argument itself where there is nothing to do.

    Raises:
        DataError: If the picture is not 8-bit RGB.
    """
    if image.dtype != np.uint8 or image.shape[2:] != (3,):
        raise DataError(
            "brightness, contrast, saturation and hue are defined for 8-bit RGB pictures, and this "
            f"one has shape {image.shape} and type {image.dtype}; remove them from the config"
        )
    apply = {
        "brightness": adjust_brightness,
        "contrast": adjust_contrast,
        "saturation": adjust_saturation,
        "hue": adjust_hue,
    }
    for name in parameters.order:
        value = getattr(parameters, name)
        if value != getattr(ColourJitter, name):
            image = apply[name](image, value)
    return image


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiply (H, W, 3) uint8 by a factor."""
    return cv2.convertScaleAbs(image, alpha=factor)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale the distances of (H, W, 3) uint8 from the picture's mean grey by a factor."""
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
