"""Logits that are not upsampled yet, and sums over their pixels a tile at a time."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_CLASSES = 16  # from here on tiles are faster than all at once, with a processor's kernels

TILE = 2**20  # logits of a tile: few enough for a processor's cache,
MAX_TILES = 64  # and few enough tiles that a GPU does not wait for the program


class CoarseLogits(NamedTuple):
    """Logits of a coarse grid, upsampled to the images' size only where they are used.

    Upsampling is linear and takes rows and columns apart: Z = R C S^T for each class, where a row
    of R or S holds the weights of the two coarse rows or columns that a pixel lies between. A tile
    of Z takes a tile of each of the three.
    """

    values: Tensor  # (B, K, h, w)
    size: tuple[int, int]  # H and W
    # Whether the centres of the corner pixels stay in place, or the outer edges.
    align_corners: bool
    # The height and width that the logits are upsampled to, where that is more than `size`, which
    # is then cut out at the top left.
    canvas: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """B, K, H and W."""
        batch, classes = self.values.shape[:2]
        return batch, classes, *self.size

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.values.device

    def full(self) -> Tensor:
        """Return all logits at the images' size, (B, K, H, W)."""
        logits = F.interpolate(
            self.values,
            size=self.canvas or self.size,
            mode="bilinear",
            align_corners=self.align_corners,
        )
        return logits if self.canvas is None else logits[:, :, : self.size[0], : self.size[1]]

    @torch.no_grad()
    def argmax(self) -> Tensor:
        """Return the class of the largest logit of every pixel, (B, H, W) int64."""
        ids = torch.empty(
            (len(self.values), *self.size), dtype=torch.int64, device=self.values.device
        )
        with torch.autocast(self.device.type, enabled=False):
            values = _classes_last(self.values)
            for tile in _tiles(self):
                ids[tile.pixels] = tile.upsampled(values).argmax(-1)
        return ids

    def total(self, function: Callable[..., Tensor], *maps: Tensor) -> Tensor:
        """Return the sum of a function over all tiles.

        No tile is kept for the backward pass: its gradient is computed with its value, which is
        a scalar, so that all that is left to do later is to scale it.

        Args:
            function: Takes logits (B, rows, columns, K), float32 or float64, and the same tile of
                each map; returns a scalar.
            maps: (B, H, W), without gradient.

        Returns:
            A scalar.
        """
        return _Total.apply(self.values, self, function, maps)


Logits: TypeAlias = Tensor | CoarseLogits


def heads_of(outputs: Logits | tuple[Logits, ...]) -> tuple[Logits, ...]:
    """Return a model's logits and auxiliary ones as a tuple, also of one."""
    return (outputs,) if isinstance(outputs, (Tensor, CoarseLogits)) else outputs


class _Tile(NamedTuple):
    """A rectangle of pixels, and the coarse rectangle that it depends on."""

    pixels: tuple[slice, slice, slice]
    coarse: tuple[slice, slice, slice]
    rows: Tensor  # a part of R
    columns: Tensor  # a part of S

    def upsampled(self, values: Tensor) -> Tensor:
        """Return logits (B, rows, columns, K) from all coarse ones (B, h, w, K)."""
        part = values[self.coarse]
        batch, height, width, classes = part.shape
        rows = self.rows @ part.reshape(batch, height, width * classes)
        return self.columns @ rows.view(batch, -1, width, classes)

    def add_gradient(self, gradient: Tensor, total: Tensor) -> None:
        """Carry a gradient (B, rows, columns, K) over to that of the coarse logits."""
        rows = self.columns.T @ gradient
        batch, _, width, classes = rows.shape
        part = self.rows.T @ rows.view(batch, -1, width * classes)
        total[self.coarse] += part.view(batch, -1, width, classes)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        logits: CoarseLogits,
        function: Callable[..., Tensor],
        maps: tuple[Tensor, ...],
    ) -> Tensor:
        values = _classes_last(values)
        needs_gradient = ctx.needs_input_grad[0]
        gradient = torch.zeros_like(values) if needs_gradient else None
        total = values.new_zeros(())
        for tile in _tiles(logits):
            parts = [pixels[tile.pixels] for pixels in maps]
            with torch.set_grad_enabled(needs_gradient):
                upsampled = tile.upsampled(values).requires_grad_(needs_gradient)
                value = function(upsampled, *parts)
            if gradient is not None:
                tile.add_gradient(torch.autograd.grad(value, upsampled)[0], gradient)
            total += value.detach()
        if gradient is not None:
            ctx.save_for_backward(gradient.movedim(-1, 1))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * factor, None, None, None


def _classes_last(values: Tensor) -> Tensor:
    """Return (B, h, w, K), at least float32: softmax and argmax are fast in this memory order."""
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    return values.movedim(1, -1).contiguous()


def _tiles(logits: CoarseLogits) -> Iterator[_Tile]:
    """Yield tiles that cover all pixels, as square as possible, which needs the least products."""
    batch, classes, height, width = logits.shape
    elements = max(TILE, batch * classes * height * width // MAX_TILES)
    side = max(1, math.isqrt(elements // (batch * classes)))
    rows, columns = (_pieces(logits, axis, side) for axis in (0, 1))
    for (own_rows, coarse_rows, row_weights), (
        own_columns,
        coarse_columns,
        column_weights,
    ) in itertools.product(rows, columns):
        yield _Tile(
            (slice(None), own_rows, own_columns),
            (slice(None), coarse_rows, coarse_columns),
            row_weights,
            column_weights,
        )


def _pieces(logits: CoarseLogits, axis: int, side: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Split an axis into pieces of at most `side`, each with the coarse ones and their weights."""
    values, coarse_size = logits.values, logits.values.shape[2 + axis]
    size, canvas = logits.size[axis], (logits.canvas or logits.size)[axis]
    # What upsampling makes of each coarse row or column alone: R or S.
    dtype = torch.promote_types(values.dtype, torch.float32)
    alone = torch.eye(coarse_size, dtype=dtype, device=values.device)[None, None]
    weights = F.interpolate(
        alone, (canvas, coarse_size), mode="bilinear", align_corners=logits.align_corners
    )[0, 0]
    count = math.ceil(size / side)
    for piece in range(count):
        start, stop = (size * index // count for index in (piece, piece + 1))
        # All that may have a weight, in either way to align.
        first = max(0, start * coarse_size // canvas - 1)
        last = min(coarse_size, -(-stop * coarse_size // canvas) + 1)
        yield slice(start, stop), slice(first, last), weights[start:stop, first:last]
