"""What each config section may name."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import dataloaders
import models
from base.base_dataloader import BaseDataLoader, LoaderOptions
from base.base_dataset import BaseDataset
from base.base_model import BaseModel
from utils import losses, lr_scheduler
from utils.augmentation import Augmentation
from utils.config import Component, Config, LossTerm, Part, build, signature_of, split_args
from utils.config_file import ConfigError

BACKBONE_RATE = 0.1  # differential_lr: the backbone's rate over the decoder's, as in the ancestor


class _NoParametersError(Exception):
    """The constructor has come as far as asking for the parameters."""


def _no_parameters() -> Iterator[nn.Parameter]:
    raise _NoParametersError
    yield


def _try_optimizer(cls: Any, args: dict[str, Any]) -> None:
    # Rates and factors are checked before the parameters are looked at. Going further would import
    # torch's compiler, a second that a mistake in a config should not cost.
    with contextlib.suppress(_NoParametersError):
        cls(_no_parameters(), **args)


def _try_loss(cls: type, args: dict[str, Any]) -> None:
    # "auto" needs the training labels, which nobody has read yet.
    cls(**{name: value for name, value in args.items() if value != "auto"})


_LOADER = Part(
    "data loader",
    dataloaders,
    BaseDataset,
    shares=(Augmentation, LoaderOptions),
    given=frozenset({"class_names", "channels"}),
)

PARTS: dict[str, Part] = {
    "arch": Part("model", models, BaseModel, given=frozenset({"num_classes"})),
    "train_loader": _LOADER,
    "val_loader": _LOADER,
    "test_loader": _LOADER,
    "optimizer": Part(
        "optimizer",
        torch.optim,
        torch.optim.Optimizer,
        given=frozenset({"params"}),
        refused={
            "LBFGS": "it evaluates the loss several times a step",
            "SparseAdam": "it takes sparse gradients only, which no model here has",
        },
        trial=_try_optimizer,
    ),
    "loss": Part("loss", losses, nn.Module, given=frozenset({"ignore_index"}), trial=_try_loss),
    "lr_scheduler": Part(
        "learning-rate schedule",
        lr_scheduler,
        torch.optim.lr_scheduler.LRScheduler,
        given=frozenset({"optimizer", "num_epochs", "iters_per_epoch"}),
    ),
}


def arch_for(arch: Component, weights: Mapping[str, Tensor]) -> Component:
    """The model that a checkpoint's weights are of; see `BaseModel.args_for()`."""
    cls: type[BaseModel] = getattr(models, arch.type)
    return Component(arch.type, cls.args_for(arch.args, weights))


def with_channels(arch: Component, channels: int) -> Component:
    """The model with the first layer that the pictures need, unless `in_channels` is given."""
    if channels == 3 or "in_channels" not in signature_of(getattr(models, arch.type)):
        return arch
    return Component(arch.type, {"in_channels": channels, **arch.args})


class Source(NamedTuple):
    """What a loader section names: a dataset, what is done to its samples, and how they batch."""

    dataset: BaseDataset
    augmentation: Augmentation
    options: LoaderOptions


def build_dataset(component: Component, section: str) -> BaseDataset:
    """The dataset that a loader section names.

    Raises:
        ConfigError: If it cannot be found or used.
    """
    (own,) = split_args(component.args, getattr(dataloaders, component.type))
    return build(dataloaders, Component(component.type, own), BaseDataset, section)


def describe_dataset(dataset: BaseDataset, ignore_index: int) -> dict[str, Any]:
    """What a prediction needs to know of a dataset, as plain data for a checkpoint's `meta`."""
    rule = dataset.band_rule
    bands = {} if rule is None else {"band_rule": dataclasses.asdict(rule)}
    return {
        "classes": list(dataset.classes),
        "palette": [list(colour) for colour in dataset.palette],
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "channels": dataset.channels,
        "ignore_index": ignore_index,
        "preview_bands": list(dataset.preview_bands),
        **bands,
    }


def build_source(config: Config, section: str, *, held_out: bool = False) -> Source:
    """The parts of the loader of `train_loader`, `val_loader` or `test_loader`.

    Args:
        config: The checked config.
        section: Which of the three.
        held_out: For the validation on what `val_split` holds back: at native resolution.

    Raises:
        ConfigError: If the dataset cannot be found or used.
    """
    component: Component = getattr(config, section)
    dataset = build_dataset(component, section)
    augmentation, options = split_args(component.args, Augmentation, LoaderOptions)
    try:
        return Source(
            dataset,
            Augmentation(
                **({} if held_out else augmentation),
                class_names=dataset.classes,
                channels=dataset.channels,
            ),
            LoaderOptions(**options),
        )
    except ValueError as error:
        raise ConfigError(f"{section} ({component.type})", [str(error)]) from error


def build_loader(
    config: Config, section: str, *, held_out: bool = False, **settings: Any
) -> BaseDataLoader:
    """The loader of `train_loader`, `val_loader` or `test_loader`.

    Args:
        config: The checked config.
        section: Which of the three.
        held_out: Load what `val_split` holds back.
        settings: `training`, `num_epochs`, `rank`, `world_size` of `BaseDataLoader`.

    Raises:
        ConfigError: If the dataset cannot be found or used.
    """
    source = build_source(config, section, held_out=held_out)
    try:
        return BaseDataLoader(
            *source,
            seed=config.seed,
            ignore_index=config.ignore_index,
            held_out=held_out,
            **settings,
        )
    except ValueError as error:
        kind = getattr(config, section).type
        raise ConfigError(f"{section} ({kind})", [str(error)]) from error


def build_losses(config: Config) -> list[tuple[nn.Module, LossTerm]]:
    """Each loss of the config with its place and weight in the sum."""
    return [
        (build(losses, term, nn.Module, "loss", ignore_index=config.ignore_index), term)
        for term in config.loss
    ]


def build_optimizer(config: Config, model: BaseModel) -> torch.optim.Optimizer:
    """The optimizer over all parameters that train.

    With `differential_lr` group 0 is the decoder at the full rate and group 1 the backbone at a
    tenth; a group without parameters is left out.

    Raises:
        ConfigError: If nothing is left to train, or the optimizer refuses a parameter.
    """
    section = config.optimizer
    cls = getattr(torch.optim, section.type)
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ConfigError("arch.args", ["every parameter is frozen; nothing is left to train"])
    groups: list[dict[str, Any]] = [{"params": trainable}]
    if section.differential_lr:
        rate = section.args.get("lr", inspect.signature(cls).parameters["lr"].default)
        decoder = [p for p in model.get_decoder_params() if p.requires_grad]
        backbone = [p for p in model.get_backbone_params() if p.requires_grad]
        groups = [{"params": decoder}, {"params": backbone, "lr": rate * BACKBONE_RATE}]
        groups = [group for group in groups if group["params"]]
    return build(torch.optim, section, torch.optim.Optimizer, "optimizer", params=groups)
