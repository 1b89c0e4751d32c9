"""Losses for noisy labels: values against naive loops and the properties that define them."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.loss_cases import CLASS_WEIGHTS, case
from utils import losses

A = math.log(1e-4)

# By the papers' formulas: of the softmax q (a list) and the label y.
FORMULAS = {
    "SymmetricCrossEntropyLoss": lambda q, y: (
        0.1 * -math.log(q[y]) - sum(p * A for k, p in enumerate(q) if k != y)
    ),
    "GeneralizedCrossEntropyLoss": lambda q, y: (1 - q[y] ** 0.7) / 0.7,
    "NCE_RCE": lambda q, y: (
        math.log(q[y]) / sum(math.log(p) for p in q) - sum(p * A for k, p in enumerate(q) if k != y)
    ),
    "AUELoss": lambda q, y: ((1.5 - q[y]) ** 0.9 - 0.5**0.9) / 0.9,
}


def softmax(scores):
    exponentials = [math.exp(z) for z in scores]
    return [e / sum(exponentials) for e in exponentials]


@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS])
@pytest.mark.parametrize("name", FORMULAS)
def test_feature_equals_a_naive_loop(name, weights):
    logits, labels = case()
    total = divisor = 0.0
    for b, y, x in torch.nonzero(labels != 255).tolist():
        label = labels[b, y, x].item()
        w = weights[label] if weights else 1.0
        total += w * FORMULAS[name](softmax(logits[b, :, y, x].tolist()), label)
        divisor += w
    value = getattr(losses, name)(weights)(logits, labels).item()
    assert value == pytest.approx(total / divisor, rel=1e-9)


# All labels are 2. The values below were made once by the expressions of lnl/losses.py in
# https://github.com/hitcszx/ALFs (the authors of AUL; also NCE, RCE, GCE and SCE), in float64.
GOLDEN_LOGITS = [[0.3, -1.2, 2.0, 0.1], [1.5, 0.4, -0.7, -2.0], [0.0, 0.0, 0.5, 3.0]]


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("AUELoss", {}, 0.7184285476293306),
        ("AUELoss", {"a": 5.5, "q": 3.0}, 17.22959950836302),
        ("GeneralizedCrossEntropyLoss", {}, 0.8957112748948095),
        ("NCE_RCE", {}, 6.743582603990906),
        ("NCE_RCE", {"alpha": 10.0, "beta": 0.1}, 2.7865743355718546),
        ("SymmetricCrossEntropyLoss", {"alpha": 1.0}, 8.387501035378744),
    ],
)
def test_feature_equals_the_authors_code(name, args, expected):
    logits = torch.tensor(GOLDEN_LOGITS, dtype=torch.float64).t().reshape(1, 4, 1, 3)
    labels = torch.full((1, 1, 3), 2)
    value = getattr(losses, name)(**args)(logits, labels).item()
    assert value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "args", "total"),
    [
        ("SymmetricCrossEntropyLoss", {"alpha": 0.0}, -A * 3), ("NCE_RCE", {}, 1 - A * 3),
        ("GeneralizedCrossEntropyLoss", {"q": 1.0}, 3), ("AUELoss", {"q": 1.0}, 3),
    ],
)  # fmt: skip
def test_feature_symmetric_over_the_labels(name, args, total):
    """The papers' condition for robustness: summed over all labels, the logits play no part."""
    logits, _ = case()
    loss = getattr(losses, name)(**args)
    values = [loss(logits, torch.full((2, 7, 6), k)).item() for k in range(4)]
    assert sum(values) == pytest.approx(total, rel=1e-9)


def test_feature_limit_of_the_generalized_cross_entropy():
    """Near q = 0 the cross-entropy of torch."""
    logits, labels = case(ignore_index=-100)
    loss = losses.GeneralizedCrossEntropyLoss(ignore_index=-100, q=1e-9)
    expected = F.cross_entropy(logits, labels).item()
    assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("name", FORMULAS)
def test_gradient_of_a_hopeless_pixel_is_finite(name):
    """The right class has probability 0 in float32; a bounded loss lets go of it."""
    logits = torch.tensor([200.0, 0.0, -200.0]).view(1, 3, 1, 1).requires_grad_()
    value = getattr(losses, name)()(logits, torch.full((1, 1, 1), 2))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    if name in ("GeneralizedCrossEntropyLoss", "AUELoss"):
        assert logits.grad.abs().max() == 0
