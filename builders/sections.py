"""The registry: what each config section may name."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

import dataloaders
import models
from base.base_dataloader import LoaderOptions
from base.base_dataset import BaseDataset
from base.base_model import BaseModel
from utils import losses, transforms
from utils.config.folder_section import CLASSES, folder_args
from utils.config.sections import OptimizerSection, SectionSpec
from utils.config.signatures import signature_of
from utils.config.values import converts
from utils.losses.base import SegmentationLoss
from utils.optim import lr_scheduler
from utils.optim import schedule_from_config as schedule_section
from utils.transforms.augmentation import Augmentation

MAX_NAME = 100  # characters of an encoder, in a message


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
    shared_args=(Augmentation, transforms, LoaderOptions),
    set_by_program=frozenset({"class_names", "channels"}),
    advice=_advise_loader,
)
_MODEL = SectionSpec(
    "model", models, BaseModel, set_by_program=frozenset({"num_classes"}), advice=_advise_model
)
_LOSS = SectionSpec(
    "loss",
    losses,
    SegmentationLoss,
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
