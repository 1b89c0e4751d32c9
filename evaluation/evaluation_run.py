"""A model, and the images that it is scored on."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from base.compatibility import check_same, statistics_warning
from evaluation.data import Data, open_data, read_tree
from prediction.load_model import Meta, load_model, read_model
from prediction.predictor.network import Predictor
from prediction.predictor.windows import WindowRule
from utils.checkpoint.content import Checkpoint
from utils.checkpoint.last import stamp_of
from utils.config.keys import value_at
from utils.metrics.threshold import recorded_search
from utils.runs.headings import describe_arch
from utils.samples.pairing import Sample

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EvaluationRun:
    """A model, and the images that it is scored on."""

    checkpoint: str  # the file of the model
    arch: str  # the name of the model
    predictor: Predictor  # predicts its logits
    meta: Meta  # the meaning of the logits
    data: Data  # the images
    # For two classes, the probability threshold for class 1; None: the more probable
    # class is predicted.
    threshold: float | None = None
    # The record of the search for the threshold, see `search_record()`; empty if there was none.
    searched: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    as_trained: bool = True  # whether the checkpoint's own config names these images
    monitored: bool = False  # whether this epoch was chosen by a metric of the validation images
    # What `stamp_of()` returned for the file before it was read.
    stamp: tuple[int, ...] | None = None
    run_name: str | None = None  # the name of the training; None if no config has it
    model: str = ""  # the architecture with its encoder

    @property
    def samples(self) -> list[Sample]:
        """The images of the split."""
        loader = self.data.loader
        return [loader.source.samples[index] for index in loader.batches.indices.tolist()]

    @property
    def num_classes(self) -> int:
        """The number of classes, K."""
        return len(self.meta.classes)


def open_run(
    path: str,
    device: torch.device,
    *,
    split: str,
    mode: str = "whole",
    window: int | None = None,
    amp: str = "off",
    config_path: str | None = None,
    overrides: Sequence[str] = (),
) -> EvaluationRun:
    """Load a checkpoint, open the images of a split, and check that they fit together.

    Args:
        path: The checkpoint.
        device: Where the model runs.
        split: Whose images are scored.
        mode: How the model sees an image; see `Predictor`.
        window: Images larger than this are cut into windows; None for none.
        amp: The precision of the network.
        config_path: A config whose loaders replace the checkpoint's.
        overrides: What `-o` says.

    Raises:
        ValueError: If checkpoint, config or data cannot be used, or do not fit together.
    """
    stamp = stamp_of(Path(path))
    checkpoint = read_model(path)
    tree, source = read_tree(checkpoint.config, path, config_path, overrides)
    # Only mode whole predicts images together; for the others one by one is the more even split.
    data = open_data(tree, source, split, one_by_one=mode != "whole" or window is not None)
    loaded = load_model(path, device, config_path, checkpoint)
    model, meta, _ = loaded
    _check_dataset(meta, data, path)
    trained = {**tree, **checkpoint.config}  # the training's own config wins
    name, arch = trained.get("name"), trained.get("arch")
    return EvaluationRun(
        checkpoint=path,
        arch=loaded.arch,
        predictor=Predictor(
            model,
            *loaded.statistics,
            device,
            mode=mode,
            amp=amp,
            window=None if window is None else WindowRule(window),
        ),
        meta=meta,
        data=data,
        threshold=meta.threshold,
        searched=recorded_search(checkpoint.meta),
        as_trained=tree[data.section] == checkpoint.config.get(data.section),
        monitored=_was_chosen(checkpoint),
        stamp=stamp,
        run_name=name if isinstance(name, str) else None,
        model=describe_arch(type(model), arch.get("args") if isinstance(arch, Mapping) else None),
    )


def _check_dataset(meta: Meta, data: Data, path: str) -> None:
    dataset = data.loader.source
    check_same(meta, dataset, (path, data.section))
    warning = statistics_warning(meta, dataset, data.section)
    if warning is not None:
        logger.warning(warning)


def _was_chosen(checkpoint: Checkpoint) -> bool:
    """Return whether a metric of the validation chose this epoch as the best of its training."""
    return (
        checkpoint.monitor_best is not None
        and value_at(checkpoint.config, "trainer.val", True)
        and checkpoint.best_epoch in (None, checkpoint.epoch)
    )
