"""Whether what stands in a checkpoint is what the program takes it for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import torch

from utils.checkpoint.save_load import CheckpointError
from utils.checkpoint.weights_file import is_dense
from utils.config.file import plain_problems
from utils.config.types import NonNegativeInt

_DIGEST = re.compile("[0-9a-f]{32}")


class _Meta(TypedDict, total=False):
    """What of `meta` is used beside that which `restore.Meta` checks."""

    threshold: float | None
    threshold_search: dict[str, str | float | None] | None
    class_weights: list[float] | None


class _Content(TypedDict, total=False):
    config: dict[str, Any] | None
    meta: _Meta | None
    epoch: NonNegativeInt
    monitor_best: float | None
    best_epoch: NonNegativeInt


class _State(TypedDict, total=False):
    """What a run goes on from; the inside of dicts is looked at by those whose state it is."""

    step: NonNegativeInt
    batch: NonNegativeInt
    progress: dict[str, Any] | None
    logs: dict[str, NonNegativeInt] | None
    optimizer: dict[str, Any] | None
    lr_scheduler: dict[str, Any] | None
    rng: dict[str, Any]


def _are_images(value: Any) -> bool:
    """Whether this is what `BaseTrainer` stores of the images; earlier versions stored nothing."""
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != {"train", "val", "best"}:
        return False
    sets, best = [value["train"], value["val"]], value["best"]
    # One number that stands for millions is not contiguous: what is, takes its place in the file.
    return (best is None or (isinstance(best, str) and bool(_DIGEST.fullmatch(best)))) and all(
        is_dense(one) and one.dtype == torch.int64 and one.dim() == 1 and one.is_contiguous()
        for one in sets
    )


def check_content(
    checkpoint: Mapping[str, Any], path: str | Path, *, resuming: bool = False
) -> None:
    """Hold a checkpoint against what the program stores in it.

    The config in it is held to the rules of a config file; what it names is looked at when it is
    built, as for a file.

    Args:
        checkpoint: What `load_checkpoint` returned.
        path: For messages.
        resuming: Also look at what a run goes on from.

    Raises:
        CheckpointError: If something has another type.
    """
    config = checkpoint.get("config")
    if config is not None and not isinstance(config, dict):
        raise CheckpointError(f"{path}: its config is damaged ({type(config).__name__}, not dict)")
    problems = plain_problems(config or {})
    if problems:
        raise CheckpointError(f"{path}: its config is damaged: {problems[0]}")
    problems = plain_problems(checkpoint.get("meta"))
    if problems:
        raise CheckpointError(f"{path}: what it says of its classes is wrong: {problems[0]}")
    if resuming and not _are_images(checkpoint.get("images")):
        raise CheckpointError(f"{path}: what it says of its images is damaged")
    for kind in (_Content, _State) if resuming else (_Content,):
        known = {key: checkpoint[key] for key in kind.__annotations__ if key in checkpoint}
        try:
            msgspec.convert(known, kind)
        except (msgspec.ValidationError, ValueError, AttributeError) as error:
            # The latter two come of broken text and of a tensor.
            text, _, where = str(error).partition(" - at `$.")
            what = "what it says of its classes" if where.startswith("meta") else "its content"
            raise CheckpointError(
                f"{path}: {what} is wrong: {where.rstrip('`') or 'checkpoint'}: {text}"
            ) from None
