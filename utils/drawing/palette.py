"""Colours of classes, and masks as files."""

import functools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from utils.files.atomic_write import new_file

# The VOC colour map's entry for 255, the label that VOC ignores in its evaluation.
IGNORED_COLOUR = (224, 224, 192)


def voc_palette(num_classes: int) -> list[tuple[int, int, int]]:
    """Return the PASCAL VOC colour map for so many classes.

    Bit `3i` of the class id becomes bit `7 - i` of red, bit `3i + 1` of green, bit `3i + 2` of
    blue. From `VOClabelcolormap.m` of the VOC development kit,
    http://host.robots.ox.ac.uk/pascal/VOC/voc2012/.

    Args:
        num_classes: The number of colours.

    Returns:
        A new list of `(red, green, blue)`, each 0..255.

    Raises:
        ValueError: If `num_classes` is negative, or more than there are colours (2^24).
    """
    if not 0 <= num_classes <= 2**24:
        raise ValueError(f"there are colours for 0 to 2^24 classes, not for {num_classes}")
    return [(_spread(i), _spread(i >> 1), _spread(i >> 2)) for i in range(num_classes)]


def _spread(bits: int) -> int:
    """Return every third bit, the lowest of them first, as the highest bits of a byte."""
    return sum((bits >> (3 * i) & 1) << (7 - i) for i in range(8))


def mask_palette(palette: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Return a colour for each of 256 ids: those of the classes, then those of VOC."""
    return [*palette, *_voc_colours()[len(palette) :]]


@functools.cache  # computing them takes as long as compressing a small mask
def _voc_colours() -> tuple[tuple[int, int, int], ...]:
    return tuple(voc_palette(256))


def colorize(
    ids: np.ndarray, palette: Sequence[Sequence[int]], ignore_index: int | None = None
) -> np.ndarray:
    """Paint class ids.

    Args:
        ids: (H, W) integers.
        palette: K colours, each three values in 0..255.
        ignore_index: The label that gets `IGNORED_COLOUR`; None for a prediction, which has none.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: If an id has no colour and is not the ignored one.
    """
    colours = np.array([*palette, IGNORED_COLOUR], dtype=np.uint8)
    if ids.dtype == np.uint8 and ignore_index is None and ids.size and ids.max() < len(palette):
        # Ten times as fast as NumPy; predictions are of this type.
        table = np.zeros((1, 256, 3), np.uint8)
        table[0, : min(len(palette), 256)] = colours[:-1][:256]
        return cv2.LUT(cv2.cvtColor(ids, cv2.COLOR_GRAY2RGB), table)
    indices = ids.astype(np.intp)
    if ignore_index is not None:
        indices[ids == ignore_index] = len(palette)
    allowed = len(palette) + (ignore_index is not None)
    if indices.size and (indices.min() < 0 or indices.max() >= allowed):
        odd = np.unique(indices[(indices < 0) | (indices >= allowed)])[:5].tolist()
        raise ValueError(f"the palette has {len(palette)} colours, and none for the ids {odd}")
    return colours[indices]


def blend(image: np.ndarray, colours: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Blend colours into an image, both (H, W, 3) uint8 RGB; at an opacity of 1 only they show."""
    return cv2.addWeighted(image, 1 - opacity, colours, opacity, 0)


def save_mask(
    path: str | Path, ids: np.ndarray, palette: Sequence[Sequence[int]], *, overwrite: bool = False
) -> None:
    """Write class ids (H, W) as a PNG: the pixel values are the ids, the palette only paints them.

    The ids of more than 256 classes do not fit into a palette: these become a 16-bit grey PNG.

    Raises:
        ValueError: If an id does not fit into the file.
        FileExistsError: If the file exists and `overwrite` is off.
        OSError: If it cannot be written; no file is left behind.
    """
    deep = len(palette) > 256
    limit = 65536 if deep else 256
    if ids.size and (ids.min() < 0 or ids.max() >= limit):
        raise ValueError(
            f"{path}: the ids are {ids.min()} to {ids.max()}; the file can have 0 to {limit - 1}"
        )
    if deep:
        mask = Image.fromarray(ids.astype(np.uint16))
    else:
        mask = Image.fromarray(ids.astype(np.uint8))
        mask.putpalette(np.array(mask_palette(palette), dtype=np.uint8).tobytes())
    _save_png(Path(path), mask, overwrite)


def save_image(path: str | Path, image: np.ndarray, *, overwrite: bool = False) -> None:
    """Write an RGB image (H, W, 3) uint8 as a PNG; its folder must exist.

    Raises:
        FileExistsError: If the file exists and `overwrite` is off.
        OSError: If it cannot be written; no file is left behind.
    """
    _save_png(Path(path), Image.fromarray(image), overwrite)


def _save_png(path: Path, image: Image.Image, overwrite: bool) -> None:
    with new_file(path, overwrite=overwrite) as file:
        image.save(file, format="PNG")
