"""Overlapping windows of a large image, and the weights that blend them without seams."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from utils.cli.choices import BLENDS

Blend = Literal["gaussian", "linear", "none"]

# Windows begin at multiples of this many pixels. Networks see an image on a coarser grid, of 8 to
# 32 pixels: with windows on that grid they give what they give for the image as a whole.
ALIGNMENT = 32

# The standard deviation of the Gaussian in windows, as nnU-Net has it
# (https://doi.org/10.1038/s41592-020-01008-z): the edge weighs e^-8 of the centre.
_SIGMA = 1 / 8


class Window(NamedTuple):
    """A part of an image."""

    top: int
    left: int
    height: int
    width: int


@dataclasses.dataclass(frozen=True)
class WindowRule:
    """How images are cut.

    Raises:
        ValueError: If a value is out of range.
    """

    size: int  # the height and width of a window, in pixels
    overlap: float = 0.25  # the least part of a window that the next one sees too
    blend: Blend = "gaussian"  # how the logits of overlapping windows are weighed

    def __post_init__(self) -> None:
        if self.size < ALIGNMENT:
            raise ValueError(f"a window has at least {ALIGNMENT} pixels a side, got {self.size}")
        if not 0 <= self.overlap <= 0.9:
            raise ValueError(f"the overlap of windows is in 0..0.9, got {self.overlap}")
        if self.blend not in BLENDS:
            raise ValueError(f"there is no blend {self.blend!r}; choose from {', '.join(BLENDS)}")

    @property
    def step(self) -> int:
        """The distance from one window's start to the next, in pixels."""
        return max(ALIGNMENT, int(self.size * (1 - self.overlap)) // ALIGNMENT * ALIGNMENT)


class Axis:
    """The windows along one side of an image, and the weight of each pixel in each of them.

    The weights of all windows at a pixel add up to 1, so that weighted sums need no division.

    Args:
        length: The image's height or width, in pixels.
        rule: How images are cut; None for one window that is the whole side.
    """

    def __init__(self, length: int, rule: WindowRule | None) -> None:
        self.length = length
        if rule is None or length <= rule.size:
            self.starts: tuple[int, ...] = (0,)
            self.sizes: tuple[int, ...] = (length,)
            self._weights: list[np.ndarray] | None = None
            return
        # The last window ends with the image; it may be up to a grid cell smaller.
        last = math.ceil((length - rule.size) / ALIGNMENT) * ALIGNMENT
        self.starts = (*range(0, last, rule.step), last)
        self.sizes = tuple(min(rule.size, length - start) for start in self.starts)
        self._weights = self._normalized([_shape(rule, size) for size in self.sizes], rule)

    def _normalized(self, shapes: list[np.ndarray], rule: WindowRule) -> list[np.ndarray]:
        """Return weights that add up to 1 at every pixel."""
        if rule.blend == "none":
            return [self._cut(index) for index in range(len(self.starts))]
        total = np.zeros(self.length)
        for start, weights in zip(self.starts, shapes, strict=True):
            total[start : start + len(weights)] += weights
        return [
            (weights / total[start : start + len(weights)]).astype(np.float32)
            for start, weights in zip(self.starts, shapes, strict=True)
        ]

    def _cut(self, index: int) -> np.ndarray:
        """Return 1 where a window has a pixel for itself, which is up to the middle of overlaps."""
        start, size = self.starts[index], self.sizes[index]
        begin = 0 if index == 0 else self._middle(index - 1)
        end = self.length if index == len(self.starts) - 1 else self._middle(index)
        positions = np.arange(start, start + size)
        return ((positions >= begin) & (positions < end)).astype(np.float32)

    def _middle(self, index: int) -> int:
        """Return the middle of the overlap of a window with the next one."""
        return (self.starts[index] + self.sizes[index] + self.starts[index + 1]) // 2

    def weights(self, index: int) -> np.ndarray | None:
        """Return the weight of each pixel of a window, float32; None if it is the only window."""
        return None if self._weights is None else self._weights[index]

    def complete(self, index: int) -> int:
        """Return how many first pixels of a window no later window sees."""
        if index == len(self.starts) - 1:
            return self.sizes[index]
        return self.starts[index + 1] - self.starts[index]

    def __len__(self) -> int:
        return len(self.starts)


def _shape(rule: WindowRule, size: int) -> np.ndarray:
    """Return the weight of each pixel of a window before those of all windows are added up."""
    if rule.blend == "gaussian":
        # Equal for all windows: a smaller last one is the first part of a whole one.
        positions = np.arange(rule.size) - (rule.size - 1) / 2
        return np.exp(-0.5 * (positions / (rule.size * _SIGMA)) ** 2)[:size]
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    return np.minimum(1.0, distance / max(1.0, rule.size - rule.step))


class Grid:
    """The windows of an image, in bands from the top down.

    Args:
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        rule: How images are cut; None for one window that is the whole image.
    """

    def __init__(self, height: int, width: int, rule: WindowRule | None) -> None:
        self.rows, self.columns = Axis(height, rule), Axis(width, rule)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def band(self, row: int) -> list[Window]:
        """Return the windows of a band, from left to right."""
        top, height = self.rows.starts[row], self.rows.sizes[row]
        spans = zip(self.columns.starts, self.columns.sizes, strict=True)
        return [Window(top, left, height, width) for left, width in spans]

    def windows(self) -> Iterator[Window]:
        """Yield all windows, band after band."""
        for row in range(len(self.rows)):
            yield from self.band(row)


def same_size_runs(windows: Sequence[Window], most: int) -> Iterator[list[Window]]:
    """Yield the windows in order, in batches of one size, at most so many at once."""
    batch: list[Window] = []
    for window in windows:
        if batch and (len(batch) == most or window[2:] != batch[0][2:]):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
