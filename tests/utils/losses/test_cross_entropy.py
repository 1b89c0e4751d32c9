"""Cross-entropy: values against torch, scikit-learn and a naive loop."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss

from tests.loss_cases import case
from utils import losses


def test_feature_equals_scikit_learn():
    logits, labels = case()
    valid = (labels != 255).numpy()
    probabilities = logits.softmax(1).movedim(1, -1).numpy()[valid]
    truth = labels.numpy()[valid]
    expected = log_loss(truth, probabilities, labels=range(4))
    assert losses.CrossEntropyLoss2d()(logits, labels).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("smoothing", "weight"), [(0.0, None), (0.1, None), (1.0, None), (0.0, [0.5, 2.0, 0.25, 1.0])]
)
def test_feature_equals_torch(weight, smoothing):
    logits, labels = case(ignore_index=-1)
    tensor = None if weight is None else torch.tensor(weight, dtype=logits.dtype)
    expected = F.cross_entropy(logits, labels, tensor, ignore_index=-1, label_smoothing=smoothing)
    loss = losses.CrossEntropyLoss2d(weight, -1, label_smoothing=smoothing)
    assert loss(logits, labels).item() == pytest.approx(expected.item(), abs=1e-12)


def test_feature_smoothed_and_weighted_equals_a_loop():
    logits, labels = case()
    weight, s = [0.5, 2.0, 0.25, 1.0], 0.2
    log_p = logits.log_softmax(1)
    total = count = 0.0
    for b, y, x in (labels != 255).nonzero().tolist():
        k = labels[b, y, x].item()
        values = log_p[b, :, y, x].tolist()
        total -= weight[k] * ((1 - s) * values[k] + s * sum(values) / 4)
        count += weight[k]
    value = losses.CrossEntropyLoss2d(weight, label_smoothing=s)(logits, labels).item()
    assert value == pytest.approx(total / count, abs=1e-12)


def test_feature_smoothing_keeps_the_label_likeliest_whatever_the_weights():
    # With torch's way to weigh, a background pixel would be drawn to the rare class.
    loss = losses.CrossEntropyLoss2d([1.43, 42.33], label_smoothing=0.1)
    logits = torch.zeros(1, 2, 1, 1, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        loss(logits, torch.zeros(1, 1, 1, dtype=torch.long)).backward()
        optimizer.step()
    assert logits.softmax(1).flatten().tolist() == pytest.approx([0.95, 0.05], abs=1e-3)
