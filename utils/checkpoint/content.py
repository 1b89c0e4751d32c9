"""A checkpoint as an object: read once, checked, and never changed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar

import msgspec
import torch
from torch import Tensor

from utils.checkpoint.save_load import CheckpointError, evaluated_weights, load_checkpoint
from utils.checkpoint.weights_file import is_dense
from utils.config.file import plain_problems
from utils.config.types import NonNegativeInt, PositiveInt

_DIGEST = re.compile("[0-9a-f]{32}")
# It becomes a part of file names and addresses.
_RunId = Annotated[str, msgspec.Meta(pattern=r"\A[\w-]{1,64}\Z")]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The content of a checkpoint of this program or of pytorch-segmentation, or bare weights."""

    state_dict: dict[str, Any]  # the weights of the model
    ema: dict[str, Any] | None = None  # the state of their moving average, if there is one
    config: dict[str, Any] = {}  # of the training; empty where the file has none
    # What a prediction needs beside the weights; empty where the file has none.
    meta: dict[str, Any] = {}
    epoch: NonNegativeInt | None = None  # finished epochs, if known
    # The best value of the monitored metric so far, if there is one.
    monitor_best: float | None = None
    best_epoch: NonNegativeInt | None = None  # the epoch that reached it, if known

    def evaluated_weights(self) -> dict[str, Tensor]:
        """Return the weights that validation saw: the moving average, or else the model's.

        Raises:
            CheckpointError: If the average is damaged.
        """
        return evaluated_weights({"state_dict": self.state_dict, "ema": self.ema})


class ResumePoint(Checkpoint, frozen=True, kw_only=True, eq=False):
    """A checkpoint that a run can go on from; pytorch-segmentation's lack most of the state."""

    epoch: NonNegativeInt  # finished epochs
    step: NonNegativeInt | None = None  # finished optimizer steps, if known
    batch: NonNegativeInt = 0  # finished batches of the epoch after those
    progress: dict[str, Any] | None = None  # what that epoch has added up so far
    logs: dict[str, NonNegativeInt] | None = None  # how long the files beside the checkpoint were
    loggers: dict[str, _RunId] = {}  # the ids of the run in Weights & Biases, MLflow, ...
    # The objects whose states these are check them when they load them.
    optimizer: dict[str, Any] | None = None
    lr_scheduler: dict[str, Any] | None = None  # the state of the schedule
    scaler: dict[str, Any] = {}  # the state of the loss scaling of fp16
    losses: list[dict[str, Any]] = []  # the state of each loss
    rng: dict[str, Any] | None = None  # the states of all random generators
    # Fingerprints of the images `train` and `val`, and the digest `best` of those that
    # `monitor_best` was measured on.
    images: dict[str, Any] | None = None
    bad_losses: NonNegativeInt = 0  # steps in a row, up to here, whose loss was not finite
    # Images that went through the network at once.
    micro_batch_size: PositiveInt | None = msgspec.field(default=None, name="part_size")


class _Meta(TypedDict, total=False):
    """The part of `meta` that is used beside what `prediction.load_model.Meta` checks."""

    threshold: float | None
    threshold_search: dict[str, str | float | None] | None
    class_weights: list[float] | None


class _HasMeta(TypedDict):
    meta: _Meta


C = TypeVar("C", bound=Checkpoint)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint and check what every program uses of it.

    Raises:
        CheckpointError: If the file cannot be read, or something in it has another type.
    """
    return as_checkpoint(load_checkpoint(path), path)


def as_checkpoint(content: Mapping[str, Any], path: str | Path) -> Checkpoint:
    """Check the content of a file; `path` names it in messages.

    The config is held to the rules of a config file; what it names is looked at when it is built,
    as for a file.

    Raises:
        CheckpointError: If something has another type.
    """
    return _converted(content, Checkpoint, path)


def as_resume_point(content: Mapping[str, Any], path: str | Path) -> ResumePoint:
    """Check the content of a file that a run goes on from; `path` names it in messages.

    Raises:
        CheckpointError: If something has another type, or there are weights only.
    """
    if content.get("epoch") is None:
        raise CheckpointError(f"{path}: contains weights only; there is no run to resume in it")
    if not _are_images(content.get("images")):
        raise CheckpointError(f"{path}: its images are damaged")
    return _converted(content, ResumePoint, path)


def _converted(content: Mapping[str, Any], kind: type[C], path: str | Path) -> C:
    config = content.get("config")
    if config is not None and not isinstance(config, dict):
        raise CheckpointError(f"{path}: its config is damaged ({type(config).__name__}, not dict)")
    problems = plain_problems(config or {})
    if problems:
        raise CheckpointError(f"{path}: its config is damaged: {problems[0]}")
    meta = content.get("meta")
    problems = ["it is empty"] if meta == {} else plain_problems(meta)
    if problems:
        raise CheckpointError(f"{path}: its meta data is wrong: {problems[0]}")
    fields = kind.__struct_encode_fields__
    known = {key: content[key] for key in fields if content.get(key) is not None}
    try:
        msgspec.convert({"meta": known.get("meta", {})}, _HasMeta)
        return msgspec.convert(known, kind)
    except (msgspec.ValidationError, ValueError, AttributeError) as error:
        # ValueError: text that is not Unicode. AttributeError: a tensor in place of plain data.
        text, _, where = str(error).partition(" - at `$.")
        what = "its meta data" if where.startswith("meta") else "its content"
        raise CheckpointError(
            f"{path}: {what} is wrong: {where.rstrip('`') or 'checkpoint'}: {text}"
        ) from None


def _are_images(value: Any) -> bool:
    """Return whether this is what `BaseTrainer` stores of images; earlier versions stored none."""
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != {"train", "val", "best"}:
        return False
    sets, best = [value["train"], value["val"]], value["best"]
    # An expanded tensor (stride 0) can claim millions of elements and store one; contiguous ones
    # are no larger than the file.
    return (best is None or (isinstance(best, str) and bool(_DIGEST.fullmatch(best)))) and all(
        is_dense(one) and one.dtype == torch.int64 and one.dim() == 1 and one.is_contiguous()
        for one in sets
    )
