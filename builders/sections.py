"""What each config section may name."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import dataloaders
import models
from base.base_dataloader import BaseDataLoader, LoaderOptions
from base.base_dataset import BaseDataset
from base.base_model import BaseModel
from utils import losses
from utils.config.build import build, split_args
from utils.config.errors import ConfigError
from utils.config.folder_section import CLASSES, folder_args
from utils.config.sections import Component, Config, LossTerm, OptimizerSection, SectionSpec
from utils.config.signatures import signature_of
from utils.config.values import converts
from utils.optim import lr_scheduler
from utils.optim import schedule_from_config as schedule_section
from utils.optim.param_groups import backbone_layers, parameter_groups
from utils.transforms.augmentation import Augmentation

logger = logging.getLogger(__name__)

MAX_NAME = 100  # characters of an encoder, in a message
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


def _optimizer_problems(section: OptimizerSection, sections: Mapping[str, Any]) -> list[str]:
    takes = "weight_decay" in signature_of(getattr(torch.optim, section.type))
    if takes or not section.no_decay_norms_biases:
        return []
    return [f"optimizer.no_decay_norms_biases: {section.type} has no weight decay; remove it"]


def _try_loss(cls: type, args: dict[str, Any]) -> None:
    # "auto" needs the training labels, which nobody has read yet.
    cls(**{name: value for name, value in args.items() if value != "auto"})


def _advise_loader(name: str, args: Mapping[str, Any]) -> str:
    """Return what to do about a data loader that is not there."""
    known = _LOADER.schema("Folder")
    found = {k: v for k, v in folder_args(args, known).items() if converts(v, known[k])}
    found.setdefault("batch_size", 8)
    section = json.dumps({"type": "Folder", "args": found})
    return (
        "put its file into dataloaders/ and its name into dataloaders/__init__.py (docs/data.md, "
        f'"A dataset of your own"), or use Folder: {section}'
        + " with your own classes"
        * (found.get("classes") == CLASSES)
    )


def _advise_model(name: str, args: Mapping[str, Any]) -> str:
    """Return what to do about a model that is not there, or is an architecture of `SMP`."""
    known = {choice.lower(): choice for choice in models.smp.ARCHITECTURES.names}
    architecture = known.get(name.lower().replace("_", "").replace("-", ""))
    if architecture is None:
        return _own_class("models", _MODEL.names())
    encoders = (args.get(key) for key in ("encoder_name", "encoder", "backbone"))
    encoder = next((e for e in encoders if isinstance(e, str) and len(e) <= MAX_NAME), "resnet34")
    section = {"type": "SMP", "args": {"architecture": architecture, "encoder_name": encoder}}
    return f"it is an architecture of SMP: {json.dumps(section)}"


def _advise_loss(name: str, args: Mapping[str, Any]) -> str:
    """Return what to do about a loss that is not there."""
    return _own_class("utils/losses", _LOSS.names())


def _own_class(folder: str, names: Sequence[str]) -> str:
    return (
        f"put its file into {folder}/ and its name into {folder}/__init__.py (CONTRIBUTING.md), or "
        f"choose from {', '.join(names)}"
    )


_LOADER = SectionSpec(
    "data loader",
    dataloaders,
    BaseDataset,
    shared_args=(Augmentation, LoaderOptions),
    set_by_program=frozenset({"class_names", "channels"}),
    advice=_advise_loader,
)
_MODEL = SectionSpec(
    "model", models, BaseModel, set_by_program=frozenset({"num_classes"}), advice=_advise_model
)
_LOSS = SectionSpec(
    "loss",
    losses,
    nn.Module,
    set_by_program=frozenset({"ignore_index"}),
    dry_build=_try_loss,
    advice=_advise_loss,
)

SECTIONS: dict[str, SectionSpec] = {
    "arch": _MODEL,
    "train_loader": _LOADER,
    "val_loader": _LOADER,
    "test_loader": _LOADER,
    "optimizer": SectionSpec(
        "optimizer",
        torch.optim,
        torch.optim.Optimizer,
        set_by_program=frozenset({"params", "differentiable", "capturable"}),
        forbidden={
            "LBFGS": "it evaluates the loss several times a step",
            "SparseAdam": "it takes sparse gradients only, which no model here has",
            "Muon": "it takes matrices only, and every model here has kernels and biases",
        },
        dry_build=_try_optimizer,
        cross_check=_optimizer_problems,
    ),
    "loss": _LOSS,
    "lr_scheduler": SectionSpec(
        "learning-rate schedule",
        lr_scheduler,
        torch.optim.lr_scheduler.LRScheduler,
        set_by_program=frozenset({"optimizer", "num_epochs", "iters_per_epoch", "last_epoch"}),
        forbidden=schedule_section.FORBIDDEN,
        library=torch.optim.lr_scheduler,
        derived=schedule_section.DERIVED,
        cross_check=schedule_section.problems_of,
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
        **({} if dataset.exif is None else {"exif": dataset.exif}),
        "mask_prefix": dataset.mask_prefix,
        "mask_suffix": dataset.mask_suffix,
        **bands,
    }


def build_source(component: Component, section: str, *, held_out: bool = False) -> Source:
    """The parts of the loader of `train_loader`, `val_loader` or `test_loader`.

    Args:
        component: The checked section.
        section: Which of the three it is.
        held_out: For the validation on what `val_split` holds back: at native resolution.

    Raises:
        ConfigError: If the dataset cannot be found or used.
    """
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
    component: Component = getattr(config, section)
    source = build_source(component, section, held_out=held_out)
    try:
        return BaseDataLoader(
            *source,
            seed=config.seed,
            ignore_index=config.ignore_index,
            held_out=held_out,
            **settings,
        )
    except ValueError as error:
        raise ConfigError(f"{section} ({component.type})", [str(error)]) from error


def wants_class_weights(config: Config) -> bool:
    """Whether a loss of the config has `"class_weights": "auto"`."""
    return any(term.args.get("class_weights") == "auto" for term in config.loss)


def build_losses(
    config: Config, class_weights: Sequence[float] | None = None
) -> list[tuple[nn.Module, LossTerm]]:
    """Each loss of the config with its place and weight in the sum.

    Args:
        config: The checked config.
        class_weights: What `"auto"` stands for.
    """
    built = []
    for term in config.loss:
        args = dict(term.args)
        if args.get("class_weights") == "auto":
            args["class_weights"] = list(class_weights or ())
        plain = Component(term.type, args)
        loss = build(losses, plain, nn.Module, "loss", ignore_index=config.ignore_index)
        built.append((loss, term))
    return built


def build_optimizer(config: Config, model: BaseModel) -> torch.optim.Optimizer:
    """The optimizer over all parameters that train, in the groups that the section asks for.

    With `differential_lr` group 0 is the decoder at the full rate and group 1 the backbone at a
    tenth; a group without parameters is left out.

    Raises:
        ConfigError: If nothing is left to train, the backbone is not what the section takes it
            for, or the optimizer refuses a parameter.
    """
    section = config.optimizer
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError("arch.args", ["every parameter is frozen; nothing is left to train"])
    _check_backbone(section, model)
    defaults = signature_of(getattr(torch.optim, section.type))
    if section.no_decay_norms_biases and not section.args.get(
        "weight_decay", defaults["weight_decay"].default
    ):
        logger.warning("optimizer.no_decay_norms_biases: has no effect, as weight_decay is 0")
    backbone_rate = section.backbone_rate
    if backbone_rate is None and section.differential_lr:
        backbone_rate = BACKBONE_RATE
    groups = parameter_groups(
        model,
        model.backbone_modules(),
        section.args.get("lr", defaults["lr"].default),
        backbone_rate=backbone_rate,
        layer_decay=section.layer_decay,
        no_decay=section.no_decay_norms_biases,
    )
    return build(torch.optim, section, torch.optim.Optimizer, "optimizer", params=groups)


def _check_backbone(section: OptimizerSection, model: BaseModel) -> None:
    name = type(model).__name__
    for key in ("backbone_rate", "layer_decay"):
        if getattr(section, key) is not None and not model.backbone_modules():
            raise ConfigError(f"optimizer.{key}", [f"{name} has no backbone; remove it"])
        if getattr(section, key) is not None and model.freeze_backbone:
            logger.warning("optimizer.%s: has no effect, as the backbone is frozen", key)
    if section.layer_decay is not None and len(backbone_layers(model.backbone_modules())) == 1:
        raise ConfigError(
            "optimizer.layer_decay",
            [f"the backbone of this {name} cannot be told into layers; use backbone_rate"],
        )
