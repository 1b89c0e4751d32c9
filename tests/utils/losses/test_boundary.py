"""Boundary loss: values against scipy's distances and naive loops."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from tests.loss_cases import CLASS_WEIGHTS, case
from utils import losses
from utils.losses.boundary import signed_distances


def scipy_distances(label, valid, k):
    """In pixels, from scipy's exact transform: to the class outside, to the others inside."""
    own, others = (label == k) & valid, (label != k) & valid
    outside = distance_transform_edt(~own) - 0.5
    inside = 0.5 - distance_transform_edt(~others)
    return np.where(own, inside, outside) * valid


@pytest.mark.parametrize("shape", [(7, 6), (31, 50)])
def test_feature_distances_equal_scipy(shape):
    rng = np.random.default_rng(0)
    label = np.kron(rng.integers(0, 4, shape), np.ones((3, 3), np.int64))
    valid = rng.random(label.shape) < 0.8
    classes, distances = signed_distances(label, valid)
    assert classes.tolist() == [0, 1, 2, 3]
    for k in classes:
        expected = scipy_distances(label, valid, k) / math.hypot(*label.shape)
        assert np.abs(distances[k] - expected).max() < 1e-6


def test_feature_distances_by_hand():
    label = np.array([[0, 0, 2, 2, 0, 1]])
    valid = np.array([[1, 1, 0, 1, 1, 1]], bool)
    classes, distances = signed_distances(label, valid)
    assert classes.tolist() == [0, 1, 2]
    pixels = distances[:, 0] * math.hypot(1, 6)
    # The ignored pixel is no end of class 0: from the second pixel on, it is two to the third.
    assert pixels[0].tolist() == pytest.approx([-2.5, -1.5, 0, 0.5, -0.5, 0.5])
    assert pixels[1].tolist() == pytest.approx([4.5, 3.5, 0, 1.5, 0.5, -0.5])
    assert pixels[2].tolist() == pytest.approx([2.5, 1.5, 0, -0.5, 0.5, 1.5])


@pytest.mark.parametrize("include_background", [True, False])
@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS])
def test_feature_equals_a_naive_loop(weights, include_background):
    """With a class that occurs nowhere, one in the first image only, and an image of one."""
    logits, labels = (torch.cat([part, part[:1]]) for part in case())
    labels[labels == 3] = 0
    labels[1][labels[1] == 2] = 1
    labels[2][labels[2] != 255] = 1
    p, valid = logits.softmax(1).numpy(), (labels != 255).numpy()
    terms = {}
    for k in range(0 if include_background else 1, 4):
        costs = []
        for b, label in enumerate(labels.numpy()):
            if (label[valid[b]] == k).any() and (label[valid[b]] != k).any():
                phi = scipy_distances(label, valid[b], k) / math.hypot(7, 6)
                costs += [p[b, k][at] * phi[at] for at in np.ndindex(7, 6) if valid[b][at]]
        if costs:
            terms[k] = np.mean(costs)
    factors = [weights[k] if weights else 1 for k in terms]
    loss = losses.BoundaryLoss(weights, include_background=include_background)
    expected = np.average([*terms.values()], weights=factors)
    assert loss(logits, labels).item() == pytest.approx(expected, abs=1e-7)
    assert len(terms) == 2 + include_background


def test_feature_one_class_everywhere_has_no_boundary():
    logits, labels = case()
    labels[labels != 255] = 2
    value = losses.BoundaryLoss()(logits.requires_grad_(), labels)
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


def test_gradient_of_two_classes_needs_no_background():
    logits, labels = case(classes=2)
    grads = []
    for include_background in (True, False):
        leaf = logits.clone().requires_grad_()
        losses.BoundaryLoss(include_background=include_background)(leaf, labels).backward()
        grads.append(leaf.grad)
    assert torch.allclose(*grads, atol=1e-9)
