"""utils/metrics.py against scikit-learn and naive loops."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from utils.metrics import SegmentationMetrics


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
    figures = metrics.compute()
    assert figures["Pixel_Accuracy"] == pytest.approx(accuracy_score(truth, guess), abs=1e-12)
    present = np.union1d(truth, guess)
    expected = jaccard_score(truth, guess, labels=present, average=None)
    assert [figures["Class_IoU"][c] for c in present] == pytest.approx(expected, abs=1e-12)
    assert figures["Mean_IoU"] == pytest.approx(expected.mean(), abs=1e-12)


def test_feature_absent_class_is_left_out():
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    metrics = SegmentationMetrics(5, 255)
    metrics.update(labels, labels)
    assert metrics.compute()["Mean_IoU"] == 1.0
    assert metrics.compute()["Class_IoU"] == [1.0, None, None, None, None]


def test_feature_predicted_but_never_labelled_counts():
    metrics = SegmentationMetrics(3, 255)
    metrics.update(torch.tensor([[0, 1]]), torch.tensor([[0, 0]]))
    assert metrics.compute()["Class_IoU"] == [0.5, 0.0, None]


def test_feature_ignored_pixels_have_no_effect():
    ids, labels = random_case(1)
    one, other = SegmentationMetrics(5, 255), SegmentationMetrics(5, 255)
    one.update(ids, labels)
    other.update(torch.where(labels == 255, 4 - ids.clamp(0, 4), ids), labels)
    assert torch.equal(one.confusion, other.confusion)


def test_feature_logits_and_ids_agree():
    ids, labels = random_case(2)
    logits = torch.nn.functional.one_hot(ids, 5).movedim(-1, 1).float()
    one, other = SegmentationMetrics(5, 255), SegmentationMetrics(5, 255)
    one.update(logits, labels)
    other.update(ids, labels.to(torch.int16))
    assert torch.equal(one.confusion, other.confusion)


def test_feature_counts_are_exact_beyond_float_precision():
    metrics = SegmentationMetrics(2, 255)
    metrics.load_state_dict({"counts": torch.tensor([2**53, 0, 0, 2**53, 0, 0])})
    metrics.update(torch.tensor([[0]]), torch.tensor([[0]]))
    assert metrics.confusion[0, 0].item() == 2**53 + 1


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
        metrics.update(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3))


@pytest.mark.gpu
def test_feature_cuda_counts_without_waiting():
    ids, labels = random_case(4)
    expected, metrics = SegmentationMetrics(5, 255), SegmentationMetrics(5, 255, "cuda")
    expected.update(ids, labels)
    on_gpu = ids.cuda(), labels.cuda()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics.update(*on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(metrics.confusion.cpu(), expected.confusion)
