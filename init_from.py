"""Start a training from the weights of another."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tabulate
import torch
from torch import Tensor

from base.base_model import BaseModel
from models.pretrained import adapt_first_layer
from utils.checkpoint import (
    CheckpointError,
    describe_misfit,
    evaluated_weights,
    load_checkpoint,
)

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Part:
    """What became of one part of a model: a row of the table."""

    name: str
    tensors: int = 0
    loaded: int = 0
    values: int = 0
    note: str = ""


def load_start(path: str | Path) -> dict[str, Any]:
    """Read the checkpoint to start from.

    Args:
        path: A checkpoint of this program or of the ancestor, a bare state dict, or a file of
            another program.

    Raises:
        CheckpointError: If the file cannot be read.
    """
    try:
        return load_checkpoint(Path(path).expanduser())
    except CheckpointError as error:
        raise CheckpointError(f"init_from: {error}") from error


def init_from(model: BaseModel, checkpoint: Mapping[str, Any], classes: Sequence[str] = ()) -> str:
    """Fill a model with the weights of a checkpoint, whatever classes that was trained on.

    The classifier is left out, and stays as it was, if the checkpoint has another number of
    classes. The first layer is adapted if it has another number of channels. Everything else has to
    fit.

    Args:
        model: The model to fill, as its constructor made it.
        checkpoint: What `load_start()` returned; its weights may have the names of a program that
            `model.foreign_names` knows.
        classes: The names of the model's classes, to compare with those in the checkpoint.

    Returns:
        A table: for each part of the model how many of its tensors were loaded, and why not all.

    Raises:
        CheckpointError: If the weights are of another model.
    """
    weights, optional = model.own_names(evaluated_weights(checkpoint))
    own = model.state_dict()
    replaced = _classifier_keys(model, own, weights, optional)
    adapted = _adapt_input(own, weights)
    wanted = {key: value for key, value in own.items() if key not in replaced}
    offered = {key: value for key, value in weights.items() if key not in replaced}
    misfit = describe_misfit(wanted, offered, optional)
    if misfit:
        name = type(model).__name__
        stored = checkpoint.get("config")
        arch = stored.get("arch") if isinstance(stored, dict) else None
        other = arch.get("type") if isinstance(arch, dict) else None
        hint = f", but of the model {other}" if other not in (None, name) else ""
        raise CheckpointError(f"init_from: the weights are not of this {name}{hint}: {misfit}")
    _check_shared(own, offered)
    model.load_state_dict(offered, strict=False)
    if not replaced:
        _compare_classes(checkpoint, classes)
    return _table(model, own, offered, replaced, adapted, weights)


def _check_shared(own: Mapping[str, Tensor], offered: Mapping[str, Tensor]) -> None:
    """Refuse two different weights for one place, of which the first would be lost."""
    places: dict[int, str] = {}
    for key in (key for key in own if key in offered and own[key].numel()):
        first = places.setdefault(own[key].data_ptr(), key)
        if not torch.equal(offered[first], offered[key]):
            raise CheckpointError(
                f"init_from: {first} and {key} are one weight in this model and two in the file; "
                "leave out the legacy argument in arch.args"
            )


def _classifier_keys(
    model: BaseModel,
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    optional: tuple[str, ...],
) -> set[str]:
    """The names of the classifier's weights if they are of other classes, else none."""
    inside = {id(module) for module in model.classifier_modules()}
    prefixes = tuple(f"{key}." for key, m in model.named_modules() if id(m) in inside)
    keys = {key for key in own if key.startswith(prefixes)}
    expected = {key for key in keys if key in weights or not key.startswith(optional)}
    classes = _classes_in_file(model, own, weights, expected)
    return keys if classes not in (None, model.num_classes) else set()


def _adapt_input(own: Mapping[str, Tensor], weights: dict[str, Tensor]) -> str:
    """Give the first convolution the wanted number of channels, in place; returns its name."""
    for key, value in own.items():
        if value.dim() != 4:
            continue
        other = weights.get(key)
        if other is None or other.dim() != 4 or other.shape[1] == value.shape[1]:
            return ""
        if other.shape[0] != value.shape[0] or other.shape[2:] != value.shape[2:]:
            return ""
        weights[key] = adapt_first_layer(other, value.shape[1])
        return key
    return ""


def _compare_classes(checkpoint: Mapping[str, Any], classes: Sequence[str]) -> None:
    meta = checkpoint.get("meta")
    known = meta.get("classes") if isinstance(meta, dict) else None
    if classes and isinstance(known, (list, tuple)) and known and list(known) != list(classes):
        logger.warning(
            "init_from: the checkpoint has as many classes under other names; its classifier was "
            "loaded all the same"
        )


def _table(
    model: BaseModel,
    own: Mapping[str, Tensor],
    loaded: Mapping[str, Tensor],
    replaced: set[str],
    adapted: str,
    weights: Mapping[str, Tensor],
) -> str:
    parts: dict[str, Part] = {}
    for key, value in own.items():
        if key.endswith("num_batches_tracked"):
            continue
        name = ".".join(key.split(".")[: 2 if key.startswith("network.") else 1])
        if key in replaced:
            name = key.rpartition(".")[0]
        part = parts.setdefault(name, Part(name))
        part.tensors += 1
        part.values += value.numel()
        part.loaded += key in loaded
        if key in replaced:
            part.note = part.note or (
                f"the classifier is new: {model.num_classes} classes, "
                f"{_classes_in_file(model, own, weights, replaced & weights.keys())} in the file"
            )
        elif key == adapted:
            part.note = f"first layer adapted to {value.shape[1]} channels"
        elif key not in loaded:
            part.note = "not in the file"
    rows = [(p.name, p.tensors, p.loaded, f"{p.values:,}", p.note) for p in parts.values()]
    return tabulate.tabulate(
        rows,
        headers=["part", "tensors", "loaded", "values", ""],
        colalign=("left", "right", "right", "right", "left"),
    )


def _classes_in_file(
    model: BaseModel, own: Mapping[str, Tensor], weights: Mapping[str, Tensor], keys: set[str]
) -> int | None:
    """How many classes the file's classifier has; None if more than their number differs.

    Some heads have several channels for each class, so sizes count as multiples.
    """
    found = set()
    for key in keys:
        if key not in weights:
            if key.endswith("num_batches_tracked"):
                continue
            return None
        ours, theirs = own[key].shape, weights[key].shape
        if len(ours) != len(theirs):
            return None
        for mine, other in zip(ours, theirs, strict=True):
            if mine != other:
                found.add(other * model.num_classes / mine if mine % model.num_classes == 0 else 0)
    if not found:
        return model.num_classes
    count = found.pop()
    return int(count) if not found and count >= 1 and count == int(count) else None
