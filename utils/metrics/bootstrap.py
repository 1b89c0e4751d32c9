"""How much a metric would change with other images: bootstrap intervals."""

import math
import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from utils.config.types import Fraction, PositiveInt, Seed
from utils.metrics.image_scores import class_ious, image_mean_ious, nan_mean, ratio

_CHUNK_BYTES = 2**26  # memory of draws, weights and resampled counts at a time
_ROUNDING = 1e-12  # metrics that differ by less are the same
_NORMAL = statistics.NormalDist()


class Interval(NamedTuple):
    """Where a metric lies, between two ends."""

    low: float
    high: float


def bootstrap_mean_iou(
    counts: np.ndarray, *, level: Fraction = 0.95, resamples: PositiveInt = 2000, seed: Seed = 0
) -> Interval | None:
    """Return the interval of the dataset's mean IoU: `bootstrap_intervals(...)["Mean_IoU"]`."""
    found = bootstrap_intervals(counts, level=level, resamples=resamples, seed=seed)
    interval: Interval | None = found["Mean_IoU"]
    return interval


def bootstrap_difference(
    before: np.ndarray,
    after: np.ndarray,
    *,
    level: Fraction = 0.95,
    resamples: PositiveInt = 2000,
    seed: Seed = 0,
) -> Interval | None:
    """Return the interval of how much higher one of two models scores on the same images.

    Each resample has the same images for both (a paired bootstrap), so that what is hard in an
    image counts for neither. The interval is between the quantiles of the differences of mean IoU
    (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13).

    Args:
        before: (N, 3, K) int64, one `class_counts()` an image, of one model.
        after: The same of the other, image by image.
        level: The fraction of resamples inside the interval.
        resamples: How many there are.
        seed: Seed of the draws.

    Returns:
        The interval of the second's mean IoU less the first's, or None where no resample has both.

    Raises:
        ValueError: If the shapes differ, or there is no image.
    """
    if before.shape != after.shape or before.ndim != 3 or not before.size:
        raise ValueError(
            f"expected counts (N, 3, K) of the same images, got {before.shape} and {after.shape}"
        )
    drawn = [
        np.concatenate([_metrics_of(*part)["Mean_IoU"] for part in _resampled(c, resamples, seed)])
        for c in (before, after)
    ]
    differences = drawn[1] - drawn[0]
    differences = differences[~np.isnan(differences)]
    if not differences.size:
        return None
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(low, high)


def bootstrap_intervals(
    counts: np.ndarray, *, level: Fraction = 0.95, resamples: PositiveInt = 2000, seed: Seed = 0
) -> dict[str, Any]:
    """Return bias-corrected and accelerated intervals of the dataset's metrics, over the images.

    A resample is N of the N images, drawn with replacement. Its metrics are those of the counts
    summed over it; a class that does not occur in it is left out of its means. The interval goes
    from the quantile Phi(z0 + (z0 + z) / (1 - a (z0 + z))) over the resamples with
    z = Phi^-1((1 - level) / 2) to that with -z, where Phi(z0) is the fraction of resamples below
    the metric (half of those that equal it count), and a = sum d^3 / (6 (sum d^2)^1.5) with d the
    mean of the metrics without one image, less each of them (Efron 1987,
    https://doi.org/10.1080/01621459.1987.10478410).

    Resamples lose classes that few images have, but not what is wrongly predicted as them: they
    may score lower than the set itself nearly always, which z0 corrects as far as it can.

    It says how much the metric depends on the images that happen to be in the set. It says
    nothing about another training run, and with few images it is too narrow.

    Differs from the paper: there is no interval where it would say nothing: where all resamples
    have one metric (of a single image, of a class in one image), or where the interval would
    leave out the metric itself.

    Example:
        >>> counts = np.array([[[8, 9], [1, 2], [2, 1]], [[5, 7], [3, 1], [1, 3]]])
        >>> interval = bootstrap_mean_iou(counts)
        >>> round(interval.low, 4), round(interval.high, 4)
        (0.596, 0.7386)

    Args:
        counts: (N, 3, K) int64, one `class_counts()` an image.
        level: The fraction of resamples inside an interval.
        resamples: How many there are.
        seed: Seed of the draws; the same seed gives the same intervals.

    Returns:
        `Mean_IoU`, `Mean_Dice`, `Pixel_Accuracy` and `Mean_Image_IoU`: an `Interval` each;
        `Class_IoU`: a list of length K. None where there is no interval. A class's interval is
        over the resamples in which it occurs.

    Raises:
        ValueError: If there is no image, or the counts have another shape.
    """
    if counts.ndim != 3 or counts.shape[1] != 3 or not counts.size:
        raise ValueError(
            f"expected counts of one or more images (N, 3, K), got shape {counts.shape}"
        )
    chunks = [_metrics_of(*chunk) for chunk in _resampled(counts, resamples, seed)]
    drawn = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    whole, without_one = _metrics_of(*_whole(counts)), _metrics_of(*_without_one(counts))

    def intervals(name: str) -> list[Interval | None]:
        columns = (np.atleast_2d(part[name].T) for part in (whole, drawn, without_one))
        return [
            _interval(metric.item(), values, jackknife, level)
            for metric, values, jackknife in zip(*columns, strict=True)
        ]

    return {
        name: intervals(name) if values.ndim == 2 else intervals(name)[0]
        for name, values in drawn.items()
    }


def _resampled(
    counts: np.ndarray, resamples: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield sums of counts (R, 3, K) and mean image scores (R,) of a chunk of resamples."""
    size, _, k = counts.shape
    # In float64 the product is a BLAS call, and exact: sums of pixels stay far below 2^53.
    flat = counts.reshape(size, -1).astype(np.float64)
    scores, scored = _image_scores(counts)
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK_BYTES // (8 * (2 * size + 3 * k)))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        draws = rng.integers(0, size, (rows, size))
        draws += np.arange(rows)[:, None] * size
        weights = np.bincount(draws.ravel(), minlength=rows * size).reshape(rows, size)
        weights = weights.astype(np.float64)
        yield (weights @ flat).reshape(rows, 3, k), ratio(weights @ scores, weights @ scored)


def _whole(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what `_resampled` does, of all images once: (1, 3, K) and (1,)."""
    scores, scored = _image_scores(counts)
    return counts.sum(0, keepdims=True), ratio(scores.sum(keepdims=True), scored.sum(keepdims=True))


def _without_one(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what `_resampled` does, of all images but one, for each: (N, 3, K) and (N,)."""
    scores, scored = _image_scores(counts)
    return counts.sum(0) - counts, ratio(scores.sum() - scores, scored.sum() - scored)


def _image_scores(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's mean IoU, 0 if it has none, and whether it has one: (N,) float64."""
    scores = image_mean_ious(counts)
    scored = ~np.isnan(scores)
    return np.where(scored, scores, 0), scored.astype(np.float64)


def _metrics_of(counts: np.ndarray, image_means: np.ndarray) -> dict[str, np.ndarray]:
    """Return the metrics of R resamples, (R,) or (R, K), from their counts (R, 3, K)."""
    true_positives, false_positives, false_negatives = np.moveaxis(counts, 1, 0)
    ious = class_ious(counts)
    dice = ratio(2 * true_positives, 2 * true_positives + false_positives + false_negatives)
    return {
        "Mean_IoU": nan_mean(ious),
        "Mean_Dice": nan_mean(dice),
        "Pixel_Accuracy": ratio(true_positives.sum(-1), (true_positives + false_negatives).sum(-1)),
        "Mean_Image_IoU": image_means,
        "Class_IoU": ious,
    }


def _interval(
    metric: float, values: np.ndarray, jackknife: np.ndarray, level: float
) -> Interval | None:
    """Return the interval of one metric, from its values over resamples and without one image."""
    values, jackknife = (column[~np.isnan(column)] for column in (values, jackknife))
    if not values.size or np.ptp(values) < _ROUNDING:
        return None
    below = np.mean([values < metric - _ROUNDING, values <= metric + _ROUNDING])
    if not 0 < below < 1:
        return None
    bias, skew = _NORMAL.inv_cdf(below.item()), _acceleration(jackknife)
    z = _NORMAL.inv_cdf((1 - level) / 2)
    low, high = (
        float(np.quantile(values, _NORMAL.cdf(bias + (bias + end) / (1 - skew * (bias + end)))))
        for end in (z, -z)
    )
    if not low - _ROUNDING <= metric <= high + _ROUNDING:
        return None
    return Interval(min(low, metric), max(metric, high))


def _acceleration(jackknife: np.ndarray) -> float:
    """Return how fast a metric's spread changes with the metric; 0 if the metric is constant."""
    d = jackknife.mean() - jackknife if jackknife.size else np.zeros(1)
    scale = np.abs(d).max().item()
    if scale < _ROUNDING:
        return 0.0
    d = d / scale
    return (d**3).sum().item() / (6 * math.pow((d**2).sum().item(), 1.5))
