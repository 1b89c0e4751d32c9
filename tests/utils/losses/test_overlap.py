"""Dice, Jaccard, Tversky: values against SMP, MONAI and a naive loop."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from tests.loss_cases import CLASS_WEIGHTS, case
from tests.utils.config.test_check_config import check, minimal
from utils import losses

PEERS = {
    "DiceLoss": (smp.losses.DiceLoss, {}),
    "JaccardLoss": (smp.losses.JaccardLoss, {}),
    "TverskyLoss": (smp.losses.TverskyLoss, {"alpha": 0.2, "beta": 0.9}),
}


@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS])
@pytest.mark.parametrize("smooth", [0.0, 2.0])
@pytest.mark.parametrize("name", PEERS)
def test_feature_equals_smp(name, smooth, weights):
    logits, labels = case(ignore_index=-1)
    peer, args = PEERS[name]
    theirs = peer("multiclass", smooth=smooth, ignore_index=-1, class_weights=weights, **args)
    # Their Dice is the Tversky loss: the fraction is halved, its `smooth` is not.
    smooth *= 1 + (name == "DiceLoss")
    ours = getattr(losses, name)(weights, -1, smooth=smooth, **args)
    assert ours(logits, labels).item() == pytest.approx(theirs(logits, labels).item(), abs=1e-12)


# MONAI 1.6.1 with softmax, to_onehot_y, the same number as smooth_nr and smooth_dr, and batch the
# opposite of per_image; "squared" is its squared_pred, Jaccard DiceLoss(jaccard=True).
@pytest.mark.parametrize(
    ("name", "args", "expected", "per_image"),
    [
        ("DiceLoss", {"smooth": 0.5}, 0.7403476478712029, 0.7318884422529578),
        ("DiceLoss", {"smooth": 0.5, "squared": True}, 0.6862881290717331, 0.6768236105946766),
        ("JaccardLoss", {"smooth": 0.0}, 0.8562261956862245, 0.8563265683104078),
        ("TverskyLoss", {"smooth": 0.5, "alpha": 0.2, "beta": 0.9}, 0.7485662556058155,
         0.7327132939427525),
    ],
)  # fmt: skip
def test_feature_equals_monai(name, args, expected, per_image):
    logits = 3 * torch.sin(torch.arange(336, dtype=torch.float64) * 1.7).view(2, 4, 7, 6)
    labels = (torch.arange(84) * 7 // 3 % 4).view(2, 7, 6)
    loss = getattr(losses, name)
    assert loss(**args)(logits, labels).item() == pytest.approx(expected, abs=1e-6)
    value = loss(**args, per_image=True)(logits, labels).item()
    assert value == pytest.approx(per_image, abs=1e-6)


def naive(name, logits, labels, *, smooth, classes, per_image, squared=False, gamma=1.0):
    """The formulas of the docstrings, pixel by pixel."""
    p = logits.softmax(1).movedim(1, -1).numpy()
    labels = labels.numpy()
    alpha, beta = {"DiceLoss": (0.5, 0.5), "JaccardLoss": (1, 1), "TverskyLoss": (0.3, 0.7)}[name]
    smooth = smooth / 2 if name == "DiceLoss" else smooth
    rows = []
    for pictures in [[i] for i in range(len(p))] if per_image else [range(len(p))]:
        pixels = [(p[i][at], labels[i][at]) for i in pictures for at in np.ndindex(7, 6)]
        pixels = [(row, label) for row, label in pixels if label != 255]
        terms = []
        for k in range(p.shape[-1]):
            if not pixels or (classes == "present" and all(label != k for _, label in pixels)):
                continue
            hits = sum(row[k] for row, label in pixels if label == k)
            extra = sum(row[k] ** (1 + squared) for row, _ in pixels) - hits
            missed = sum(1 - row[k] for row, label in pixels if label == k)
            index = (hits + smooth) / (hits + alpha * extra + beta * missed + smooth)
            terms.append((CLASS_WEIGHTS[k], (1 - index) ** (1 / gamma)))
        if terms:
            rows.append(sum(w * t for w, t in terms) / sum(w for w, _ in terms))
    return np.mean(rows)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("classes", ["present", "all"])
@pytest.mark.parametrize(
    ("name", "args"),
    [("DiceLoss", {}), ("DiceLoss", {"squared": True}), ("JaccardLoss", {}), ("TverskyLoss", {}),
     ("TverskyLoss", {"gamma": 4 / 3})],
)  # fmt: skip
def test_feature_equals_a_naive_loop(name, args, classes, per_image):
    logits, labels = (torch.cat([part, part[:1]]) for part in case())
    labels[labels == 3] = 0  # occurs nowhere
    labels[1][labels[1] == 2] = 1  # and class 2 in the first image only
    labels[2] = 255
    args = {"smooth": 1.5, "classes": classes, "per_image": per_image, **args}
    value = getattr(losses, name)(CLASS_WEIGHTS, **args)(logits, labels).item()
    assert value == pytest.approx(naive(name, logits, labels, **args), abs=1e-12)


@pytest.mark.parametrize("args", [{}, {"gamma": 3.0}, {"alpha": 0.0}, {"beta": 0.0}])
def test_feature_without_an_error_is_zero(args):
    """Without smoothing too, and for a class that neither labels nor probabilities hold."""
    labels = torch.tensor([[[0, 1], [1, 255]]])
    right = torch.full((1, 3, 2, 2), -1e4)
    right.scatter_(1, labels.where(labels != 255, 0).unsqueeze(1), 1e4)
    loss = losses.TverskyLoss(smooth=0.0, classes="all", **args)
    value = loss(right.requires_grad_(), labels)
    value.backward()
    assert value.item() == 0
    assert (right.grad == 0).all()


def test_feature_ce_dice_is_the_sum():
    logits, labels = case()
    expected = F.cross_entropy(logits, labels, ignore_index=255, label_smoothing=0.1)
    expected += smp.losses.DiceLoss("multiclass", smooth=0.5, ignore_index=255)(logits, labels)
    loss = losses.CE_DiceLoss(label_smoothing=0.1, smooth=1.0)
    assert loss(logits, labels).item() == pytest.approx(expected.item(), abs=1e-12)


def test_feature_ce_dice_takes_what_the_ancestor_took():
    config = check({**minimal(), "loss": {"type": "CE_DiceLoss", "args": {"reduction": "mean"}}})
    assert config.loss[0].args == {}
    assert any("loss.args.reduction: has no effect" in warning for warning in config.warnings)
