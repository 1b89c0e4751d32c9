"""utils/metrics/calibration.py against torchmetrics and a naive loop."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.metrics.calibration import CalibrationMetrics
from utils.metrics.confusion import SegmentationMetrics


def logits_and_labels():
    """Logits (2, 4, 16, 16), right in somewhat more than 60 % of the pixels."""
    rng = np.random.default_rng(7)
    logits = torch.from_numpy(3 * rng.standard_normal((2, 4, 16, 16)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 4, (2, 16, 16)))
    labels[0, :4] = 255
    right = torch.from_numpy(rng.random((2, 16, 16)) < 0.6)
    return logits, torch.where(right & (labels != 255), logits.argmax(1), labels)


def naive(logits, labels, num_bins):
    """Count, confidence and accuracy of each bin, pixel by pixel."""
    bins = [[] for _ in range(num_bins)]
    for z, label in zip(logits.movedim(1, -1).reshape(-1, 4), labels.reshape(-1), strict=True):
        if label != 255:
            p = z.double().softmax(0)
            c = p.max().item()
            bins[math.ceil(c * num_bins) - 1].append((c, p.argmax().item() == label.item()))
    return [(len(b), *(np.mean(b, axis=0) if b else (None, None))) for b in bins]


@pytest.mark.parametrize("num_bins", [1, 7, 15])
def test_feature_equals_a_naive_loop(num_bins):
    logits, labels = logits_and_labels()
    metrics = CalibrationMetrics(num_bins, 255)
    metrics.update(logits, labels.to(torch.uint8))
    figures, expected = metrics.compute(), naive(logits, labels, num_bins)
    assert [b.count for b in figures["Bins"]] == [count for count, _, _ in expected]
    total = sum(count for count, _, _ in expected)
    assert total == (labels != 255).sum()
    for found, (_, confidence, accuracy) in zip(figures["Bins"], expected, strict=True):
        assert found.confidence == pytest.approx(confidence, abs=1e-6)
        assert found.accuracy == pytest.approx(accuracy, abs=1e-12)
    filled = [row for row in expected if row[0]]
    gaps = [abs(confidence - accuracy) for _, confidence, accuracy in filled]
    weights = [count / total for count, _, _ in filled]
    assert figures["ECE"] == pytest.approx(np.dot(weights, gaps), abs=1e-6)
    assert figures["MCE"] == pytest.approx(max(gaps), abs=1e-6)
    mean = np.dot(weights, [confidence for _, confidence, _ in filled])
    assert figures["Mean_Confidence"] == pytest.approx(mean, abs=1e-6)
    segmentation = SegmentationMetrics(4, 255)
    segmentation.update(logits, labels)
    assert figures["Pixel_Accuracy"] == segmentation.compute()["Pixel_Accuracy"]


def test_feature_one_channel_equals_torchmetrics():
    """Golden number: torchmetrics 1.9.0, MulticlassCalibrationError(2, n_bins=10) of (0, z)."""
    rng = np.random.default_rng(8)
    logits = torch.from_numpy(2 * rng.standard_normal((2, 16, 16)).astype(np.float32))[:, None]
    labels = torch.from_numpy(rng.integers(0, 2, (2, 16, 16)))
    one, two, three = (CalibrationMetrics(10, 255) for _ in range(3))
    one.update(logits, labels)
    two.update(torch.cat([torch.zeros_like(logits), logits], 1), labels)
    three.update_probabilities(torch.sigmoid(logits), labels)
    assert one.compute()["ECE"] == pytest.approx(0.26337721943855286, abs=1e-6)
    assert torch.equal(one.counts, two.counts)
    assert three.compute()["ECE"] == pytest.approx(one.compute()["ECE"], abs=1e-6)


def test_feature_an_edge_belongs_to_the_bin_below():
    """Bins are (low, high], as in Guo et al.: 0.5 is in the second of four, 1 in the last."""
    p = torch.tensor([0.5, 0.75, 0.76, 1.0]).view(1, 1, 2, 2)
    metrics = CalibrationMetrics(4, 255)
    metrics.update_probabilities(torch.cat([p, 1 - p], 1), torch.zeros(1, 2, 2, dtype=torch.int64))
    assert [b.count for b in metrics.compute()["Bins"]] == [0, 1, 1, 2]
    edges = [(b.low, b.high) for b in metrics.compute()["Bins"]]
    assert edges == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]


def test_feature_confidence_is_that_of_the_decided_class():
    """By hand: at a threshold of 0.3 the second class is taken, though it is the less probable."""
    second = torch.tensor([0.2, 0.4, 0.4, 0.9, 0.0])
    probabilities = torch.stack([1 - second, second]).view(1, 2, 1, 5)
    labels = torch.tensor([[[0, 1, 0, 1, 1]]])
    metrics = CalibrationMetrics(2, 255)
    metrics.update_probabilities(probabilities, labels, torch.tensor([[[0, 1, 1, 1, 1]]]))
    figures = metrics.compute()
    assert figures["Pixel_Accuracy"] == pytest.approx(4 / 5)
    assert figures["Mean_Confidence"] == pytest.approx((0.8 + 0.4 + 0.4 + 0.9 + 0) / 5)
    bins = [(b.count, b.confidence, b.accuracy) for b in figures["Bins"]]
    assert bins[0] == (3, pytest.approx(0.8 / 3), pytest.approx(2 / 3))
    assert bins[1] == (2, pytest.approx(0.85), 1)


def test_feature_the_most_probable_class_is_decided_unless_said():
    logits, labels = logits_and_labels()
    one, other = CalibrationMetrics(), CalibrationMetrics()
    one.update_probabilities(logits.softmax(1), labels)
    other.update_probabilities(logits.softmax(1), labels, logits.argmax(1))
    assert torch.equal(one.counts, other.counts)
    with pytest.raises(ValueError, match="differ in shape"):
        one.update_probabilities(logits.softmax(1), labels, logits.argmax(1)[:, 1:])


def test_feature_ignored_pixels_have_no_effect():
    logits, labels = logits_and_labels()
    one, other = CalibrationMetrics(ignore_index=255), CalibrationMetrics(ignore_index=255)
    one.update(logits, labels)
    changed = torch.where((labels == 255)[:, None], torch.nan, logits)
    other.update(changed, labels)
    assert one.compute() == other.compute()


def test_feature_no_pixel_at_all():
    metrics = CalibrationMetrics(3, 255)
    metrics.update(torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2), 255))
    figures = metrics.compute()
    assert all(math.isnan(figures[n]) for n in ("ECE", "MCE", "Mean_Confidence", "Pixel_Accuracy"))
    assert dataclasses.astuple(figures["Bins"][0]) == (0, 1 / 3, 0, None, None)


def test_feature_counts_are_exact_beyond_float_precision():
    metrics = CalibrationMetrics(2, 255)
    counts = torch.tensor([[0, 0, 0], [2**38, 2**37, 2**38 * 2**24 // 4 * 3], [0] * 3, [0] * 3])
    metrics.load_state_dict({"counts": counts})
    figures = metrics.compute()
    assert figures["ECE"] == 0.25 and figures["Bins"][1].confidence == 0.75
    metrics.update_probabilities(torch.ones(1, 2, 1, 1), torch.zeros(1, 1, 1))
    assert (metrics.counts[1] - counts[1]).tolist() == [1, 1, 2**24]


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(64)), st.integers(1, 63))
def test_feature_merging_is_one_update(order, cut):
    logits, labels = logits_and_labels()
    logits = logits.movedim(1, -1).reshape(64, 8, 4, 1).movedim(2, 1)  # 64 rows of 8 pixels
    labels = labels.reshape(64, 8, 1)
    whole, first, second = (CalibrationMetrics(ignore_index=255) for _ in range(3))
    whole.update(logits, labels)
    first.update(logits[order[:cut]], labels[order[:cut]])
    second.update(logits[order[cut:]], labels[order[cut:]])
    first.merge(second)
    assert torch.equal(first.counts, whole.counts)


def test_exception_labels_and_values():
    labels = torch.tensor([[[0, 5]]])
    metrics = CalibrationMetrics(3, 255)
    with pytest.raises(ValueError, match="differ in shape"):
        metrics.update(torch.zeros(1, 2, 3, 1), labels)
    metrics.update(torch.zeros(1, 2, 1, 2), labels)
    with pytest.raises(ValueError, match="1 pixels have a label that is neither a class nor 255"):
        metrics.compute()
    for values in (3.0, math.nan, -1.0):
        metrics.reset()
        metrics.update_probabilities(torch.full((1, 2, 1, 2), values), labels.clamp(max=1))
        with pytest.raises(ValueError, match=r"2 pixels .* no probabilities; logits go to update"):
            metrics.compute()


@pytest.mark.gpu
def test_feature_cuda_counts_the_same_without_waiting():
    logits, labels = logits_and_labels()
    expected, metrics = CalibrationMetrics(), CalibrationMetrics(device="cuda")
    probabilities = logits.softmax(1)
    expected.update_probabilities(probabilities, labels)
    on_gpu = probabilities.cuda(), labels.cuda()
    torch.use_deterministic_algorithms(True)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics.update_probabilities(*on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.use_deterministic_algorithms(False)
    assert torch.equal(metrics.counts.cpu(), expected.counts)
