"""Focal loss: values against torchvision and a naive loop."""

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from tests.loss_cases import case
from utils import losses


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [-1, 0.25])
def test_feature_binary_equals_torchvision(gamma, alpha):
    logits, labels = case(classes=1)
    weights = None if alpha < 0 else [1 - alpha, alpha]
    valid = labels != 255
    total = sigmoid_focal_loss(logits[:, 0][valid], labels[valid].double(), alpha, gamma).sum()
    divisor = 1.0 if weights is None else torch.tensor(weights)[labels[valid]].double()
    expected = total / (valid * 1.0).sum() if weights is None else total / divisor.sum()
    value = losses.FocalLoss(weights, gamma=gamma)(logits, labels)
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weight", [None, [0.5, 2.0, 0.25, 1.0]])
def test_feature_equals_a_naive_loop(weight, gamma):
    logits, labels = case()
    total = divisor = 0.0
    for b, y, x in torch.nonzero(labels != 255).tolist():
        scores = [math.exp(z) for z in logits[b, :, y, x].tolist()]
        label = labels[b, y, x].item()
        p = scores[label] / sum(scores)
        w = weight[label] if weight else 1.0
        total += w * (1 - p) ** gamma * -math.log(p)
        divisor += w
    value = losses.FocalLoss(weight, gamma=gamma)(logits, labels).item()
    assert value == pytest.approx(total / divisor, rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.5, 2.0])
def test_gradient_is_finite_where_the_right_class_is_certain(gamma):
    logits = torch.tensor([30.0, 0.0, -1e4]).view(1, 3, 1, 1).requires_grad_()
    value = losses.FocalLoss(gamma=gamma)(logits, torch.zeros(1, 1, 1, dtype=torch.long))
    (value * 1e3).backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad.abs().max() < 1e-6


def test_feature_the_name_alpha_means_class_weights():
    assert losses.FocalLoss.renamed_args["alpha"] == "class_weights"
