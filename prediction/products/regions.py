"""Connected regions of one class, found while the rows of an image stream by."""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

CHUNK_PIXELS = 1 << 20  # pixels that are looked at together; each takes some 40 bytes meanwhile


class Regions(NamedTuple):
    """Regions, one entry each: pixels of one id that touch at their sides (4-connectivity)."""

    ids: np.ndarray  # (n,) int64: the id of the pixels
    # (n,) int64: the position of the first pixel, row * W + column; it names the region.
    firsts: np.ndarray
    pixels: np.ndarray  # (n,) int64: how many there are
    confidence: np.ndarray  # (n,) float64: the sum over the pixels; NaN if it is not known

    def take(self, which: np.ndarray) -> "Regions":
        """Return some of the regions, by index or mask."""
        return Regions(*(column[which] for column in self))

    @classmethod
    def join(cls, several: list["Regions"]) -> "Regions":
        """Return all regions of a list, sorted by their first pixel."""
        columns = [np.concatenate(column) for column in zip(_NONE, *several, strict=True)]
        return cls(*columns).take(np.argsort(columns[1]))


_NONE = Regions(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.int64, np.float64)))


class Found(NamedTuple):
    """What some rows have told about the regions."""

    top: int  # the first row's number in the image
    ids: np.ndarray  # (h, W): the rows
    labels: np.ndarray  # (h, W) integers: the number of each pixel's region in `firsts`
    firsts: np.ndarray  # (k,) int64: the first pixels of these regions, as far as known by now
    # (m, 2) int64: first pixels of regions above that have become one with others in these rows,
    # each with the first pixel of the common region.
    joined: np.ndarray
    ended: Regions  # the regions that end above the last of these rows: nothing is added to them


class RegionFinder:
    """Find the regions of an image from its rows; only the last row is kept.

    Args:
        width: W of the image.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._top = 0
        # The regions that touch the last row, and which of them each of its pixels belongs to.
        self._open = _NONE
        self._last_ids = self._last_labels = np.zeros(0, np.int64)

    def add(self, ids: np.ndarray, confidence: np.ndarray | None = None) -> Iterator[Found]:
        """Take the next rows; yield what they tell, some rows at a time.

        Args:
            ids: (h, W) integers.
            confidence: (h, W), or None for every row of the image.
        """
        height = max(1, CHUNK_PIXELS // self._width)
        for row in range(0, len(ids), height):
            rows = slice(row, row + height)
            yield self._scan(ids[rows], None if confidence is None else confidence[rows])

    def rest(self) -> Regions:
        """Return the regions that touch the last row of all."""
        return self._open

    def _scan(self, ids: np.ndarray, confidence: np.ndarray | None) -> Found:
        # The regions of these rows alone, behind those that are open.
        labels, regions = _regions_of(ids, confidence)
        regions = regions._replace(firsts=regions.firsts + self._top * self._width)
        before = len(self._open.ids)
        both = Regions(*map(np.concatenate, zip(self._open, regions, strict=True)))

        # Those that touch are one.
        pairs = np.zeros((0, 2), np.int64)
        if self._top:
            touching = self._last_ids == ids[0]
            pairs = np.stack([self._last_labels, labels[0] + before], 1)[touching]
        groups = _groups(len(both.ids), pairs)
        whole = _sum(both, groups)
        labels = groups[before:][labels]
        now = whole.firsts[groups[:before]]
        moved = now != self._open.firsts

        # Those in the last row may go on.
        going_on, last_labels = np.unique(labels[-1], return_inverse=True)
        ended = np.ones(len(whole.ids), bool)
        ended[going_on] = False
        found = Found(
            self._top, ids, labels, whole.firsts,
            np.stack([self._open.firsts, now], 1)[moved], whole.take(ended),
        )  # fmt: skip
        self._open, self._last_labels = whole.take(going_on), last_labels
        self._last_ids = ids[-1].copy()
        self._top += len(ids)
        return found


def label_regions(ids: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the regions of an array, those of all classes in one pass.

    Args:
        ids: (h, W) integers.

    Returns:
        (h, W) int32 numbers from 0 on, and how many there are.
    """
    height, width = ids.shape
    # Between the pixels, a cell for each pair of neighbours is set where they are equal: what is
    # connected in this grid is connected in the image, and of one class.
    grid = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    grid[::2, ::2] = 1
    grid[::2, 1::2] = ids[:, 1:] == ids[:, :-1]
    grid[1::2, ::2] = ids[1:] == ids[:-1]
    count, labels = cv2.connectedComponents(grid, connectivity=4)
    return labels[::2, ::2] - 1, count - 1


def _regions_of(ids: np.ndarray, confidence: np.ndarray | None) -> tuple[np.ndarray, Regions]:
    labels, count = label_regions(ids)
    flat = labels.ravel()
    # The first pixel of a region is the first of a run of equal ids.
    starts = np.ones(ids.shape, bool)
    starts[:, 1:] = ids[:, 1:] != ids[:, :-1]
    positions = np.flatnonzero(starts)
    firsts = np.full(count, ids.size, np.int64)
    np.minimum.at(firsts, flat[positions], positions)
    pixels = np.bincount(flat, minlength=count).astype(np.int64)
    sums = np.full(count, np.nan)
    if confidence is not None:
        sums = np.bincount(flat, weights=confidence.ravel(), minlength=count)
    return labels, Regions(ids.ravel()[firsts].astype(np.int64), firsts, pixels, sums)


def _groups(count: int, pairs: np.ndarray) -> np.ndarray:
    """Return for each of so many things the number of its group; pairs (m, 2) are in one group."""
    pairs = np.unique(pairs, axis=0)
    paired, numbers = np.unique(pairs, return_inverse=True)
    parents = list(range(len(paired)))

    def find(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for one, other in numbers.reshape(-1, 2).tolist():
        parents[find(other)] = find(one)
    groups = np.arange(count)
    groups[paired] = paired[[find(number) for number in parents]]
    return np.unique(groups, return_inverse=True)[1]


def _sum(regions: Regions, groups: np.ndarray) -> Regions:
    """Return a region for each group of regions."""
    count = int(groups.max()) + 1
    ids, pixels, sums = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count)
    firsts = np.full(count, np.iinfo(np.int64).max)
    ids[groups] = regions.ids  # equal within a group
    np.minimum.at(firsts, groups, regions.firsts)
    np.add.at(pixels, groups, regions.pixels)
    np.add.at(sums, groups, regions.confidence)
    return Regions(ids, firsts, pixels, sums)
