"""Run lengths of regions, column by column as COCO has them, from rows that stream by."""

from collections.abc import Iterator

import numpy as np

from prediction.products.regions import Found


class ColumnRuns:
    """The vertical runs of an image: pixels below each other that have one id.

    Args:
        height: H of the image.
        width: W of the image.
    """

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width = height, width
        # Positions count column * H + row; a region goes by its first pixel as it was known then.
        self._starts: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._keys: list[np.ndarray] = []
        self._joined: list[np.ndarray] = [np.zeros((0, 2), np.int64)]
        # The run in each column that may go on.
        self._open_starts = self._open_keys = np.zeros(0, np.int64)
        self._last = np.zeros(0, np.int64)

    def add(self, found: Found) -> None:
        """Take the next rows."""
        begins = np.ones(found.ids.shape, bool)
        begins[1:] = found.ids[1:] != found.ids[:-1]
        if found.top:
            begins[0] = found.ids[0] != self._last
        columns, rows = np.nonzero(begins.T)
        keys = found.firsts[found.labels[rows, columns]]
        starts = columns * self._height + found.top + rows
        self._close(np.append(self._open_starts, starts), np.append(self._open_keys, keys))
        self._joined.append(found.joined)
        self._last = found.ids[-1].copy()

    def _close(self, starts: np.ndarray, keys: np.ndarray) -> None:
        """Keep the runs that another one in their column ends; the last of each stays open."""
        order = np.argsort(starts, kind="stable")
        starts, keys = starts[order], keys[order]
        columns = starts // self._height
        last = np.append(columns[1:] != columns[:-1], True)
        ended = np.flatnonzero(~last)
        self._starts.append(starts[ended])
        self._lengths.append((starts[ended + 1] - starts[ended]).astype(np.uint32))
        self._keys.append(keys[ended])
        self._open_starts, self._open_keys = starts[last], keys[last]

    def counts(self, firsts: np.ndarray) -> Iterator[list[int]]:
        """Yield the counts of some regions, after the last row.

        Counts are the lengths of runs that are outside and inside the region by turns, over the
        columns from left to right.

        Args:
            firsts: (n,) The first pixels of the regions.
        """
        # Close the runs that reach the last row.
        ends = np.arange(1, self._width + 1) * self._height
        self._starts.append(self._open_starts)
        self._lengths.append((ends - self._open_starts).astype(np.uint32))
        self._keys.append(self._open_keys)

        # Sort them by region and position.
        starts, lengths = np.concatenate(self._starts), np.concatenate(self._lengths)
        keys = _resolve(np.concatenate(self._keys), np.concatenate(self._joined))
        order = np.lexsort((starts, keys))
        starts, ends, keys = starts[order], starts[order] + lengths[order], keys[order]
        begins = np.searchsorted(keys, firsts).tolist()
        for a, b in zip(begins, np.searchsorted(keys, firsts, "right").tolist(), strict=True):
            yield self._counts_of(starts[a:b], ends[a:b])

    def _counts_of(self, starts: np.ndarray, ends: np.ndarray) -> list[int]:
        # A run that ends a column and one that begins the next are one.
        apart = starts[1:] != ends[:-1]
        starts, ends = starts[np.append(True, apart)], ends[np.append(apart, True)]
        edges = np.stack([starts, ends], 1).ravel()
        rest = self._height * self._width - int(edges[-1])
        return np.diff(edges, prepend=0).tolist() + [rest] * (rest > 0)


def _resolve(keys: np.ndarray, joined: np.ndarray) -> np.ndarray:
    """Return the first pixels that regions have in the end, from those known on the way."""
    if not len(joined):
        return keys
    old, now = joined[np.argsort(joined[:, 0])].T

    def look_up(values: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(old, values), len(old) - 1)
        return np.where(old[at] == values, now[at], values)

    while not np.array_equal(further := look_up(now), now):  # twice as many steps at once
        now = further
    return look_up(keys)
