"""Logits and labels to try losses on, and another value for every argument of every loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from utils import losses
from utils.losses.base import SegmentationLoss

CLASS_WEIGHTS = [0.5, 2.0, 0.25, 1.0]

# Arguments that fit the small images of `case()`, where the default ones do not.
FITTING_ARGS: dict[str, dict[str, Any]] = {"RMILoss": {"radius": 2, "downsampling": 2}}

OVERLAP = {"smooth": 3.0, "classes": "all", "per_image": True}

# Name of the loss -> argument -> a value with which the loss is another number than by default.
# `ignore_index` and `class_weights` are tried for all of them.
OTHER_VALUES: dict[str, dict[str, Any]] = {
    "AUELoss": {"a": 3.0, "q": 2.0},
    "BCEWithLogitsLoss2d": {"label_smoothing": 0.1},
    "BCE_DiceLoss": {**OVERLAP, "squared": True, "label_smoothing": 0.1},
    "BoundaryLoss": {"include_background": False},
    "CE_DiceLoss": {**OVERLAP, "squared": True, "label_smoothing": 0.1},
    "CrossEntropyLoss2d": {"label_smoothing": 0.1},
    "DiceLoss": {**OVERLAP, "squared": True},
    "FocalLoss": {"gamma": 0.5},
    "GeneralizedCrossEntropyLoss": {"q": 0.2},
    "JaccardLoss": OVERLAP,
    "LovaszSoftmax": {"classes": "all", "per_image": True},
    "NCE_RCE": {"alpha": 2.0, "beta": 0.1},
    "OhemCrossEntropyLoss2d": {"threshold": 0.2, "min_kept": 1.0},
    "RMILoss": {"radius": 1, "downsampling": 3, "bce_weight": 0.1},
    "RegionAwareLoss": {"step": 0.5, "ce_weight": 0.2, "background_weight": 0.1},
    "SymmetricCrossEntropyLoss": {"alpha": 2.0, "beta": 0.1},
    "TverskyLoss": {**OVERLAP, "alpha": 0.5, "beta": 0.5, "gamma": 2.0},
}


def case(
    ignore_index: int = 255, dtype: torch.dtype = torch.float64, seed: int = 0, classes: int = 4
) -> tuple[Tensor, Tensor]:
    """Logits (2, classes, 7, 6) and labels (2, 7, 6), a third of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 7, 6, generator=generator, dtype=dtype)
    labels = torch.randint(0, max(classes, 2), (2, 7, 6), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = ignore_index
    return logits, labels


def make(name: str, **args: Any) -> SegmentationLoss:
    """A loss whose state, if it has one, has moved and stays now."""
    loss: SegmentationLoss = getattr(losses, name)(**{**FITTING_ARGS.get(name, {}), **args})
    if list(loss.parameters()) or loss.state_dict():
        ignore_index = args.get("ignore_index", 255)
        binary = len(args.get("class_weights") or CLASS_WEIGHTS) == 2
        loss(*case(ignore_index, torch.float32, seed=7, classes=2 if binary else 4))
    return loss.eval()
