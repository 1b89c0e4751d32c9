"""Scores of overlapping windows become those of the image, block by block, in little memory."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from prediction.predictor.windows import Grid, Window
from utils.files.spill import Spill


class Block(NamedTuple):
    """Scores of a part of an image that no further window changes."""

    top: int
    left: int
    scores: Tensor  # (K, h, w)


def blend(grid: Grid, predicted: Iterable[tuple[Window, Tensor]], spill: Spill) -> Iterator[Block]:
    """Yield the weighted mean of the windows' scores, each pixel of the image once.

    Blocks come in bands from the top down, and within a band from left to right. At any time only
    the current window is held, what it shares with its right neighbour, and, in `spill`, what the
    band shares with the one below. Each pixel is summed in the same order whatever is held where,
    so the result does not depend on the memory.

    Args:
        grid: The windows of the image.
        predicted: Each window of the grid in order, and its scores (K, h, w); they are changed.
        spill: Keeps what bands share.
    """
    source = iter(predicted)
    for row in range(len(grid.rows)):
        right: Tensor | None = None
        for column in range(len(grid.columns)):
            window, scores = next(source)
            scores = _weighted(grid, row, column, scores)
            if row > 0 and (above := spill.take(column)) is not None:
                shared = torch.from_numpy(above).to(scores.device)
                scores[:, : shared.shape[1], : shared.shape[2]] += shared
            if right is not None:
                scores[:, :, : right.shape[2]] += right
            height, width = grid.rows.complete(row), grid.columns.complete(column)
            complete = scores
            if (height, width) != scores.shape[1:]:
                # Contiguous: reductions over slices take several times as long.
                complete = scores[:, :height, :width].contiguous()
            yield Block(window.top, window.left, complete)
            right = scores[:, :, width:].clone() if width < window.width else None
            if height < window.height:
                spill.put(column, scores[:, height:, :width].cpu().contiguous().numpy())


def _weighted(grid: Grid, row: int, column: int, scores: Tensor) -> Tensor:
    """Return scores times the weights of their window."""
    for weights, shape in (
        (grid.rows.weights(row), (-1, 1)),
        (grid.columns.weights(column), (1, -1)),
    ):
        if weights is not None:
            scores = scores.mul_(torch.from_numpy(weights).to(scores.device).view(shape))
    return scores
