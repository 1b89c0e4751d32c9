"""One or several checkpoints as a predictor, ready to predict."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import nn

from prediction.exported.network import ExportedNetwork
from prediction.load_model import LoadedModel, Meta, load_model
from prediction.predictor.merge import Flip, Merge
from prediction.predictor.network import Predictor
from prediction.predictor.views import SCALES, Member
from utils.checkpoint.content import Checkpoint
from utils.cli.choices import DEFAULT_MODE
from utils.cli.launcher import launched_rank
from utils.devices import resolve_device
from utils.files.image_head import ExifRule
from utils.metrics.threshold import recorded_search
from utils.out_of_memory import is_out_of_memory
from utils.runs.last_score import LastScore, last_score

WITH_LOGITS = "export with --outputs ids,logits"


@dataclasses.dataclass(frozen=True)
class Passes:
    """How often and how a model sees each pixel; see `Predictor`."""

    mode: str = DEFAULT_MODE
    scales: Sequence[float] = SCALES
    flip: Flip | None = None
    merge: Merge = "mean-logits"
    amp: str = "off"
    compile: bool = False  # whether the network goes through `torch.compile()`


class OpenedModel(NamedTuple):
    """A model that is ready to predict, what belongs to it, and how it was scored last."""

    predictor: Predictor
    meta: Meta
    score: LastScore | None  # None also for several models
    has_scores: bool = True  # whether it says how sure it is; an exported file may give ids alone


def open_model(
    paths: Sequence[str],
    passes: Passes | None = None,
    *,
    weights: Sequence[float] = (),
    device: str | None = None,
    config: str | None = None,
    exif: ExifRule | None = None,
) -> OpenedModel:
    """Load one checkpoint, or several of the same classes as an ensemble.

    Args:
        paths: The files.
        passes: How the models see an image; None for the defaults.
        weights: How much each model counts; none for all alike.
        device: `cpu`, `cuda` or the number of a GPU; None for a GPU if there is one.
        config: The training's config, for a file of bare weights.
        exif: Whether the EXIF orientation is applied; None: as in training.

    Raises:
        ValueError: If a checkpoint, the config or the device cannot be used, or the models do not
            fit together.
    """
    passes = passes or Passes()
    if weights and len(weights) != len(paths):
        raise ValueError(f"--ensemble-weights: {len(weights)} weights for {len(paths)} models")
    if weights and passes.merge == "max":
        raise ValueError("--ensemble-weights: --merge max takes the largest probability, unweighed")
    chosen = resolve_device(device)
    loaded = [_load(path, chosen, config, passes) for path in paths]
    _check_alike(paths, [each.meta for each in loaded])
    members = [
        Member(_compiled(each.model, passes), *each.statistics, weight)
        for each, weight in zip(loaded, weights or [1.0] * len(paths), strict=True)
    ]
    _, meta, checkpoint = loaded[0]
    if len(paths) == 1:
        _note_threshold(checkpoint, meta, passes.mode)
    else:
        meta = dataclasses.replace(meta, threshold=None)  # it was searched for one model alone
    if exif is not None:
        meta = dataclasses.replace(meta, exif=exif)
    first = members[0]
    predictor = Predictor(
        first.model,
        first.mean,
        first.std,
        chosen,
        mode=passes.mode,
        scales=passes.scales,
        flip=passes.flip,
        merge=passes.merge,
        others=members[1:],
        weight=first.weight,
        amp=passes.amp,
    )
    score = last_score(checkpoint, paths[0]) if len(paths) == 1 else None
    networks = [each.model for each in loaded]
    has_scores = all(not isinstance(n, ExportedNetwork) or n.has_scores for n in networks)
    if not has_scores and len(paths) > 1:
        raise ValueError("--model: files that give class ids alone are no ensemble; " + WITH_LOGITS)
    return OpenedModel(predictor, meta, score, has_scores)


def _load(path: str, device: torch.device, config: str | None, passes: Passes) -> LoadedModel:
    try:
        loaded = load_model(path, device, config)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"--device: the model does not fit into the memory of {device}; try cpu"
        ) from None
    meta = loaded.meta
    if meta.band_rule is None and meta.channels != 3:
        raise ValueError(
            f"{path} is for images of {meta.channels} channels and does not say how they are read"
        )
    if isinstance(loaded.model, ExportedNetwork):
        _check_passes(path, loaded.model, passes)
    return loaded


def _check_passes(path: str, network: ExportedNetwork, passes: Passes) -> None:
    """Refuse what an exported file cannot do.

    Raises:
        ValueError: If something of `passes` is not for it.
    """
    if passes.amp != "off" or passes.compile:
        option = "--compile" if passes.compile else f"--amp {passes.amp}"
        raise ValueError(f"{option}: {path} is exported, and computes as it was exported")
    if not network.has_scores and (passes.mode != "whole" or passes.flip not in (None, "none")):
        raise ValueError(
            f"{path} gives class ids alone, which cannot be averaged: use --mode whole without "
            f"--flip, or {WITH_LOGITS}"
        )


def _compiled(model: nn.Module, passes: Passes) -> nn.Module:
    if not passes.compile:
        return model
    return cast(nn.Module, torch.compile(model, dynamic=True))


def _check_alike(paths: Sequence[str], metas: Sequence[Meta]) -> None:
    """Refuse models of other classes or other images than the first one's."""
    first = metas[0]
    for path, meta in zip(paths[1:], metas[1:], strict=True):
        if meta.classes != first.classes:
            different = [
                f"{number}: {one!r} and {other!r}"
                for number, (one, other) in enumerate(
                    zip(first.classes, meta.classes, strict=False)
                )
                if one != other
            ]
            raise ValueError(
                f"--model: {paths[0]} has {len(first.classes)} classes and {path} has "
                f"{len(meta.classes)}; models of an ensemble have the same classes in one order"
                + (f" (class {different[0]})" if different else "")
            )
        if (meta.channels, meta.band_rule) != (first.channels, first.band_rule):
            raise ValueError(
                f"--model: {path} reads its images otherwise than {paths[0]}; models of an "
                "ensemble take the same bands of the same type"
            )


def _note_threshold(checkpoint: Checkpoint, meta: Meta, mode: str) -> None:
    """Say that a threshold was found in another mode."""
    searched = recorded_search(checkpoint.meta).get("mode", mode)
    if searched != mode and not launched_rank():
        print(
            f"note: the threshold {meta.threshold:.4g} was chosen in mode {searched}; in mode "
            f"{mode} another may be best",
            file=sys.stderr,
        )
