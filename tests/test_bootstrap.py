"""utils/bootstrap.py against scipy.stats.bootstrap and loops over its resamples."""

import numpy as np
import pytest
from scipy import stats

from utils import bootstrap
from utils.bootstrap import bootstrap_intervals, bootstrap_mean_iou


def some_counts(seed=0, size=12, num_classes=4):
    """Counts (N, 3, K): class 2 is in few pictures, class 3 in none."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 100, (size, 3, num_classes))
    counts[3:, :, 2] = 0
    counts[:, :, 3] = 0
    return counts


def mean_over_classes(counts, factor):
    tp, fp, fn = counts.sum(0).astype(float)
    found = tp + fp + fn > 0
    return np.mean([factor * t / (factor * t + p + n)
                    for t, p, n in zip(tp[found], fp[found], fn[found], strict=True)])  # fmt: skip


def pixel_accuracy(counts):
    return counts[:, 0].sum() / (counts[:, 0].sum() + counts[:, 2].sum())


def mean_of_images(counts):
    return np.mean([mean_over_classes(one[None], 1) for one in counts])


FIGURES = {
    "Mean_IoU": lambda counts: mean_over_classes(counts, 1),
    "Mean_Dice": lambda counts: mean_over_classes(counts, 2),
    "Pixel_Accuracy": pixel_accuracy,
    "Mean_Image_IoU": mean_of_images,
}


def scipy_interval(counts, figure, level, resamples, seed):
    """scipy draws the same pictures from the same seed."""
    result = stats.bootstrap(
        (np.arange(len(counts)),),
        lambda places: figure(counts[places]),
        vectorized=False,
        method="percentile",
        confidence_level=level,
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    return tuple(result.confidence_interval)


@pytest.mark.parametrize("name", FIGURES)
def test_feature_equals_scipy(name):
    counts = some_counts()
    found = bootstrap_intervals(counts, level=0.9, resamples=300, seed=5)[name]
    expected = scipy_interval(counts, FIGURES[name], 0.9, 300, 5)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found.low < found.high


def test_feature_class_intervals_equal_a_loop():
    """Over the resamples in which a class occurs; the third is absent in some, the last in all."""
    counts = some_counts()
    found = bootstrap_intervals(counts, resamples=200, seed=1)["Class_IoU"]
    rng = np.random.default_rng(1)
    values = [[] for _ in range(4)]
    for _ in range(200):
        tp, fp, fn = counts[rng.integers(0, 12, 12)].sum(0)
        for c in range(4):
            if tp[c] + fp[c] + fn[c]:
                values[c].append(tp[c] / (tp[c] + fp[c] + fn[c]))
    assert 0 < len(values[2]) < 200 and not values[3]
    assert found[3] is None
    for c in range(3):
        assert found[c] == pytest.approx(np.percentile(values[c], [2.5, 97.5]), abs=1e-12)


def test_feature_chunks_and_seed(monkeypatch):
    counts = some_counts()
    whole = bootstrap_intervals(counts, resamples=100, seed=3)
    monkeypatch.setattr(bootstrap, "_CHUNK_BYTES", 4000)
    assert bootstrap_intervals(counts, resamples=100, seed=3) == whole
    assert bootstrap_intervals(counts, resamples=100, seed=4) != whole
    assert bootstrap_mean_iou(counts, resamples=100, seed=3) == whole["Mean_IoU"]


def test_feature_equal_pictures_leave_no_doubt():
    counts = np.repeat(some_counts(size=1), 7, axis=0)
    low, high = bootstrap_mean_iou(counts, resamples=50)
    assert low == high == pytest.approx(mean_over_classes(counts, 1), abs=1e-15)


def test_feature_covers_the_truth():
    """About 95 % of the intervals of sets of 60 pictures hold the expected accuracy."""
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(100):
        right = rng.integers(0, 101, (60, 1))
        zeros = np.zeros_like(right)
        counts = np.stack([right, zeros, 100 - right], 1)
        low, high = bootstrap_intervals(counts, resamples=200, seed=seed)["Pixel_Accuracy"]
        hits += low <= 0.5 <= high
    assert 89 <= hits <= 99


def test_feature_pictures_without_labels():
    counts = np.zeros((3, 3, 2), np.int64)
    assert np.isnan(bootstrap_mean_iou(counts, resamples=10)).all()
    counts[0, :, 0] = 1
    found = bootstrap_intervals(counts, resamples=50)
    assert found["Mean_IoU"] == found["Mean_Image_IoU"] == pytest.approx((1 / 3, 1 / 3))


def test_exception_no_picture():
    for shape in ((0, 3, 4), (5, 4, 4), (3, 4)):
        with pytest.raises(ValueError, match=r"one or more pictures \(N, 3, K\), got shape"):
            bootstrap_mean_iou(np.zeros(shape, np.int64))
