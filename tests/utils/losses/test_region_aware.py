"""Region-aware loss: values, gradients and state against recorded ones, and the life of M."""

import copy
import json

import pytest
import torch

from tests.conftest import ROOT
from tests.loss_cases import case
from utils.losses.region_aware import RegionAwareLoss

CALLS = json.loads((ROOT / "tests/golden/losses/region_aware.json").read_text())["calls"]


def moved(steps=1, **args):
    loss = RegionAwareLoss(**args)
    for seed in range(steps):
        loss(*case(args.get("ignore_index", 255), torch.float32, seed=seed))
    return loss


def test_feature_equals_the_recorded_calls():
    """The source, and what its numbers are of, stand in the file."""
    loss = RegionAwareLoss()
    for call in CALLS:
        logits = torch.tensor(call["logits"], requires_grad=True)
        foreground = torch.tensor(call["foreground"]).bool()
        value = loss(logits, torch.tensor(call["target"]), foreground)
        value.backward()
        assert value.item() == pytest.approx(call["loss"], abs=1e-6)
        assert logits.grad.abs().sum().item() == pytest.approx(call["grad_abs_sum"], abs=1e-6)
        expected = torch.tensor(call["running_matrix_after"])
        assert torch.allclose(loss.confusion, expected, rtol=0, atol=1e-8)


def test_feature_equals_a_naive_loop_with_ignored_pixels():
    logits, labels = case()
    weights, step = [0.5, 2.0, 0.25, 1.0], 0.3
    foreground = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    valid = torch.nonzero(labels != 255).tolist()
    shares = torch.zeros(4, 4, dtype=torch.float64)
    for b, y, x in valid:
        shares[labels[b, y, x], logits[b, :, y, x].argmax()] += 1
    shares = torch.stack([column / max(column.sum(), 1) for column in shares.unbind(1)], 1)
    matrix = step * shares / (1 + step)
    total = divisor = 0.0
    for b, y, x in valid:
        label, p = labels[b, y, x].item(), logits[b, :, y, x].softmax(0)
        inside = max(1 - sum(p[t] * matrix[t, label] for t in range(4)).item(), 0) / 4
        value = inside - 0.2 * p[label].log().item()
        total += weights[label] * (1.0 if foreground[b, y, x] else 0.1) * value
        divisor += weights[label]
    loss = RegionAwareLoss(weights, step=step, ce_weight=0.2, background_weight=0.1)
    assert loss(logits, labels, foreground).item() == pytest.approx(total / divisor, rel=1e-6)
    assert torch.allclose(loss.confusion.double(), matrix, rtol=0, atol=1e-7)


def test_feature_without_a_mask_all_is_foreground():
    logits, labels = case()
    loss = moved().eval()
    everywhere, nowhere = (torch.full(labels.shape, value) for value in (True, False))
    value = loss(logits, labels).item()
    assert value == loss(logits, labels, everywhere).item()
    assert loss(logits, labels, nowhere).item() == pytest.approx(0.4 * value, rel=1e-6)


def test_feature_state_moves_in_training_only_and_with_pixels_that_count():
    logits, labels = case(dtype=torch.float32)
    loss = moved()
    before = loss.confusion
    loss.eval()(logits, labels)
    assert torch.equal(loss.confusion, before)
    loss.train()(logits, torch.full_like(labels, 255))
    assert torch.equal(loss.confusion, before)
    ignored = (labels == 255).unsqueeze(1)
    other = copy.deepcopy(loss)
    loss(logits, labels)
    other(torch.where(ignored, -logits, logits), labels)
    assert torch.equal(loss.confusion, other.confusion)
    assert not torch.equal(loss.confusion, before)
    assert not loss.confusion.requires_grad


def test_feature_state_survives_saving_copying_and_moving(tmp_path):
    logits, labels = case(dtype=torch.float32)
    loss = moved(3)
    torch.save(loss.state_dict(), tmp_path / "loss.pth")
    loaded = RegionAwareLoss()
    loaded.load_state_dict(torch.load(tmp_path / "loss.pth", weights_only=True))
    others = [loaded, copy.deepcopy(loss), copy.deepcopy(loss).to("cpu", torch.float64).float()]
    expected = loss(logits, labels).item()
    for other in others:
        assert other(logits, labels).item() == expected
        assert torch.equal(other.confusion, loss.confusion)
    # As in the trainer, inside a module; and back to the state before the first batch.
    outer = torch.nn.ModuleList([RegionAwareLoss()])
    outer.load_state_dict({"0.confusion": loss.confusion})
    assert torch.equal(outer[0].confusion, loss.confusion)
    loaded.load_state_dict(RegionAwareLoss().state_dict())
    assert loaded(logits, labels).item() == RegionAwareLoss()(logits, labels).item()
    with pytest.raises(RuntimeError, match="Missing key"):
        loaded.load_state_dict({})


def test_feature_state_first_made_in_validation():
    logits, labels = case(dtype=torch.float32)
    loss = RegionAwareLoss().eval()
    with torch.inference_mode():
        loss(logits, labels)
    logits.requires_grad_()
    loss(logits, labels).backward()
    loss.train()(logits, labels).backward()
    assert torch.equal(loss.confusion, moved().confusion)


def test_exception_state_of_another_number_of_classes():
    logits, labels = case(classes=3)
    with pytest.raises(ValueError, match="is of 4 classes, the logits are of 3"):
        moved()(logits, labels)
