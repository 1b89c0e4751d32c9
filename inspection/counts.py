"""Exact sums over an image and counts over a mask."""

import cv2
import msgspec
import numpy as np

from utils.samples.labels import LabelMap

_CHUNK = 1 << 24  # OpenCV counts in float32, exact up to here


class BandTotals(msgspec.Struct, frozen=True):
    """Sums over the pixels of one channel that hold data; whole numbers for 8-bit images."""

    count: int
    total: int | float
    squares: int | float
    low: float
    high: float


def band_totals(pixels: np.ndarray, present: np.ndarray | None = None) -> list[BandTotals]:
    """Return the sums of each channel of an image.

    Args:
        pixels: (H, W, C).
        present: (H, W) bool, the pixels that hold data; None for all.
    """
    totals = _totals_8_bit if pixels.dtype == np.uint8 else _totals
    return [totals(pixels, channel, present) for channel in range(pixels.shape[2])]


def _totals_8_bit(pixels: np.ndarray, channel: int, present: np.ndarray | None) -> BandTotals:
    """Return the sums from a histogram, which makes them exact."""
    counts = np.zeros(256, np.int64)
    rows = max(_CHUNK // pixels.shape[1], 1)
    for top in range(0, len(pixels), rows):
        chosen = None if present is None else present[top : top + rows].astype(np.uint8)
        histogram = cv2.calcHist([pixels[top : top + rows]], [channel], chosen, [256], [0, 256])
        counts += histogram.ravel().astype(np.int64)
    values = np.arange(256)
    seen = np.flatnonzero(counts)
    return BandTotals(
        int(counts.sum()),
        int((counts * values).sum()),
        int((counts * values**2).sum()),
        float(seen[0]) if len(seen) else 0.0,
        float(seen[-1]) if len(seen) else 0.0,
    )


def _totals(pixels: np.ndarray, channel: int, present: np.ndarray | None) -> BandTotals:
    values = pixels[..., channel] if present is None else pixels[..., channel][present]
    wide = values.astype(np.float64).ravel()
    if not wide.size:
        return BandTotals(0, 0.0, 0.0, 0.0, 0.0)
    low, high = float(wide.min()), float(wide.max())
    return BandTotals(wide.size, float(wide.sum()), float(wide @ wide), low, high)


def count_values(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the unique values of a mask, (U,) ids or (U, 3) colours, and the pixels of each."""
    if mask.ndim == 3:
        keys, counts = count_values(_pack_colours(mask))
        return _unpack_colours(keys), counts
    if mask.dtype == np.uint8:  # several times as fast as sorting
        counts = np.bincount(mask.ravel(), minlength=256)
        values = np.flatnonzero(counts)
        return values.astype(np.uint8), counts[values]
    return np.unique(mask, return_counts=True)


def _pack_colours(colours: np.ndarray) -> np.ndarray:
    """Return colours (..., 3) as one number each, which sorts several times as fast."""
    wide = colours.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _unpack_colours(numbers: np.ndarray) -> np.ndarray:
    """Return the colours that `_pack_colours` packed."""
    return np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], axis=-1).astype(np.uint8)


def indices_of(some: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the index of each of `some` values among all values."""
    if values.ndim == 1:
        return np.searchsorted(values, some)
    return np.searchsorted(_pack_colours(values), _pack_colours(some))


def label_values(values: np.ndarray, labels: LabelMap) -> tuple[np.ndarray, np.ndarray]:
    """Return the label of each value (U,), and which values have none."""
    known = labels.knows(values[None])[0]
    ids = np.zeros(len(values), np.int64)
    if known.any():
        ids[known] = labels(values[known][None], "")[0]
    return ids, ~known
