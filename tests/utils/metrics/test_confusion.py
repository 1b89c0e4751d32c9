"""The confusion matrix and image scores against scikit-learn, torchmetrics, SMP and loops."""

import doctest
import importlib
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
)

from utils.metrics.confusion import SCALAR_METRICS, SegmentationMetrics, metrics_of
from utils.metrics.image_scores import class_counts, image_mean_ious, mean_image_iou


def random_case(seed, num_classes=5, ignore_index=255):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, (3, 9, 7))
    labels[rng.random(labels.shape) < 0.2] = ignore_index
    ids = rng.integers(0, num_classes, labels.shape)
    return torch.from_numpy(ids), torch.from_numpy(labels)


@pytest.mark.parametrize("ignore_index", [255, -1, 0, 2])
def test_feature_equals_scikit_learn(ignore_index):
    ids, labels = random_case(0, ignore_index=ignore_index)
    metrics = SegmentationMetrics(5, ignore_index)
    metrics.update(ids[:1], labels[:1])
    metrics.update(ids[1:], labels[1:])
    valid = labels != ignore_index
    truth, guess = labels[valid].numpy(), ids[valid].numpy()
    assert np.array_equal(metrics.confusion, confusion_matrix(truth, guess, labels=range(5)))
    assert metrics.compute()["Pixel_Accuracy"] == pytest.approx(accuracy_score(truth, guess))


def sklearn_figures(truth, guess):
    """The metrics of `metrics_of()` over the classes that occur, as scikit-learn has them."""
    present = np.union1d(truth, guess)
    rest = {"labels": present, "zero_division": 0}
    sources = {
        "IoU": jaccard_score, "Dice": f1_score, "Precision": precision_score,
        "Recall": recall_score,
    }  # fmt: skip
    classes = {name: f(truth, guess, average=None, **rest) for name, f in sources.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of predicted classes that have no label
        return present, classes, {
            "Pixel_Accuracy": accuracy_score(truth, guess),
            "Mean_Accuracy": balanced_accuracy_score(truth, guess),
            "Mean_IoU": jaccard_score(truth, guess, average="macro", **rest),
            "Mean_Dice": f1_score(truth, guess, average="macro", **rest),
            "FWIoU": jaccard_score(truth, guess, average="weighted", **rest),
            "Precision": precision_score(truth, guess, average="macro", **rest),
            "Recall": recall_score(truth, guess, average="macro", **rest),
            "Kappa": cohen_kappa_score(truth, guess),
        }  # fmt: skip


# With the classes that are labelled and those that are predicted: some only here, some only there.
@pytest.mark.parametrize(
    ("labelled", "predicted"), [(range(5), range(5)), ([0, 1, 3], [0, 1, 4]), ([2], [0, 2])]
)
def test_feature_every_figure_equals_scikit_learn(labelled, predicted):
    rng = np.random.default_rng(8)
    truth, guess = rng.choice(labelled, 500), rng.choice(predicted, 500)
    guess = np.where((rng.random(500) < 0.5) & np.isin(truth, predicted), truth, guess)
    figures = metrics_of(confusion_matrix(truth, guess, labels=range(5)))
    present, classes, scalars = sklearn_figures(truth, guess)
    assert {name: figures[name] for name in SCALAR_METRICS} == pytest.approx(scalars, abs=1e-12)
    for name, values in classes.items():
        expected = dict(zip(present, values, strict=True))
        assert [c for c, v in enumerate(figures[f"Class_{name}"]) if v is not None] == [*present]
        for c in present:
            assert figures[f"Class_{name}"][c] == pytest.approx(expected[c], abs=1e-12), (name, c)


# Around 2^31, 2^40 and 2^61 pixels a cell; the source is exact arithmetic with fractions.
@pytest.mark.parametrize("size", [2**31, 2**40, 2**57])
def test_feature_figures_of_huge_counts(size):
    rng = np.random.default_rng(0)
    matrix = rng.integers(size // 2, size, (3, 3)) + np.diag([size] * 3)
    metrics = SegmentationMetrics(3, 255)
    counts = torch.from_numpy(np.append(matrix.ravel(), [0, 0]))
    metrics.load_state_dict({"counts": counts})
    cells = [[int(cell) for cell in row] for row in matrix]
    n, m = [sum(row) for row in cells], [sum(column) for column in zip(*cells, strict=True)]
    hits, total = [cells[i][i] for i in range(3)], sum(n)
    ious = [Fraction(hits[i], n[i] + m[i] - hits[i]) for i in range(3)]
    accuracy = Fraction(sum(hits), total)
    chance = Fraction(sum(a * b for a, b in zip(n, m, strict=True)), total**2)
    expected = {
        "Pixel_Accuracy": accuracy,
        "Mean_IoU": sum(ious) / 3,
        "Mean_Dice": sum(Fraction(2 * hits[i], n[i] + m[i]) for i in range(3)) / 3,
        "FWIoU": sum(n[i] * ious[i] for i in range(3)) / total,
        "Kappa": (accuracy - chance) / (1 - chance),
    }
    figures = metrics.compute()
    for name, value in expected.items():
        assert figures[name] == pytest.approx(float(value), rel=1e-14), name
    metrics.update(torch.tensor([[0]]), torch.tensor([[0]]))
    assert int(metrics.confusion[0, 0]) == cells[0][0] + 1


def test_feature_kappa_of_nearly_one_class():
    """Here the plain formula, 1 - e with e close to 1, has lost all its digits."""
    n = 2**58
    expected = 1 - Fraction(2, 1) * (n + 2) / Fraction(2 * (n + 1))
    assert metrics_of(np.array([[n, 1], [1, 0]]))["Kappa"] == pytest.approx(expected, abs=1e-15)
    assert metrics_of(np.array([[n, 0], [0, 1]]))["Kappa"] == 1
    assert math.isnan(metrics_of(np.array([[n, 0], [0, 0]]))["Kappa"])


def test_feature_absent_class_is_left_out():
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    metrics = SegmentationMetrics(5, 255)
    metrics.update(labels, labels)
    assert metrics.compute()["Mean_IoU"] == 1.0
    assert metrics.compute()["Class_IoU"] == [1.0, None, None, None, None]


def same_counts(num_classes, one, other):
    """Whether predictions and labels are counted alike, with something in every cell."""
    found = [SegmentationMetrics(num_classes, 255) for _ in range(2)]
    for metrics, pair in zip(found, (one, other), strict=True):
        metrics.update(*pair)
    return torch.equal(found[0].confusion, found[1].confusion) and found[0].confusion.min() > 0


def test_feature_logits_ids_and_arrays_agree():
    ids, labels = random_case(2)
    logits = torch.nn.functional.one_hot(ids, 5).movedim(-1, 1).float()
    assert same_counts(5, (logits, labels), (ids, labels.to(torch.int16)))
    arrays = ids.numpy().astype(np.uint8), labels.numpy().astype(np.uint16)
    assert same_counts(5, (ids, labels), arrays)
    # One channel means sigmoid.
    logits = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 2, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    assert same_counts(2, (logits, labels), ((torch.sigmoid(logits[:, 0]) > 0.5).long(), labels))


def test_feature_no_pixel_at_all():
    metrics = SegmentationMetrics(2, 255)
    metrics.update(torch.tensor([[0]]), torch.tensor([[255]]))
    assert math.isnan(metrics.compute()["Mean_IoU"])


def test_feature_reset_and_state():
    ids, labels = random_case(3)
    metrics = SegmentationMetrics(5, 255)
    metrics.update(ids, labels)
    state = metrics.state_dict()
    metrics.reset()
    assert metrics.confusion.sum() == 0
    assert state["counts"].sum() == labels.numel()


def test_exception_labels_that_are_no_class():
    metrics = SegmentationMetrics(2, 255)
    metrics.update(torch.tensor([[0, 0]]), torch.tensor([[7, -3]]))
    with pytest.raises(ValueError, match=r"2 labels are neither in 0\.\.1 nor 255"):
        metrics.compute()
    with pytest.raises(ValueError, match="differ in shape"):
        metrics.update(torch.zeros(1, 2, 2).long(), torch.zeros(1, 2, 3).long())


def test_exception_ids_that_are_no_class():
    metrics = SegmentationMetrics(3, 255)
    metrics.update(torch.tensor([[3, 0]]), torch.tensor([[255, 0]]))
    assert metrics.compute()["Pixel_Accuracy"] == 1
    metrics.update(torch.tensor([[3, -1]]), torch.tensor([[0, 0]]))
    with pytest.raises(ValueError, match="or the prediction there is NaN or no class"):
        metrics.compute()
    assert metrics.confusion.sum() == 1


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [
        (torch.full((1, 4, 4), 0.7), torch.zeros(1, 4, 4).long()),  # probabilities for ids
        (torch.randn(4, 4, 4), torch.zeros(4, 4).long()),  # logits without a batch, K = H
        (torch.randn(1, 4, 4, 4), torch.zeros(1, 4, 4)),
        (np.zeros((1, 4, 4)), np.zeros((1, 4, 4), int)),
    ],
)
def test_exception_values_that_are_no_ids(predictions, labels):
    metrics = SegmentationMetrics(4, 255)
    with pytest.raises(ValueError, match=r"expected logits \(B, K, H, W\) with labels \(B, H, W\)"):
        metrics.update(predictions, labels)
    assert not metrics.counts.any()


@pytest.mark.parametrize("channels", [1, 2])
def test_exception_logits_that_are_nan(channels):
    """One NaN is enough; under an ignored pixel it has no effect."""
    logits, labels = torch.zeros(1, channels, 2, 2), torch.tensor([[[0, 1], [1, 255]]])
    logits[0, -1, 1, 1] = torch.nan
    metrics = SegmentationMetrics(2, 255)
    metrics.update(logits, labels)
    assert metrics.compute()["Pixel_Accuracy"] == pytest.approx(1 / 3)
    logits[0, -1, 0, 0] = torch.nan
    metrics.update(logits, labels)
    with pytest.raises(ValueError, match="1 labels are .* or the prediction there is NaN"):
        metrics.compute()


@pytest.mark.parametrize("classes", [1, 3])
def test_exception_channels_do_not_fit(classes):
    labels = torch.zeros(2, 4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"logits of 5 classes have 5 channels, got shape \(2, "):
        SegmentationMetrics(5, 255).update(torch.zeros(2, classes, 4, 4), labels)
    with pytest.raises(ValueError, match="logits of 2 classes have 2 channels, or 1"):
        SegmentationMetrics(2, 255).update(torch.zeros(2, 3, 4, 4), labels)
    with pytest.raises(ValueError, match="differ in shape"):
        SegmentationMetrics(2, 255).update(torch.zeros(2, 1, 4, 5), labels)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.permutations(range(6)), st.integers(1, 5))
def test_feature_merging_is_one_update(seed, order, cut):
    rng = np.random.default_rng(seed)
    ids, labels = (torch.from_numpy(rng.integers(0, 4, (6, 5, 3))) for _ in range(2))
    labels[rng.random(labels.shape) < 0.2] = 255
    whole, first, second = (SegmentationMetrics(4, 255) for _ in range(3))
    whole.update(ids, labels)
    for metrics, places in ((first, order[:cut]), (second, order[cut:])):
        for i in places:
            metrics.update(ids[i], labels[i])
    first.merge(second)
    assert torch.equal(first.counts, whole.counts)
    assert first.counts.dtype == torch.int64


def test_exception_merging_what_is_counted_otherwise():
    for other in (SegmentationMetrics(3, 0), SegmentationMetrics(2, 255)):
        with pytest.raises(ValueError, match="same settings"):
            SegmentationMetrics(3, 255).merge(other)


def per_image_counts(ids, labels, num_classes=5, ignore_index=255):
    rows = []
    for one, other in zip(ids, labels, strict=True):
        metrics = SegmentationMetrics(num_classes, ignore_index)
        metrics.update(one, other)
        rows.append(class_counts(metrics.confusion))
    return np.stack(rows)


def test_feature_class_counts_equal_smp():
    ids, labels = random_case(9)
    options = {"mode": "multiclass", "num_classes": 5, "ignore_index": 255}
    tp, fp, fn, _ = smp.metrics.get_stats(ids, labels, **options)
    counts = per_image_counts(ids, labels)
    assert counts.dtype == np.int64
    assert np.array_equal(counts, torch.stack([tp, fp, fn], 1))
    expected = smp.metrics.iou_score(tp, fp, fn, torch.zeros_like(tp), reduction="macro-imagewise")
    assert mean_image_iou(counts) == pytest.approx(expected.item(), abs=1e-7)


def test_feature_image_iou_is_over_the_classes_that_occur():
    """Golden numbers: torchmetrics 1.9.0, functional.segmentation.mean_iou(input_format="index").

    In the second image one class is neither labelled nor predicted.
    """
    ids, labels = random_case(6)
    labels = torch.where(labels == 255, 0, labels)
    ids[1][ids[1] == 4] = 0
    labels[1][labels[1] == 4] = 1
    scores = image_mean_ious(per_image_counts(ids, labels))
    expected = [0.11593051999807358, 0.14617319405078888, 0.06319735944271088]
    assert scores == pytest.approx(expected, abs=1e-7)


def test_feature_image_without_labels_has_no_iou():
    ids, labels = random_case(10)
    labels[1] = 255
    scores = image_mean_ious(per_image_counts(ids, labels))
    assert np.isnan(scores).tolist() == [False, True, False]
    assert mean_image_iou(per_image_counts(ids, labels)) == (scores[0] + scores[2]) / 2
    assert math.isnan(mean_image_iou(per_image_counts(ids[1:2], labels[1:2])))


@pytest.mark.parametrize(
    "module", ["bootstrap", "boundary", "calibration", "image_scores", "confusion"]
)
def test_smoke_examples_of_the_docstrings(module):
    result = doctest.testmod(importlib.import_module(f"utils.metrics.{module}"))
    assert result.attempted and not result.failed


@pytest.mark.gpu
def test_feature_cuda_counts_without_waiting():
    ids, labels = random_case(4)
    expected, metrics = SegmentationMetrics(5, 255), SegmentationMetrics(5, 255, "cuda")
    expected.update(ids, labels)
    on_gpu = ids.cuda(), labels.cuda()
    logits = torch.nn.functional.one_hot(on_gpu[0], 5).movedim(-1, 1).float()
    expected.update(ids, labels)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics.update(*on_gpu)
        metrics.update(logits, on_gpu[1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(metrics.confusion.cpu(), expected.confusion)
