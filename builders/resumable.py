"""Refuse to resume a checkpoint with other classes, another model, or another schedule."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from base.base_model import BaseModel
from utils.checkpoint.content import Checkpoint
from utils.checkpoint.save_load import describe_misfit
from utils.config.keys import value_at
from utils.config.sections import Config


class OtherClassesError(ValueError):
    """A run cannot go on, because its classes are not those of the checkpoint."""


def check_classes(checkpoint: Checkpoint, names: Sequence[str]) -> None:
    """Refuse a training on other classes than those of the run to be resumed.

    Raises:
        OtherClassesError: If their number, a name, or the order differs.
    """
    stored = checkpoint.meta.get("classes")
    if not isinstance(stored, (list, tuple)) or not stored or list(stored) == list(names):
        return
    said = []
    if len(stored) != len(names):
        said.append(f"train_loader has {len(names)} classes and the checkpoint {len(stored)}")
    pairs = enumerate(zip(stored, names, strict=False))
    said += [f"class {i} is {now!r} and was {old!r}" for i, (old, now) in pairs if now != old][:1]
    raise OtherClassesError("; ".join(said))


def check_resumable(model: BaseModel, checkpoint: Checkpoint, config: Config) -> None:
    """Refuse a checkpoint from which a run cannot go on with this model and this config.

    Raises:
        OtherClassesError: If the weights are of another number of classes.
        ValueError: If the weights are not this model's, or a setting of the schedule has changed
            that its state contains.
    """
    misfit = describe_misfit(model.state_dict(), checkpoint.state_dict)
    if misfit:
        if _differs_in_classifier(model, checkpoint.state_dict):  # an old one names no classes
            raise OtherClassesError(
                f"the checkpoint's classifier has another number of outputs: {misfit}"
            )
        raise ValueError(
            f"the checkpoint does not fit the model of the config (arch, classes): {misfit}"
        )
    _check_schedule(checkpoint.config, config.tree)


def _differs_in_classifier(model: BaseModel, weights: Mapping[str, torch.Tensor]) -> bool:
    """Return whether weights fit a model in everything but the classifier."""
    try:
        inside = {id(module) for module in model.classifier_modules()}
    except NotImplementedError:  # a model of the user's own
        return False
    heads = tuple(f"{name}." for name, module in model.named_modules() if id(module) in inside)
    own, other = (
        {key: value for key, value in tensors.items() if not key.startswith(heads)}
        for tensors in (model.state_dict(), weights)
    )
    return bool(heads) and not describe_misfit(own, other)


def _check_schedule(former: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse changes that a schedule of torch, whose state contains its settings, would ignore."""
    kinds = {value_at(tree, "lr_scheduler.type") for tree in (former, now)}
    kind = kinds.pop()
    if kinds or kind is None or not hasattr(torch.optim.lr_scheduler, kind):
        return
    changed = [
        path
        for path in ("lr_scheduler.args", "optimizer.args.lr")
        if (value_at(former, path) or None) != (value_at(now, path) or None)
    ]
    if changed:
        raise ValueError(
            f"{changed[0]}: {kind} keeps the settings of its checkpoint; leave it as it was, "
            "or begin a new run with init_from"
        )
