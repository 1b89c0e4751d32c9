"""utils/config/build.py and signatures.py: from a checked config to objects."""

from typing import Any

import pytest
import torch

import models
from base.base_model import BaseModel
from builders.optimization import build_optimizer
from builders.sections import SECTIONS
from tests.utils.config.test_check_config import check, minimal
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


def test_feature_differential_rates():
    tree = minimal()
    tree["arch"] = {"type": "PSPNet", "args": {"backbone": "resnet18", "pretrained": False}}
    tree["optimizer"] = {"type": "SGD", "args": {"lr": 0.5}, "differential_lr": True}
    config = check(tree)
    model = build(models, config.arch, BaseModel, "arch", num_classes=3)
    groups = build_optimizer(config, model).param_groups
    assert [group["lr"] for group in groups] == [0.5, 0.05]
    sets = [{id(p) for p in group["params"]} for group in groups]
    assert sets[0] == {id(p) for p in model.get_decoder_params()}
    assert sets[1] == {id(p) for p in model.get_backbone_params()}


def test_feature_every_optimizer_of_torch():
    names = SECTIONS["optimizer"].names()
    assert {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam"} <= set(names)
    assert not {"LBFGS", "SparseAdam", "Optimizer"} & set(names)
    for name in names:
        tree = minimal()
        tree["optimizer"] = {"type": name}
        assert check(tree).optimizer.type == name


def test_feature_plain_hints():
    assert plain_hint(float | torch.Tensor) is float
    assert plain_hint(torch.Tensor) is Any
    assert plain_hint(tuple[float | torch.Tensor, float]) == tuple[float, float]
    assert plain_hint(int | None) == int | None
