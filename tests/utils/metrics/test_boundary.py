"""utils/metrics/boundary.py against scipy.ndimage, class by class, and against hand-made cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from utils.metrics.boundary import BoundaryMetrics

CROSS = ndimage.generate_binary_structure(2, 1)


def blobs(seed, shape=(34, 47), num_classes=4):
    """Ids (H, W) in connected regions."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((num_classes, *shape)), (0, 3, 3))
    return noise.argmax(0)


def near_case(seed, num_classes=4):
    """A label with ignored patches, and a prediction that is much like it."""
    label = blobs(seed, num_classes=num_classes)
    ids = np.roll(label, (seed % 3, 1), (0, 1))
    label = np.where(blobs(seed + 1000) == 0, 255, label)
    return ids, label


def band(mask, distance):
    """The pixels of a mask within a chessboard distance of its boundary (Cheng et al.)."""
    inner = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=distance, border_value=0)
    return mask & ~inner


def f_score(guess, truth, radius):
    """F of the contours of two masks, None where both have none; exact distances."""
    contours = [mask & ~ndimage.binary_erosion(mask, CROSS, border_value=1)
                for mask in (guess, truth)]  # fmt: skip
    if not (contours[0].any() or contours[1].any()):
        return None
    if not (contours[0].any() and contours[1].any()):
        return 0.0
    far = [ndimage.distance_transform_edt(~contour) for contour in contours]
    precision = (far[1][contours[0]] <= radius).mean()
    recall = (far[0][contours[1]] <= radius).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def expected_figures(cases, num_classes, distance, radius, ignore_index=255):
    ious, fs = [], []
    for c in range(num_classes):
        both, either, scores = 0, 0, []
        for ids, label in cases:
            guess, truth = (ids == c) & (label != ignore_index), label == c
            p, g = band(guess, distance), band(truth, distance)
            both, either = both + (p & g).sum(), either + (p | g).sum()
            scores.append(f_score(guess, truth, radius))
        scores = [score for score in scores if score is not None]
        ious.append(both / either if either else None)
        fs.append(np.mean(scores) if scores else None)
    return ious, fs


# Of images 34 x 47 with a diagonal of 58.01 pixels: d and r.
@pytest.mark.parametrize(
    ("width", "tolerance", "distance", "radius"),
    [(0.02, 0.0075, 1, 1), (0.05, 0.05, 3, 3), (0.08, 0.06, 5, 4), (0.9, 0.5, 52, 30)],
)
def test_feature_equals_scipy(width, tolerance, distance, radius):
    cases = [near_case(seed) for seed in range(4)]
    metrics = BoundaryMetrics(5, 255, width=width, tolerance=tolerance)
    for ids, label in cases:
        metrics.update(ids, label)
    ious, fs = expected_figures(cases, 5, distance, radius)
    figures = metrics.compute()
    assert ious[4] is None and fs[4] is None  # a class that never occurs
    assert figures["Class_Boundary_IoU"][:4] == pytest.approx(ious[:4], abs=1e-12)
    assert figures["Class_Boundary_F"][:4] == pytest.approx(fs[:4], abs=1e-11)
    assert figures["Class_Boundary_IoU"][4] is None and figures["Class_Boundary_F"][4] is None
    assert figures["Boundary_IoU"] == pytest.approx(np.mean(ious[:4]), abs=1e-12)
    assert figures["Boundary_F"] == pytest.approx(np.mean(fs[:4]), abs=1e-11)


def test_feature_shifted_square_by_hand():
    """A square of 20 x 20 in 100 x 100, moved by 2: d = round(2.83) = 3, r = ceil(1.06) = 2."""
    label, ids = np.zeros((2, 100, 100), np.uint8)
    label[40:60, 40:60] = 1
    ids[40:60, 42:62] = 1
    metrics = BoundaryMetrics(2, 255)
    metrics.update(ids, label)
    # Bands are frames of 400 - 14 x 14 = 204 pixels. They share, of the rows at top and bottom,
    # 2 x 3 x 18, and of the 14 rows between, the columns 42 and 57 to 59 of (40..42, 57..59) and
    # (42..44, 59..61): 42 and 59.
    both = 2 * 3 * 18 + 14 * 2
    figures = metrics.compute()
    assert figures["Class_Boundary_IoU"][1] == pytest.approx(both / (408 - both), abs=1e-12)
    assert figures["Class_Boundary_F"] == [1.0, 1.0]


def test_feature_the_border_of_the_picture():
    """It is a boundary for the IoU, and no contour for F."""
    label = np.zeros((50, 50), np.uint8)
    metrics = BoundaryMetrics(2, 255)
    metrics.update(label, label)
    assert metrics.counts[0].tolist() == [50**2 - 48**2, 50**2 - 48**2, 0, 0]
    assert math.isnan(metrics.compute()["Boundary_F"])
    assert metrics.compute()["Class_Boundary_IoU"] == [1.0, None]


def test_feature_a_class_that_is_missed_or_made_up_has_f_0():
    label, ids = np.zeros((2, 60, 60), np.uint8)
    label[10:20, 10:20] = 1
    ids[40:50, 40:50] = 2
    metrics = BoundaryMetrics(4, 255)
    metrics.update(ids, label)
    assert metrics.compute()["Class_Boundary_F"] == [0.0, 0.0, 0.0, None]
    assert metrics.compute()["Class_Boundary_IoU"][1:] == [0.0, 0.0, None]


@pytest.mark.parametrize("ignore_index", [255, -1, 2])
def test_feature_predictions_under_ignored_pixels_change_nothing(ignore_index):
    ids, label = near_case(3)
    label = np.where(label == 255, ignore_index, label)
    ignored = label == ignore_index
    rng = np.random.default_rng(0)
    one, other, none = (BoundaryMetrics(4, ignore_index) for _ in range(3))
    one.update(ids, label)
    other.update(np.where(ignored, rng.integers(0, 9, ids.shape), ids), label)
    assert ignored.any() and torch.equal(one.counts, other.counts)
    none.update(ids, np.full_like(label, ignore_index))
    figures = none.compute()
    assert not none.counts.any()
    assert math.isnan(figures["Boundary_IoU"]) and math.isnan(figures["Boundary_F"])


@pytest.mark.parametrize("radius", [1, 4, 12])
def test_feature_pixels_at_the_very_tolerance_count(radius):
    """A naive loop over all pairs of contour pixels, in whole numbers: no distance is rounded."""
    ids, label = near_case(5, num_classes=2)
    tolerance = (radius - 0.5) / math.hypot(*label.shape)
    metrics = BoundaryMetrics(2, 255, tolerance=tolerance)
    metrics.update(ids, label)
    counted = label != 255
    points = [
        np.argwhere(mask & ~ndimage.binary_erosion(mask, CROSS, border_value=1))
        for mask in ((ids == 1) & counted, label == 1)
    ]
    near = [
        np.mean([(((point - other) ** 2).sum(1) <= radius**2).any() for point in one])
        for one, other in (points, points[::-1])
    ]
    expected = 2 * near[0] * near[1] / sum(near)
    assert 0 < expected < 1 or radius == 12
    assert metrics.compute()["Class_Boundary_F"][1] == pytest.approx(expected, abs=1e-11)


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(4)), st.integers(1, 3))
def test_feature_merging_is_one_update(order, cut):
    cases = [near_case(seed) for seed in range(4)]
    whole, first, second = (BoundaryMetrics(4, 255) for _ in range(3))
    ids, labels = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*cases, strict=True))
    whole.update(ids, labels)
    for metrics, places in ((first, order[:cut]), (second, order[cut:])):
        for i in places:
            metrics.update(ids[i].to(torch.uint8), labels[i].to(torch.int16))
    first.merge(second)
    assert torch.equal(first.counts, whole.counts)


@pytest.mark.parametrize("num_classes", [255, 256, 300])
def test_feature_many_classes(num_classes):
    """The ignored pixels need an id of their own: with 256 classes it no longer fits a byte."""
    label = np.zeros((40, 40), np.uint16)
    label[:20] = num_classes - 1
    label[5:10, 5:10] = 999
    metrics = BoundaryMetrics(num_classes, 999)
    metrics.update(label.clip(max=num_classes - 1), label)
    figures = metrics.compute()
    assert figures["Boundary_IoU"] == figures["Boundary_F"] == 1.0
    few = BoundaryMetrics(2, 999)
    compact = np.select([label == 0, label == 999], [0, 999], 1)
    few.update(compact.clip(max=1), compact)
    assert torch.equal(metrics.counts[[0, -1]], few.counts)


def test_exception_shapes_and_values():
    metrics = BoundaryMetrics(2, 255)
    zeros = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"predictions \(4, 4\) and labels \(4, 3\)"):
        metrics.update(zeros, zeros[:, :3])
    with pytest.raises(ValueError, match=r"labels are integers in 0\.\.1, got 7"):
        metrics.update(zeros, zeros + 7)
    with pytest.raises(ValueError, match=r"predictions are integers in 0\.\.1, got -1"):
        metrics.update(zeros.astype(int) - 1, zeros)
    assert not metrics.counts.any()
