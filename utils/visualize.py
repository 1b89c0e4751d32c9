"""Pictures of what a model sees and says."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from utils.palette import colorize

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


SHOWN_SPREAD = 2  # standard deviations on each side of the mean, from black to white


def to_rgb(
    image: np.ndarray, bands: Sequence[int], mean: Sequence[float], std: Sequence[float]
) -> np.ndarray:
    """A picture of any bands and type as one to look at.

    8-bit values are shown as they are; of others, black lies two standard deviations below the
    mean of a band and white two above.

    Args:
        image: (H, W, C).
        bands: The channels that show red, green and blue, or one to show in grey.
        mean: Of each channel, as for `normalize()`.
        std: Likewise.

    Returns:
        (H, W, 3) uint8.
    """
    chosen = image if list(bands) == list(range(image.shape[2])) else image[..., list(bands)]
    if image.dtype != np.uint8:
        centre = np.array([mean[band] for band in bands], np.float32)
        spread = np.array([std[band] for band in bands], np.float32) * SHOWN_SPREAD
        chosen = (chosen - centre) / (2 * spread) + 0.5
        chosen = np.rint(np.clip(chosen, 0, 1) * 255).astype(np.uint8)
    if chosen.shape[2] == 1:
        chosen = np.repeat(chosen, 3, axis=2)
    return np.ascontiguousarray(chosen)


def comparison_grid(
    triples: Sequence[Triple],
    palette: Sequence[Sequence[int]],
    ignore_index: int,
    max_side: int = 400,
) -> np.ndarray:
    """Rows of picture, label and prediction.

    Args:
        triples: Pictures (H, W, 3), labels (H, W) and predictions (H, W).
        palette: (r, g, b) for each class.
        ignore_index: The label that does not count.
        max_side: Pictures are shrunk to at most this many pixels.

    Returns:
        (H', W', 3) uint8.
    """
    gap = 4
    rows = []
    for image, label, prediction in triples:
        cells = [
            image,
            colorize(label, palette, ignore_index),
            # Where the label does not count the prediction is not judged, but it is still shown.
            colorize(prediction, palette),
        ]
        scale = min(1.0, max_side / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        cells = [
            cv2.resize(cell, size, interpolation=cv2.INTER_AREA if i == 0 else cv2.INTER_NEAREST)
            for i, cell in enumerate(cells)
        ]
        cells = [cv2.copyMakeBorder(c, 0, gap, 0, gap, 0, value=(255, 255, 255)) for c in cells]
        rows.append(np.hstack(cells))
    width = max(row.shape[1] for row in rows)
    padded = [
        cv2.copyMakeBorder(row, 0, 0, 0, width - row.shape[1], 0, value=(255, 255, 255))
        for row in rows
    ]
    return np.vstack(padded).astype(np.uint8)
