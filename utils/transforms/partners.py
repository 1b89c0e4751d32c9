"""The other training samples that an operation may bring in."""

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from utils.files.data_file import DataError

Pair = tuple[np.ndarray, np.ndarray]

# Reading an image costs more than all the rest, so a rare class is not looked for in many.
PARTNER_DRAWS = 4


class Partners(Protocol):
    """Other training samples: images (H, W, C) and labels (H, W), not augmented."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, index: int, /) -> Pair:
        """Return one image and its label; `DataError` where it cannot be used."""


def draw_partner(partners: Partners | None, image: np.ndarray, rng: np.random.Generator) -> Pair:
    """Return a random partner for an image.

    Raises:
        DataError: If there is none, or it has another type or number of channels than the image.
    """
    if partners is None or len(partners) == 0:
        raise DataError("copy_paste and mosaic need other training images, and there are none")
    index = int(rng.integers(len(partners)))
    other, label = partners[index]
    if (other.dtype, other.shape[2]) != (image.dtype, image.shape[2]):
        raise DataError(
            f"copy_paste and mosaic need images of one kind, but one has {image.shape[2]} "
            f"channels of type {image.dtype}, another (index {index}) {other.shape[2]} of type "
            f"{other.dtype}; convert them, or switch both off"
        )
    return other, label


def draw_partner_with(
    partners: Partners | None, image: np.ndarray, classes: Sequence[int], rng: np.random.Generator
) -> Pair | None:
    """Return the first of up to four random partners that has one of the classes, or None.

    Raises:
        DataError: As in `draw_partner`.
    """
    for _ in range(PARTNER_DRAWS):
        pair = draw_partner(partners, image, rng)
        if cv2.hasNonZero(mask_of(pair[1], classes)):
            return pair
    return None


def mask_of(label: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Return (H, W) uint8: 255 where a label (H, W) has one of the classes, 0 elsewhere."""
    mask = np.zeros(label.shape, np.uint8)
    for c in classes:
        cv2.bitwise_or(mask, cv2.inRange(label, c, c), dst=mask)
    return mask
