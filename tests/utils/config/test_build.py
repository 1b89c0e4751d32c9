"""utils/config/build.py and signatures.py: from a checked config to objects."""

from typing import Any

import pytest
import torch

import models
from base.base_model import BaseModel
from builders.sections import SECTIONS
from utils.config.build import build, split_args
from utils.config.errors import ConfigError
from utils.config.sections import Component
from utils.config.signatures import plain_hint


def test_feature_build_is_the_constructor():
    model = build(models, Component("UNet", {"base_channels": 4}), BaseModel, "arch", num_classes=3)
    assert isinstance(model, models.UNet)
    assert model.num_classes == 3


def test_exception_build():
    with pytest.raises(ConfigError, match="arch"):
        build(models, Component("Nothing"), BaseModel, "arch", num_classes=3)
    with pytest.raises(ConfigError, match="at least 1"):
        build(models, Component("UNet", {"in_channels": 0}), BaseModel, "arch", num_classes=3)
    with pytest.raises(ConfigError, match="there is no"):
        build(models, Component("torch"), BaseModel, "arch", num_classes=3)


def test_feature_loader_arguments_have_one_owner():
    # A name that two owners share would reach both.
    from base.base_dataloader import LoaderOptions
    from utils import transforms
    from utils.config.signatures import signature_of
    from utils.transforms.augmentation import Augmentation

    for name in SECTIONS["train_loader"].names():
        dataset = getattr(SECTIONS["train_loader"].namespace, name)
        owners = [dataset, Augmentation, transforms, LoaderOptions]
        names = [key for owner in owners for key in signature_of(owner)]
        names = [key for key in names if key not in ("class_names", "channels")]  # set for both
        assert len(names) == len(set(names)), name
    args = {"split": "val", "augment": True, "flip": True, "batch_size": 2}
    assert split_args(args, *owners) == [{key: value} for key, value in args.items()]


def test_feature_plain_hints():
    assert plain_hint(float | torch.Tensor) is float
    assert plain_hint(torch.Tensor) is Any
    assert plain_hint(tuple[float | torch.Tensor, float]) == tuple[float, float]
    assert plain_hint(int | None) == int | None
