"""utils/metrics/bootstrap.py against scipy.stats.bootstrap and loops over its resamples."""

import numpy as np
import pytest
from scipy import stats

from utils.metrics import bootstrap
from utils.metrics.bootstrap import bootstrap_difference, bootstrap_intervals, bootstrap_mean_iou


def some_counts(seed=0, size=12, num_classes=4):
    """Counts (N, 3, K): class 2 is in few images, class 3 in none."""
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
    """scipy draws the same images from the same seed."""
    result = stats.bootstrap(
        (np.arange(len(counts)),), lambda places: figure(counts[places]), vectorized=False,
        method="BCa", confidence_level=level, n_resamples=resamples,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return tuple(result.confidence_interval)


@pytest.mark.parametrize("name", FIGURES)
def test_feature_equals_scipy(name):
    counts = some_counts()
    found = bootstrap_intervals(counts, level=0.9, resamples=300, seed=5)[name]
    expected = scipy_interval(counts, FIGURES[name], 0.9, 300, 5)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found.low < found.high


def bca(figure, values, jackknife):
    """The 95 % interval of Efron 1987, with the normal distribution of scipy."""
    z0 = stats.norm.ppf((np.mean(values < figure) + np.mean(values <= figure)) / 2)
    d = np.mean(jackknife) - jackknife
    a = np.sum(d**3) / (6 * np.sum(d**2) ** 1.5)
    z = z0 + stats.norm.ppf([0.025, 0.975])
    return np.quantile(values, stats.norm.cdf(z0 + z / (1 - a * z)))


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
        figure, *jackknife = [
            part[0, c] / part[:, c].sum()
            for part in (counts.sum(0), *(np.delete(counts, i, 0).sum(0) for i in range(12)))
        ]
        expected = bca(figure, np.array(values[c]), np.array(jackknife))
        assert found[c] == pytest.approx(expected, abs=1e-12)
        assert found[c].low <= figure <= found[c].high


def rare_classes(seed, size, num_classes, share_of_strays):
    """Eight classes an image, the later the rarer; some pixels are taken for any class at all."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((size, 3, num_classes), int)
    weights = 1 / np.arange(1, num_classes + 1)
    for one in counts:
        for c in rng.choice(num_classes, 8, replace=False, p=weights / weights.sum()):
            pixels, stray = int(rng.integers(500, 20000)), rng.integers(num_classes)
            wrong = int(pixels * share_of_strays)
            one[[0, 2], c] += pixels - wrong, wrong
            one[1, stray] += wrong
    return counts


@pytest.mark.parametrize(
    ("size", "num_classes", "without"), [(100, 150, 3), (50, 60, 3), (30, 12, 0)]
)
def test_feature_no_interval_leaves_out_its_figure(size, num_classes, without):
    """Resamples lose rare classes and keep what is wrongly taken for them."""
    none = 0
    for seed in range(3):
        counts = rare_classes(seed, size, num_classes, 0.1)
        found = bootstrap_intervals(counts, resamples=500)
        for name, figure in FIGURES.items():
            none += name == "Mean_IoU" and found[name] is None
            assert found[name] is None or found[name].low <= figure(counts) <= found[name].high
        for c, interval in enumerate(found["Class_IoU"]):
            iou = counts[:, 0, c].sum() / counts[:, :, c].sum()
            assert interval is None or interval.low <= iou <= interval.high
    assert none == without


def test_feature_chunks_and_seed(monkeypatch):
    counts = some_counts()
    whole = bootstrap_intervals(counts, resamples=100, seed=3)
    monkeypatch.setattr(bootstrap, "_CHUNK_BYTES", 4000)
    assert bootstrap_intervals(counts, resamples=100, seed=3) == whole
    assert bootstrap_intervals(counts, resamples=100, seed=4) != whole
    assert bootstrap_mean_iou(counts, resamples=100, seed=3) == whole["Mean_IoU"]


@pytest.mark.parametrize("size", [1, 7])
def test_feature_equal_pictures_say_nothing_of_others(size):
    """One image, or one many times: all resamples are alike."""
    counts = np.repeat(some_counts(size=1), size, axis=0)
    found = bootstrap_intervals(counts, resamples=50)
    assert found == {**dict.fromkeys(FIGURES), "Class_IoU": [None] * 4}


def test_feature_pictures_without_labels():
    counts = np.zeros((3, 3, 2), np.int64)
    assert bootstrap_mean_iou(counts, resamples=10) is None
    counts[0, :, 0] = 1
    assert bootstrap_mean_iou(counts, resamples=50) is None  # one image
    counts[1, 0, 0] = 5
    found = bootstrap_intervals(counts, resamples=200)
    assert found["Mean_IoU"].low < 6 / 8 < found["Mean_IoU"].high


def test_exception_no_picture():
    for shape in ((0, 3, 4), (5, 4, 4), (3, 4)):
        with pytest.raises(ValueError, match=r"\(N, 3, K\), got shape"):
            bootstrap_mean_iou(np.zeros(shape, np.int64))


def test_difference_against_scipy():
    """The same images are drawn for both models."""
    before = some_counts()
    after = before + np.array([[5], [0], [0]])  # more right pixels

    def difference(places):
        return mean_over_classes(after[places], 1) - mean_over_classes(before[places], 1)

    expected = stats.bootstrap(
        (np.arange(len(before)),), difference, vectorized=False, method="percentile",
        n_resamples=500, rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    found = bootstrap_difference(before, after, resamples=500, seed=3)
    assert found == pytest.approx((expected.low, expected.high))
    # Far narrower than if each had images of its own.
    alone = bootstrap_mean_iou(before)
    assert found.high - found.low < alone.high - alone.low
    assert bootstrap_difference(before, before) == (0, 0)
    with pytest.raises(ValueError, match="counts .* of the same images"):
        bootstrap_difference(before, after[1:])
