"""Pictures of what a model sees and says."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from utils.palette import colorize

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


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
