"""Lovász-Softmax: values against SMP and the definition."""

from fractions import Fraction

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from tests.loss_cases import CLASS_WEIGHTS, case
from utils import losses
from utils.losses.lovasz import jaccard_steps


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("ignore_index", [255, -1])
def test_feature_equals_smp(ignore_index, per_image):
    logits, labels = case(ignore_index, torch.float32)
    labels[1][labels[1] == 2] = 1  # the images hold different classes
    expected = smp.losses.LovaszLoss("multiclass", per_image, ignore_index)(logits, labels)
    loss = losses.LovaszSoftmax(ignore_index=ignore_index, per_image=per_image)
    assert loss(logits, labels).item() == pytest.approx(expected.item(), abs=1e-6)


def extension(errors, truth):
    """The Lovász extension as it is defined, from sets of wrong pixels."""
    order = np.argsort(-errors)
    total, before = 0.0, 0.0
    for i in range(len(order)):
        wrong = set(order[: i + 1])
        pixels = set(np.flatnonzero(truth))
        after = 1 - len(pixels - wrong) / len(pixels | wrong)
        total += errors[order[i]] * (after - before)
        before = after
    return total


def test_feature_equals_the_definition():
    """With a class that does not occur, and one that no other pixel is beside."""
    logits, labels = case()
    labels[labels == 3] = 0
    valid = (labels != 255).numpy()
    p, truth = logits.softmax(1).movedim(1, -1).numpy()[valid], labels.numpy()[valid]
    terms = [extension(np.abs((truth == k) - p[:, k]), truth == k) for k in range(4)]
    value = losses.LovaszSoftmax(classes="all")(logits, labels).item()
    assert value == pytest.approx(np.mean(terms), abs=1e-12)
    value = losses.LovaszSoftmax(CLASS_WEIGHTS)(logits, labels).item()
    assert value == pytest.approx(np.average(terms[:3], weights=CLASS_WEIGHTS[:3]), abs=1e-12)


def test_feature_steps_are_exact_on_a_large_batch():
    """Differences of float32 ratios would be off by a tenth here."""
    truth = torch.zeros(1_000_000, dtype=torch.bool)
    truth[::100] = True
    steps = jaccard_steps(truth, torch.float32)
    for i in (0, 1, 99, 100, 500_000, 999_998):
        c, n = len(range(0, i + 1, 100)), i + 1 - len(range(0, i + 1, 100))
        before = Fraction(10_000 - c + int(truth[i]), 10_000 + n - int(not truth[i]))
        exact = before - Fraction(10_000 - c, 10_000 + n)
        assert steps[i].item() == pytest.approx(float(exact), rel=1e-6)
    assert steps.double().sum().item() == pytest.approx(1, abs=1e-6)


def test_gradient_by_hand():
    """Of ties, in the order of the pixels: two classes with probability 1/2 everywhere."""
    labels = torch.tensor([[[1, 0, 1, 0, 0]]])
    logits = torch.zeros(1, 2, 1, 5, requires_grad=True)
    losses.LovaszSoftmax()(logits, labels).backward()
    # With the first i pixels wrong, 1 - IoU is 1/2 2/3 1 1 1 of class 1, 1/4 1/2 3/5 4/5 1 of 0.
    steps = torch.tensor([[1 / 2, 1 / 6, 1 / 3, 0, 0], [1 / 4, 1 / 4, 1 / 10, 1 / 5, 1 / 5]])
    # Both classes gain alike from z_1; p (1 - p) is 1/4, the mean is over two classes.
    expected = steps.sum(0) / 8 * torch.tensor([-1, 1, -1, 1, 1])
    assert torch.allclose(logits.grad[0, 1, 0], expected, atol=1e-7)
    assert torch.allclose(logits.grad[0, 0, 0], -expected, atol=1e-7)
