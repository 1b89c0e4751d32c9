"""evaluation/label_errors.py against naive loops, scipy and labels that are wrong on purpose."""

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from evaluation.label_errors import LabelErrors, Planes, find_regions

K = 4


def scene(seed, size=96, cells=5):
    """A label map (H, W) of large areas with straight edges."""
    rng = np.random.default_rng(seed)
    points, ids = rng.uniform(0, size, (cells, 2)), rng.permutation(cells) % K
    grid = np.stack(np.mgrid[:size, :size], -1)[..., None, :]
    return ids[((grid - points) ** 2).sum(-1).argmin(-1)]


def oracle(truth, seed):
    """Probabilities (K, H, W) of a network that knows the truth, with noise and soft edges."""
    rng = np.random.default_rng(seed)
    planes = [cv2.GaussianBlur((truth == k).astype(np.float32), (0, 0), 2) for k in range(K)]
    logits = 6 * np.stack(planes) + rng.normal(0, 0.5, (K, *truth.shape))
    return torch.from_numpy(logits).float().softmax(0)


def swapped(truth, seed):
    """The truth with edges drawn two pixels off and one square of another class, and its box."""
    rng = np.random.default_rng(seed)
    labels = np.roll(truth, 2, axis=1)
    labels[:, :2] = truth[:, :2]
    left, top = rng.integers(10, 70, 2)
    patch = np.s_[top : top + 14, left : left + 14]
    labels[patch] = (labels[patch] + rng.integers(1, K)) % K
    return labels, (left, top, left + 14, top + 14)


def blocks(seed, ignore_index=255):
    """Labels and probabilities that are constant in squares of six pixels."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(K, 0.5), (5, 5)).transpose(2, 0, 1)
    labels = probabilities.argmax(0)
    wrong = rng.random(labels.shape) < 0.5
    labels[wrong] = rng.integers(0, K, wrong.sum())
    labels[rng.random(labels.shape) < 0.2] = ignore_index
    grow = (np.kron(plane, np.ones((6, 6))) for plane in (*probabilities, labels))
    *planes, labels = grow
    return torch.from_numpy(np.stack(planes)), torch.from_numpy(labels.astype(np.int64))


def test_feature_swapped_patches_come_first():
    errors, wrong = LabelErrors(K, 255), {}
    for index in range(8):
        truth = scene(index)
        labels, wrong[index] = swapped(truth, index)
        errors.update(index, f"image {index}", oracle(truth, index), torch.from_numpy(labels))
    issues = errors.result()
    first = issues[: len(wrong)]
    assert {issue.index for issue in first} == set(wrong)
    for issue in first:
        found, patch = np.zeros((2, 96, 96), bool)
        for area, (left, top, right, bottom) in ((found, issue.box), (patch, wrong[issue.index])):
            area[top:bottom, left:right] = True
        # The soft edges of other areas may cut off a corner of the patch.
        assert (found & patch).sum() / (found | patch).sum() > 0.6
        truth, labels = scene(issue.index), swapped(scene(issue.index), issue.index)[0]
        left, top, right, bottom = issue.box
        y, x = (top + bottom) // 2, (left + right) // 2
        assert (issue.given, issue.suggested) == (labels[y, x], truth[y, x])
        assert issue.name == f"image {issue.index}"


def test_feature_equals_a_naive_confident_joint():
    """The paper's rule, pixel by pixel, for pixels that it counts to the class predicted."""
    cases = [blocks(seed) for seed in range(6)]
    pixels = [
        (probabilities[:, y, x].tolist(), labels[y, x].item())
        for probabilities, labels in cases
        for y, x in np.ndindex(*labels.shape)
        if labels[y, x] != 255
    ]
    thresholds = [np.mean([p[j] for p, label in pixels if label == j]) for j in range(K)]
    joint = np.zeros((K, K), int)
    for p, label in pixels:
        j = max((k for k in range(K) if p[k] >= thresholds[k]), key=lambda k: p[k], default=None)
        if j == np.argmax(p):
            joint[label, j] += 1
    errors = LabelErrors(K, 255)
    for index, case in enumerate(cases):
        errors.update(index, "", *case)
    assert errors.thresholds == pytest.approx(thresholds, abs=1e-6)
    counted = np.zeros((K, K), int)
    for issue in errors.result(limit=10**6):
        counted[issue.given, issue.suggested] += issue.pixels
    np.fill_diagonal(joint, 0)
    assert np.array_equal(counted, joint)
    assert 0 < joint.sum() < sum(label != np.argmax(p) for p, label in pixels)


def test_feature_regions_equal_scipy():
    """Each pair of classes on its own: erosion, components and distances of scipy."""
    rng = np.random.default_rng(0)
    given, suggested = (
        np.kron(rng.integers(0, 3, (8, 10)), np.ones((size, size), int))[:48, :60]
        for size in (6, 8)
    )
    given[rng.random(given.shape) < 0.04] = -1
    given[:6, :6], given[1:5, 1:5], suggested[:6, :6] = -1, 0, 1
    given[[1, 4], [4, 1]] = -1  # leaves two inner pixels that touch by their corners
    p_given, p_suggested = rng.random((2, *given.shape), np.float32)
    regions = find_regions(Planes(given, suggested, p_given, p_suggested))
    seen = np.where(given < 0, -1, suggested)  # ignored pixels belong to no segment
    expected, covered, square = [], 0, np.ones((3, 3))
    for i, j in np.ndindex(3, 3):
        area = (given == i) & (suggested == j) & (i != j)
        inner = ndimage.binary_erosion(area, square, border_value=1)
        distance = ndimage.distance_transform_edt(np.pad(inner, 1))[1:-1, 1:-1]
        cores, count = ndimage.label(inner, square)
        for core in range(1, count + 1):
            own = cores == core
            rows, columns = np.nonzero(ndimage.binary_dilation(own, square))
            box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            means = p_given[own].mean(), p_suggested[own].mean()
            row = (*box, i, j, *means, distance[own].mean())
            both = [ndimage.label(plane, square)[0] for plane in (given == i, seen == j)]
            label_of, segment_of = (plane == plane[own][0] for plane in both)
            expected.append((*row, label_of.sum() + segment_of.sum()))
        covered += ndimage.binary_dilation(inner, square).sum()
    assert len(expected) > 10
    columns = regions.given, regions.suggested, regions.p_given, regions.p_suggested
    segments = regions.pixels / regions.fit + regions.pixels
    found = np.column_stack([regions.boxes, *columns, regions.depth, segments])
    found, expected = found[np.lexsort(found.T[::-1])], np.array(sorted(expected))
    exact = [column for column in range(found.shape[1]) if column != 8]
    assert found[:, exact] == pytest.approx(expected[:, exact], rel=1e-5)
    # OpenCV's distance is approximate.
    assert found[:, 8] == pytest.approx(expected[:, 8], rel=0.03)
    assert 0 < regions.fit.min() < regions.fit.max() <= 1
    assert regions.pixels.tolist() == np.bincount(regions.numbers.ravel())[1:].tolist()
    assert regions.pixels.sum() == covered


@pytest.mark.parametrize("p_given, doubt", [(0.5, 0.07526), (0.01, 0.5), (1e-7, 1.0)])
@pytest.mark.parametrize("around, fit", [(0, 25 / (40 * 90)), (2, 1.0)])
def test_feature_the_score_is_the_formula(p_given, doubt, around, fit):
    """By hand: inner pixels (3, 3) of a square of five lie 1 from its edge but one, which is 2.

    The model says 0 there: it sees one large segment of 0, or the square alone.
    """
    labels = torch.full((40, 90), around)
    labels[20:25, 30:35] = 1
    probabilities = torch.eye(K)[labels].permute(2, 0, 1).clone()
    probabilities[:2, 20:25, 30:35] = torch.tensor([1 - p_given, p_given])[:, None, None]
    errors = LabelErrors(K, 255)
    regions = find_regions(errors.planes(probabilities, labels))
    assert regions.depth.tolist() == pytest.approx([10 / 9])
    assert regions.p_given.tolist() == pytest.approx([p_given])
    expected = doubt * (10 / 9) / (10 / 9 + 0.01 * 60) * (1 + 5 * fit) / 6
    assert regions.scores.tolist() == pytest.approx([expected], rel=1e-4)


def test_feature_doubt_about_a_class_that_the_model_does_not_know_says_little():
    """Two equal squares of classes of which the model finds one elsewhere and the other never."""
    labels = torch.zeros(60, 90, dtype=torch.int64)
    for class_id, left in ((1, 10), (2, 40)):
        labels[10:20, left : left + 10] = class_id
        labels[40:50, left : left + 10] = class_id
    probabilities = torch.eye(K)[labels].permute(2, 0, 1).clone()
    probabilities[:, :30] = torch.eye(K)[0][:, None, None]
    probabilities[:, 50:] = torch.tensor([0.9, 0, 0, 0.1])[:, None, None]  # t_0 is below 0.999
    probabilities[:2, 10:20, 10:20] = torch.tensor([0.999, 0.001])[:, None, None]
    probabilities[:, 40:50, 40:50] = torch.tensor([0.5, 0.25, 0.0, 0.25])[:, None, None]
    errors = LabelErrors(K, 255)
    errors.update(0, "", probabilities, labels)
    assert errors.thresholds.tolist()[1:3] == pytest.approx([0.5005, 0], abs=1e-5)
    first, second = errors.result()
    assert (first.given, second.given) == (1, 2)
    doubt, other_doubt = 0.75, 1.0
    knowledge, least_knowledge = 0.5005**0.5, 0.1
    ratio = doubt / other_doubt * knowledge / least_knowledge
    assert first.score / second.score == pytest.approx(ratio, rel=1e-4)


def test_feature_where_label_and_decided_class_agree_is_no_error():
    """A threshold has decided for the less probable class, which is what the label says."""
    labels = torch.zeros(30, 30, dtype=torch.int64)
    labels[5:15, 5:15] = 1
    probabilities = torch.full((2, 30, 30), 0.1)
    probabilities[0] = 0.9
    probabilities[:, 5:15, 5:15] = torch.tensor([0.6, 0.4])[:, None, None]
    probabilities[:, 20:28, 20:28] = torch.tensor([0.6, 0.4])[:, None, None]
    found = {}
    for name, ids in (("likeliest", None), ("decided", (probabilities[1] >= 0.3).long())):
        errors = LabelErrors(2, 255)
        errors.update(0, "", probabilities, labels, ids)
        regions = find_regions(errors.planes(probabilities, labels, ids))
        found[name] = [(*pair, p) for *pair, p in zip(
            regions.given.tolist(), regions.suggested.tolist(), regions.p_suggested.tolist(),
            strict=True)]  # fmt: skip
    assert found["likeliest"] == [(1, 0, pytest.approx(0.6))]
    assert found["decided"] == [(0, 1, pytest.approx(0.4))]


@pytest.mark.parametrize("ignore_index", [255, -1, 1])
def test_feature_ignored_pixels_change_nothing(ignore_index):
    errors, others = LabelErrors(K, ignore_index), LabelErrors(K, ignore_index)
    for index in range(4):
        probabilities, labels = blocks(index, ignore_index)
        errors.update(index, "", probabilities, labels)
        ignored = (labels == ignore_index).expand_as(probabilities)
        others.update(index, "", torch.where(ignored, 1 - probabilities, probabilities), labels)
    assert errors.result() == others.result()
    assert errors.result()
    assert all(issue.given != ignore_index for issue in errors.result())
    assert np.array_equal(errors.thresholds, others.thresholds, equal_nan=True)


def test_feature_the_order_of_images_does_not_matter():
    names = [f"{index}.png" for index in range(12)]
    results = []
    for order in (range(12), reversed(range(12)), np.random.default_rng(0).permutation(12)):
        errors = LabelErrors(K, 255, kept=20)
        for index in map(int, order):
            # Every image comes twice under another name: equal scores.
            errors.update(index, names[index], *blocks(index // 2))
        results.append((errors.result(), errors.thresholds.tolist()))
    assert results[0] == results[1] == results[2]


def test_feature_memory_is_bounded():
    few, all_of_them = LabelErrors(K, 255, kept=7), LabelErrors(K, 255)
    for index in range(30):
        for errors in (few, all_of_them):
            errors.update(index, "", *blocks(index))
        assert len(few._candidates) <= 7
    best = all_of_them.result(limit=7)
    kept = few.result()
    assert kept == [issue for issue in best if issue in kept]
    assert len(all_of_them.result()) > len(kept) > 0


@pytest.mark.parametrize("width", [1, 2, 3])
def test_feature_thin_strips_are_no_errors(width):
    labels = torch.zeros(20, 20, dtype=torch.int64)
    labels[:, 10 : 10 + width] = 1
    labels[0, 0] = 2
    probabilities = torch.zeros(K, 20, 20)
    probabilities[0] = 1
    errors = LabelErrors(K, 255)
    errors.update(0, "", probabilities, labels)
    issues = errors.result()
    if width < 3:
        assert not issues
    else:
        assert [issue.box for issue in issues] == [(10, 0, 13, 20)]
        assert issues[0].pixels == 60


def test_feature_a_whole_image_may_be_wrong():
    probabilities = torch.zeros(K, 12, 10)
    probabilities[3] = 1
    errors = LabelErrors(K, 255)
    errors.update(0, "right", probabilities, torch.full((12, 10), 3))
    errors.update(1, "wrong", probabilities, torch.full((12, 10), 2))
    (issue,) = errors.result()
    assert (issue.index, issue.name, issue.box) == (1, "wrong", (0, 0, 10, 12))
    assert (issue.given, issue.suggested, issue.pixels) == (2, 3, 120)
    assert np.isfinite(issue.score)


def test_smoke_nothing_to_find():
    errors = LabelErrors(K, 255)
    assert errors.result() == []
    errors.update(0, "", torch.full((K, 5, 4), 1 / K), torch.full((5, 4), 255))
    assert errors.result() == []
    assert np.isnan(errors.thresholds).all()


def test_feature_half_precision():
    probabilities, labels = blocks(0)
    half, full = LabelErrors(K, 255), LabelErrors(K, 255)
    half.update(0, "", probabilities.bfloat16(), labels)
    full.update(0, "", probabilities, labels)
    assert half.thresholds == pytest.approx(full.thresholds, abs=0.01)


def test_exception_shapes_and_labels():
    errors = LabelErrors(K, 255)
    with pytest.raises(ValueError, match=r"probabilities \(4, H, W\) .*, got \(3, 5, 5\)"):
        errors.update(0, "", torch.zeros(3, 5, 5), torch.zeros(5, 5))
    with pytest.raises(ValueError, match=r"1 labels are neither in 0..3 nor 255"):
        errors.update(0, "", torch.zeros(K, 1, 2), torch.tensor([[0, 4]]))
