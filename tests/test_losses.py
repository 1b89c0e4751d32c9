"""Every loss: value, gradient, ignored pixels, extremes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss

from utils import losses

NAMES = losses.__all__


def case(ignore_index=255, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 5, 3, generator=generator, dtype=dtype)
    labels = torch.randint(0, 4, (2, 5, 3), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = ignore_index
    return logits, labels


@pytest.mark.parametrize("ignore_index", [255, -1, -100, 1])
@pytest.mark.parametrize("name", NAMES)
def test_feature_ignored_pixels_change_nothing(name, ignore_index):
    logits, labels = case(ignore_index)
    loss = getattr(losses, name)(ignore_index=ignore_index)
    ignored = (labels == ignore_index).unsqueeze(1)
    other = torch.where(ignored, logits * -50 + 3, logits).requires_grad_()
    assert loss(logits, labels).item() == pytest.approx(loss(other, labels).item(), abs=1e-12)
    loss(other, labels).backward()
    assert (other.grad[ignored.expand_as(other)] == 0).all()
    assert other.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_feature_all_ignored_is_zero(name):
    logits, labels = case()
    logits.requires_grad_()
    value = getattr(losses, name)(ignore_index=255)(logits, torch.full_like(labels, 255))
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_feature_arguments_are_left_alone(name):
    logits, labels = case()
    before = logits.clone(), labels.clone()
    getattr(losses, name)(ignore_index=255)(logits, labels)
    assert torch.equal(logits, before[0])
    assert torch.equal(labels, before[1])


@pytest.mark.parametrize("name", NAMES)
def test_gradient_double_precision(name):
    logits, labels = case()
    loss = getattr(losses, name)(ignore_index=255)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits.requires_grad_())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0.0, 1.0, 80.0, 1e4])
def test_feature_extremes_are_finite(name, size):
    logits, labels = case(dtype=torch.float32)
    logits = (logits.sign() * size).requires_grad_()
    value = getattr(losses, name)(ignore_index=255)(logits, labels)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_feature_bf16_is_close(name):
    logits, labels = case(dtype=torch.float32)
    loss = getattr(losses, name)(ignore_index=255)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits.bfloat16(), labels)
    assert value.item() == pytest.approx(loss(logits, labels).item(), rel=0.05)


def test_feature_cross_entropy_equals_scikit_learn():
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
    value = losses.CrossEntropyLoss2d(weight=weight)(logits, labels).item()
    assert value == pytest.approx(expected, rel=1e-6)


def test_feature_cross_entropy_equals_torch():
    logits, labels = case(ignore_index=-1)
    weight = [0.5, 2.0, 0.25, 1.0]
    for given in (None, weight):
        tensor = None if given is None else torch.tensor(given, dtype=logits.dtype)
        expected = F.cross_entropy(logits, labels, tensor, ignore_index=-1).item()
        value = losses.CrossEntropyLoss2d(weight=given, ignore_index=-1)(logits, labels).item()
        assert value == pytest.approx(expected, abs=1e-12)


def test_exception_cross_entropy():
    logits, labels = case()
    with pytest.raises(ValueError, match="2 class weights for 4 classes"):
        losses.CrossEntropyLoss2d(weight=[1.0, 1.0])(logits, labels)
    with pytest.raises(ValueError, match="cannot be negative"):
        losses.CrossEntropyLoss2d(weight=[1.0, -1.0])
