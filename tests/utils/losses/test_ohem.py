"""Online hard example mining: values against a naive loop."""

import math

import pytest
import torch

from tests.loss_cases import CLASS_WEIGHTS, case
from utils import losses


def naive(logits, labels, threshold, min_kept, weights=None):
    pixels = []
    for b, y, x in torch.nonzero(labels != 255).tolist():
        scores = [math.exp(z) for z in logits[b, :, y, x].tolist()]
        label = labels[b, y, x].item()
        pixels.append((scores[label] / sum(scores), weights[label] if weights else 1.0))
    pixels.sort()
    limit = pixels[math.ceil(min_kept * len(pixels)) - 1][0]
    kept = [(p, w) for p, w in pixels if p < threshold or p <= limit]
    return sum(w * -math.log(p) for p, w in kept) / sum(w for _, w in kept)


@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS])
@pytest.mark.parametrize(
    ("threshold", "min_kept"), [(0.7, 1 / 16), (0.3, 0.1), (0.01, 0.01), (0.01, 0.5), (0.01, 1.0)]
)
def test_feature_equals_a_naive_loop(threshold, min_kept, weights):
    logits, labels = case()
    loss = losses.OhemCrossEntropyLoss2d(weights, threshold=threshold, min_kept=min_kept)
    expected = naive(logits, labels, threshold, min_kept, weights)
    assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-7)


def test_feature_the_easy_have_no_gradient():
    # Probabilities of the right class 0.5, 0.6, 0.8 and 0.9; by hand.
    p = torch.tensor([0.5, 0.6, 0.8, 0.9], dtype=torch.float64)
    logits = torch.stack([p.log(), (1 - p).log()]).view(1, 2, 1, 4).requires_grad_()
    labels = torch.zeros(1, 1, 4, dtype=torch.long)
    for threshold, min_kept, kept in [(0.55, 0.1, 1), (0.7, 0.1, 2), (0.55, 0.51, 3)]:
        logits.grad = None
        loss = losses.OhemCrossEntropyLoss2d(threshold=threshold, min_kept=min_kept)
        value = loss(logits, labels)
        value.backward()
        assert value.item() == pytest.approx(-p[:kept].log().mean().item(), rel=1e-12)
        assert (logits.grad[0, 0, 0] != 0).tolist() == [i < kept for i in range(4)]


def test_feature_equally_hard_pixels_are_all_kept():
    logits = torch.zeros(1, 2, 1, 5, requires_grad=True)
    labels = torch.zeros(1, 1, 5, dtype=torch.long)
    losses.OhemCrossEntropyLoss2d(threshold=0.1, min_kept=0.2)(logits, labels).backward()
    assert len(logits.grad[0, 0, 0].unique()) == 1
    # Also where the probability is 0 in float32: the logarithm tells them apart.
    sharp = torch.tensor([300.0, 200.0, 100.0, 0.0, 0.0])
    logits = torch.stack([-sharp, sharp]).view(1, 2, 1, 5)
    value = losses.OhemCrossEntropyLoss2d(threshold=1e-300, min_kept=0.2)(logits, labels)
    assert value.item() == 600
