"""Cross-entropy: values against torch, scikit-learn and a naive loop."""

import numpy as np
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
    # Class weights, by a naive loop.
    weight = [0.5, 2.0, 0.0, 1.0]
    total = sum(-weight[t] * np.log(p[t]) for t, p in zip(truth, probabilities, strict=True))
    expected = total / sum(weight[t] for t in truth)
    value = losses.CrossEntropyLoss2d(weight)(logits, labels).item()
    assert value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weight", [None, [0.5, 2.0, 0.25, 1.0]])
def test_feature_equals_torch(weight, smoothing):
    logits, labels = case(ignore_index=-1)
    tensor = None if weight is None else torch.tensor(weight, dtype=logits.dtype)
    expected = F.cross_entropy(logits, labels, tensor, ignore_index=-1, label_smoothing=smoothing)
    loss = losses.CrossEntropyLoss2d(weight, -1, label_smoothing=smoothing)
    assert loss(logits, labels).item() == pytest.approx(expected.item(), abs=1e-12)
