"""A model, and the pictures that it is scored on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from evaluation.data import Data, check_dataset, open_data, read_tree
from restore import Meta, restore_from
from utils.checkpoint import load_checkpoint
from utils.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model, and the pictures that it is scored on.

    Args:
        checkpoint: The model's file.
        arch: The model's name.
        predictor: Gives its logits.
        meta: What they stand for.
        data: The pictures.
        threshold: Of two classes, the probability from which on a pixel is of the second; None:
            the more probable class is predicted.
        searched_on: The split that the threshold was chosen on, if it was.
    """

    checkpoint: str
    arch: str
    predictor: Predictor
    meta: Meta
    data: Data
    threshold: float | None = None
    searched_on: str | None = None

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.meta.classes)


def open_subject(
    path: str,
    device: torch.device,
    *,
    split: str,
    mode: str = "whole",
    config_path: str | None = None,
    overrides: Sequence[str] = (),
) -> Subject:
    """A checkpoint and the pictures of a split, held against each other.

    Args:
        path: The checkpoint.
        device: Where the model goes.
        split: One of `SPLITS`.
        mode: Of the prediction, see `Predictor`.
        config_path: A config whose loaders stand for those of the checkpoint's own.
        overrides: `key.path=value`.

    Raises:
        ValueError: If checkpoint, config or data cannot be used, or do not fit together.
    """
    checkpoint = load_checkpoint(path)
    tree, source = read_tree(checkpoint, path, config_path, overrides)
    data = open_data(tree, source, split)
    model, meta = restore_from(checkpoint, path, device, config_path)
    check_dataset(meta, data.loader.source, path, data.section)
    return Subject(
        checkpoint=path,
        arch=type(model).__name__,
        predictor=Predictor(model, meta.mean, meta.std, device, mode=mode),
        meta=meta,
        data=data,
        threshold=meta.threshold,
        searched_on=_searched_on(checkpoint),
    )


def _searched_on(checkpoint: Mapping[str, Any]) -> str | None:
    """The split whose labels have chosen the threshold, if any have."""
    record = (checkpoint.get("meta") or {}).get("threshold_search")
    if record is not None:
        split: str = record["split"]
        return split
    # Training chooses it on the pictures that it validates on.
    return "val" if (checkpoint.get("config") or {}).get("threshold") == "search" else None
