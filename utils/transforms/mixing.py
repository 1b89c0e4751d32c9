"""Samples made of several pictures: copy-paste and mosaic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from utils.files.data_file import DataError

Pair = tuple[np.ndarray, np.ndarray]
Area = tuple[slice, slice]

# Reading a picture costs more than all the rest, so a rare class is not looked for in many.
PARTNER_DRAWS = 4


class Partners(Protocol):
    """Other training samples: pictures (H, W, C) and labels (H, W), not augmented."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int, /) -> Pair:
        """One picture and its label; `DataError` where it cannot be used."""


def draw_partner(partners: Partners, image: np.ndarray, rng: np.random.Generator) -> Pair:
    """A random partner for a picture.

    Raises:
        DataError: If it has another type or number of channels than the picture.
    """
    index = int(rng.integers(len(partners)))
    other, label = partners[index]
    if (other.dtype, other.shape[2]) != (image.dtype, image.shape[2]):
        raise DataError(
            f"copy_paste and mosaic need pictures of one kind, and one has {image.shape[2]} "
            f"channels of type {image.dtype}, another (number {index}) {other.shape[2]} of type "
            f"{other.dtype}; convert them, or switch both off"
        )
    return other, label


def draw_partner_with(
    partners: Partners, image: np.ndarray, classes: Sequence[int], rng: np.random.Generator
) -> Pair | None:
    """The first of up to four random partners that has one of the classes; None without success.

    Raises:
        DataError: As in `draw_partner`.
    """
    for _ in range(PARTNER_DRAWS):
        pair = draw_partner(partners, image, rng)
        if cv2.hasNonZero(mask_of(pair[1], classes)):
            return pair
    return None


def mask_of(label: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Where a label (H, W) has one of the classes: (H, W) uint8, 255 there and 0 elsewhere."""
    mask = np.zeros(label.shape, np.uint8)
    for c in classes:
        cv2.bitwise_or(mask, cv2.inRange(label, c, c), dst=mask)
    return mask


def sample_objects(
    label: np.ndarray, classes: Sequence[int], rng: np.random.Generator
) -> np.ndarray:
    """Choose about half of the objects of some classes, at least one.

    Without instances an object is what hangs together, corners included, whichever of the classes
    its parts have: a rider stays on the bicycle.

    Args:
        label: (H, W), uint8 or int16.
        classes: Which classes count as objects.
        rng: Source of chance.

    Returns:
        Mask (H, W) uint8, 1 on the chosen objects; all 0 where there is none.
    """
    count, objects = cv2.connectedComponents(mask_of(label, classes))
    chosen = (rng.random(count) < 0.5).astype(np.uint8)
    if count > 1 and not chosen[1:].any():
        chosen[rng.integers(1, count)] = 1
    chosen[0] = 0  # the background
    return chosen[objects]


def paste(image: np.ndarray, label: np.ndarray, other: Pair, mask: np.ndarray) -> Pair:
    """Put the masked pixels of another sample over this one, at their place.

    Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance
    Segmentation", https://arxiv.org/abs/2012.07177. Edges are left hard, as the paper found
    blending to make no difference.

    Args:
        image: (H, W, C) of any type.
        label: (H, W).
        other: A sample of the same sizes and types.
        mask: (H, W) uint8, not 0 where `other` is to be seen.

    Returns:
        New image and label.
    """
    # NumPy copies by a mask ten times slower than OpenCV.
    image = cv2.copyTo(other[0], mask, image.copy()).reshape(image.shape)
    return image, cv2.copyTo(other[1], mask, label.copy())


def sample_quarters(rng: np.random.Generator, side: int) -> list[Area]:
    """Cut a square in four at a point of its middle half, and shuffle the parts.

    Args:
        rng: Source of chance.
        side: Of the square, at least 2 pixels.

    Returns:
        Rows and columns of each part; none is empty.
    """
    y, x = np.clip(np.rint(rng.uniform(0.25, 0.75, 2) * side), 1, side - 1).astype(int).tolist()
    areas = [
        (rows, columns)
        for rows in (slice(0, y), slice(y, side))
        for columns in (slice(0, x), slice(x, side))
    ]
    return [areas[i] for i in rng.permutation(4)]


def assemble(pairs: Sequence[Pair], areas: Sequence[Area], side: int) -> Pair:
    """Put samples side by side.

    The mosaic of YOLOv4, Bochkovskiy et al. 2020, https://arxiv.org/abs/2004.10934.

    Args:
        pairs: Images (h, w, C) and labels (h, w) of one type, each of the size of its area.
        areas: Rows and columns of each; together they cover the square.
        side: Of the square, in pixels.

    Returns:
        Image (side, side, C) and label (side, side).
    """
    first_image, first_label = pairs[0]
    image = np.empty((side, side, first_image.shape[2]), first_image.dtype)
    label = np.empty((side, side), first_label.dtype)
    for area, (part, part_label) in zip(areas, pairs, strict=True):
        image[area] = part
        label[area] = part_label
    return image, label
