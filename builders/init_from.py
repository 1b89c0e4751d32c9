"""Start a training from the weights of another."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import tabulate
import torch
from torch import Tensor, nn

from base.base_model import BaseModel
from models.pretrained import adapt_first_layer
from utils.checkpoint.class_rows import class_axes, differ_in_classes, match_classes, take_rows
from utils.checkpoint.save_load import (
    CheckpointError,
    describe_misfit,
    evaluated_weights,
    load_checkpoint,
)
from utils.config.keys import value_at
from utils.samples.pairing import few

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class PartRow:
    """A row of the table: what was loaded of one part of a model."""

    name: str
    tensors: int = 0
    loaded: int = 0
    values: int = 0
    note: str = ""


@dataclasses.dataclass
class Rows:
    """Where the rows of a classifier come from."""

    as_they_are: bool = False  # all from the file, in its order
    # Else, for each class its index in the file, or None for a new row; empty where all are new.
    indices: list[int | None] = dataclasses.field(default_factory=list)
    note: str = ""  # for the table
    lines: list[str] = dataclasses.field(default_factory=list)  # which classes these are
    warning: str = ""  # what the user may not have meant

    @property
    def taken(self) -> bool:
        """Return whether some, or all in another order, are from the file."""
        return bool(self.indices)


@dataclasses.dataclass(frozen=True)
class Start:
    """Weights to start from; nothing else in the file, of whatever program, has to be right."""

    # By name; the names may be those of a program that `model.foreign_names` knows.
    weights: Mapping[str, Tensor]
    classes: Sequence[str] = ()  # the names of the classes; empty where the file does not tell
    arch: str = ""  # the name of the model, likewise


def load_start(path: str | Path) -> Start:
    """Read the weights to start from: a checkpoint, a state dict, or another program's file.

    Raises:
        CheckpointError: If the file cannot be read.
    """
    try:
        content = load_checkpoint(Path(path).expanduser())
        weights = evaluated_weights(content)
    except CheckpointError as error:
        raise CheckpointError(f"init_from: {error}") from error
    classes, arch = value_at(content, "meta.classes"), value_at(content, "config.arch.type")
    if not isinstance(classes, (list, tuple)) or not all(isinstance(one, str) for one in classes):
        classes = ()
    return Start(weights, classes, arch if isinstance(arch, str) else "")


def init_from(model: BaseModel, start: Start, classes: Sequence[str] = ()) -> str:
    """Fill a model with the weights of a checkpoint, whatever classes that was trained on.

    The classifier's rows go by the names of the classes, whatever their number and order; those of
    a class that the checkpoint does not have stay as they were. Where names are not known, it is
    loaded as it is, or left out if the checkpoint has another number of classes. The first layer is
    adapted if it has another number of channels. Everything else has to fit.

    Returns:
        A table: for each part of the model how many of its tensors were loaded, and why not all;
        and a line on the classes where they are not the same ones in the same order.

    Raises:
        CheckpointError: If the weights are of another model.
    """
    # Match the classes
    weights, optional = model.own_names(start.weights)
    own = model.state_dict()
    classifier = _classifier_of(model)
    keys = {key for key in own if key.startswith(tuple(f"{name}." for name in classifier))}
    expected = {key for key in keys if key in weights or not key.startswith(optional)}
    count = _classes_in_file(model, own, weights, expected)
    rows = _match(model.num_classes, count, classes, start.classes)
    replaced: set[str] = set()
    if rows.taken and count is not None:
        axes = class_axes(classifier, model.modules_over_classes())
        for key in keys & axes.keys() & weights.keys():
            if differ_in_classes(own[key], weights[key], axes[key], model.num_classes, count):
                weights[key] = take_rows(own[key], weights[key], axes[key], rows.indices, count)
    elif count is not None and not rows.as_they_are:
        replaced = keys

    # Check that all else fits
    adapted = _adapt_input(own, weights)
    wanted = {key: value for key, value in own.items() if key not in replaced}
    offered = {key: value for key, value in weights.items() if key not in replaced}
    misfit = describe_misfit(wanted, offered, optional)
    if misfit:
        name = type(model).__name__
        hint = f", but of the model {start.arch}" if start.arch not in ("", name) else ""
        raise CheckpointError(f"init_from: the weights are not of this {name}{hint}: {misfit}")
    _check_shared(own, offered)

    # Load
    model.load_state_dict(offered, strict=False)
    if rows.warning:
        logger.warning(rows.warning)
    notes = dict.fromkeys(keys & offered.keys(), rows.note)
    if replaced:
        notes = dict.fromkeys(replaced, _note_of_new(model.num_classes, count))
    if adapted:
        notes[adapted] = f"first layer adapted to {own[adapted].shape[1]} channels"
    return "\n".join([_table(own, offered, keys if rows.note else replaced, notes), *rows.lines])


def _note_of_new(classes: int, others: int | None) -> str:
    if classes == others:
        return "the classifier is new: other classes"
    return f"the classifier is new: {classes} classes, {others} in the file"


def _check_shared(own: Mapping[str, Tensor], offered: Mapping[str, Tensor]) -> None:
    """Refuse two different weights for one parameter: the first would be lost."""
    names: dict[int, str] = {}
    for key in (key for key in own if key in offered and own[key].numel()):
        first = names.setdefault(own[key].data_ptr(), key)
        if not torch.equal(offered[first], offered[key]):
            raise CheckpointError(
                f"init_from: {first} and {key} share a weight in this model and not in the file; "
                "leave out the legacy argument in arch.args"
            )


def _classifier_of(model: BaseModel) -> dict[str, nn.Module]:
    """Return the modules that depend on the classes, by name."""
    inside = {id(module) for module in model.classifier_modules()}
    return {name: module for name, module in model.named_modules() if id(module) in inside}


def _match(
    channels: int, other_channels: int | None, classes: Sequence[str], others: Sequence[str]
) -> Rows:
    """Return which rows of the file's classifier are for which class of the model.

    Args:
        channels: Output channels of the model.
        other_channels: Output channels of the file's model; None if more than the classes differ.
        classes: Names of the model's classes; of two there may be one channel.
        others: Names of the file's.
    """
    same_number = channels == other_channels
    if not classes or other_channels is None:  # not asked for, or to be refused
        return Rows(as_they_are=same_number)
    is_known = _are_names(classes, channels) and _are_names(others, other_channels)
    if list(classes) == list(others) and same_number:
        return Rows(as_they_are=True)
    if not is_known:
        line = "The names of the file's classes are not known: its classifier was loaded as it is"
        return Rows(as_they_are=same_number, lines=[line] if same_number else [])
    if 1 in (channels, other_channels):
        # One row says how much more it is the second class than the first.
        pair = ", ".join(others)
        return Rows(
            warning=f"init_from: the file's classes ({pair}) or their order differ from this "
            "model's, which has one output channel; the classifier is new"
            if same_number
            else ""
        )
    indices = match_classes(classes, others)
    if indices == list(range(other_channels)):
        return Rows(as_they_are=True)
    new = [name for name, index in zip(classes, indices, strict=True) if index is None]
    left = [name for index, name in enumerate(others) if index not in indices]
    if len(new) == len(classes):
        return Rows(
            warning=f"init_from: no class of this name is in the file, which has {few(left)}; the "
            "classifier is new"
        )
    taken = [name for name, index in zip(classes, indices, strict=True) if index is not None]
    lines = [f"Rows of the classifier from the file: {', '.join(taken)}"]
    lines += [f"new rows: {', '.join(new)}"] if new else []
    lines += [f"classes of the file without a row here: {', '.join(left)}"] if left else []
    note = f"rows of {len(taken)} of {len(classes)} classes, by name"
    return Rows(indices=indices, note=note, lines=["; ".join(lines)])


def _are_names(classes: Sequence[str], channels: int) -> bool:
    """Return whether the names are those of so many channels, and more than their numbers."""
    numbered = [f"class {number}" for number in range(len(classes))]
    return len(classes) == (2 if channels == 1 else channels) and list(classes) != numbered


def _adapt_input(own: Mapping[str, Tensor], weights: dict[str, Tensor]) -> str:
    """Give the first convolution the wanted number of channels, in place; return its name."""
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


def _table(
    own: Mapping[str, Tensor],
    loaded: Mapping[str, Tensor],
    classifier: set[str],
    notes: Mapping[str, str],
) -> str:
    """Return the table: a row a part, and one for each module of a classifier that is new."""
    parts: dict[str, PartRow] = {}
    for key, value in own.items():
        if key.endswith("num_batches_tracked"):
            continue
        name = ".".join(key.split(".")[: 2 if key.startswith("network.") else 1])
        if key in classifier:
            name = key.rpartition(".")[0]
        part = parts.setdefault(name, PartRow(name))
        part.tensors += 1
        part.values += value.numel()
        part.loaded += key in loaded
        part.note = notes.get(key, "") or part.note
        if key not in loaded:
            part.note = part.note or "not in the file"
    rows = [(p.name, p.tensors, p.loaded, f"{p.values:,}", p.note) for p in parts.values()]
    return tabulate.tabulate(
        rows,
        headers=["part", "tensors", "loaded", "values", ""],
        colalign=("left", "right", "right", "right", "left"),
    )


def _classes_in_file(
    model: BaseModel, own: Mapping[str, Tensor], weights: Mapping[str, Tensor], keys: set[str]
) -> int | None:
    """Return how many classes the file's classifier has; None if more than their number differs.

    Some heads have several channels for each class, so sizes are compared as multiples.
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
