"""How far a figure would move with other pictures: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from utils.config import Fraction, PositiveInt, Seed
from utils.image_scores import class_ious, image_mean_ious, nan_mean, ratio

_CHUNK_BYTES = 2**26  # of draws, weights and resampled counts at a time


class Interval(NamedTuple):
    """Where a figure lies, between two ends."""

    low: float
    high: float


def bootstrap_mean_iou(
    counts: np.ndarray,
    *,
    level: Fraction = 0.95,
    resamples: PositiveInt = 2000,
    seed: Seed = 0,
) -> Interval:
    """The interval of the dataset's mean IoU: `bootstrap_intervals(...)["Mean_IoU"]`."""
    found = bootstrap_intervals(counts, level=level, resamples=resamples, seed=seed)
    interval: Interval = found["Mean_IoU"]
    return interval


def bootstrap_intervals(
    counts: np.ndarray,
    *,
    level: Fraction = 0.95,
    resamples: PositiveInt = 2000,
    seed: Seed = 0,
) -> dict[str, Any]:
    """Percentile intervals of the dataset's figures, over the choice of pictures.

    A resample is N of the N pictures, drawn with replacement. Its figures are those of the counts
    summed over it; a class that does not occur in it is left out of its means. The interval goes
    from the (1 - level) / 2 to the (1 + level) / 2 quantile over the resamples (Efron 1979,
    https://doi.org/10.1214/aos/1176344552).

    It says how much the figure depends on the pictures that happen to be in the set. It says
    nothing about another training run, and with few pictures it is too narrow.

    Example:
        >>> counts = np.array([[[8, 9], [1, 2], [2, 1]], [[5, 7], [3, 1], [1, 3]]])
        >>> interval = bootstrap_mean_iou(counts)
        >>> round(interval.low, 4), round(interval.high, 4)
        (0.596, 0.7386)

    Args:
        counts: (N, 3, K) int64, one `class_counts()` a picture.
        level: The share of resamples inside an interval.
        resamples: How many there are.
        seed: Of the draws; the same seed gives the same intervals.

    Returns:
        `Mean_IoU`, `Mean_Dice`, `Pixel_Accuracy` and `Mean_Image_IoU`: an `Interval` each, of NaN
        where there is no labelled pixel; `Class_IoU`: a list of length K, with None for a class
        that does not occur. A class's interval is over the resamples in which it occurs.

    Raises:
        ValueError: If there is no picture, or the counts have another shape.
    """
    if counts.ndim != 3 or counts.shape[1] != 3 or not counts.size:
        raise ValueError(
            f"expected counts of one or more pictures (N, 3, K), got shape {counts.shape}"
        )
    chunks = [_figures(*chunk) for chunk in _resampled(counts, resamples, seed)]
    return {
        name: _intervals(np.concatenate([chunk[name] for chunk in chunks]), level)
        for name in chunks[0]
    }


def _resampled(
    counts: np.ndarray, resamples: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Summed counts (R, 3, K) and mean of the image scores (R,), a chunk of resamples at a time."""
    size, _, k = counts.shape
    # In float64 the product is a BLAS call, and exact: sums of pixels stay far below 2^53.
    flat = counts.reshape(size, -1).astype(np.float64)
    scores = image_mean_ious(counts)
    scored = ~np.isnan(scores)
    scores = np.where(scored, scores, 0)
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK_BYTES // (8 * (2 * size + 3 * k)))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        draws = rng.integers(0, size, (rows, size))
        draws += np.arange(rows)[:, None] * size
        weights = np.bincount(draws.ravel(), minlength=rows * size).reshape(rows, size)
        weights = weights.astype(np.float64)
        yield (weights @ flat).reshape(rows, 3, k), ratio(weights @ scores, weights @ scored)


def _figures(counts: np.ndarray, image_means: np.ndarray) -> dict[str, np.ndarray]:
    """The figures of R resamples, (R,) or (R, K), from their counts (R, 3, K)."""
    hits, false_positives, false_negatives = np.moveaxis(counts, 1, 0)
    ious = class_ious(counts)
    dice = ratio(2 * hits, 2 * hits + false_positives + false_negatives)
    return {
        "Mean_IoU": nan_mean(ious),
        "Mean_Dice": nan_mean(dice),
        "Pixel_Accuracy": ratio(hits.sum(-1), (hits + false_negatives).sum(-1)),
        "Mean_Image_IoU": image_means,
        "Class_IoU": ious,
    }


def _intervals(values: np.ndarray, level: float) -> Interval | list[Interval | None]:
    """The interval of each figure, from its values (R,) or (R, K)."""
    if values.ndim == 1:
        return _interval(values, level)
    intervals = [_interval(column, level) for column in values.T]
    return [None if np.isnan(interval.low) else interval for interval in intervals]


def _interval(values: np.ndarray, level: float) -> Interval:
    values = values[~np.isnan(values)]
    if not values.size:
        return Interval(np.nan, np.nan)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
