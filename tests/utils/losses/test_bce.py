"""Binary cross-entropy, alone and with Dice: values against torch and SMP."""

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from tests.loss_cases import CLASS_WEIGHTS, case
from utils import losses


def torch_bce(logits, labels, smoothing=0.0, weights=None):
    """torch's binary cross-entropy of (B, K, H, W) over the pixels that count."""
    valid = labels != 255
    k = logits.shape[1]
    logits, labels = logits.movedim(1, -1)[valid], labels[valid]
    truth = labels.unsqueeze(1) == (torch.arange(k) if k > 1 else torch.ones(1))
    answers = torch.tensor([smoothing / 2, 1 - smoothing / 2], dtype=torch.float64)[truth.long()]
    if weights is None:
        return F.binary_cross_entropy_with_logits(logits, answers)
    factor = torch.tensor(weights, dtype=torch.float64)[labels]
    total = F.binary_cross_entropy_with_logits(logits, answers, factor[:, None], reduction="sum")
    return total / factor.sum() / k


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_feature_equals_torch(channels, smoothing):
    logits, labels = case(classes=channels)
    loss = losses.BCEWithLogitsLoss2d(label_smoothing=smoothing)
    expected = torch_bce(logits, labels, smoothing).item()
    assert loss(logits, labels).item() == pytest.approx(expected, abs=1e-12)
    weights = CLASS_WEIGHTS[: max(channels, 2)]
    loss = losses.BCEWithLogitsLoss2d(weights, label_smoothing=smoothing)
    expected = torch_bce(logits, labels, smoothing, weights).item()
    assert loss(logits, labels).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("weights", [None, [0.5, 2.0]])
def test_feature_two_channels_are_softmax_cross_entropy(weights):
    logits, labels = case(classes=2)
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    expected = F.cross_entropy(logits, labels, tensor, ignore_index=255).item()
    value = losses.BCEWithLogitsLoss2d(weights)(logits, labels).item()
    assert value == pytest.approx(expected, abs=1e-12)


# SMP's Dice is the Tversky loss: the fraction is halved, its `smooth` is not.
@pytest.mark.parametrize("channels", [1, 4])
def test_feature_bce_dice_equals_smp(channels):
    logits, labels = case(classes=channels)
    if channels == 1:
        dice = smp.losses.DiceLoss("binary", smooth=0.5, ignore_index=255)(logits, labels)
    else:
        labels = labels.where(labels != 255, 2)
        truth = F.one_hot(labels, channels).movedim(-1, 1)
        dice = smp.losses.DiceLoss("multilabel", smooth=0.5)(logits, truth)
    expected = torch_bce(logits, labels) + dice
    value = losses.BCE_DiceLoss(smooth=1.0)(logits, labels).item()
    assert value == pytest.approx(expected.item(), abs=1e-12)


def test_feature_bce_dice_without_foreground_is_bce():
    logits, _ = case(classes=1)
    labels = torch.zeros(2, 7, 6, dtype=torch.int64)
    value = losses.BCE_DiceLoss()(logits, labels).item()
    assert value == pytest.approx(torch_bce(logits, labels).item(), abs=1e-12)
