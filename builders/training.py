"""From a config to all that a `Trainer` needs, held against each other."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from base.base_dataloader import BaseDataLoader
from base.base_model import BaseModel
from base.label_counts import count_labels
from builders.data import Loaders, describe_dataset
from builders.model import build_model
from builders.optimization import build_losses, build_optimizer, wants_class_weights
from builders.preflight import check_settings, check_splits, dry_run
from builders.resumable import check_resumable
from builders.trackers import check_trackers
from utils.checkpoint.content import Checkpoint
from utils.config.sections import Config, LossTerm
from utils.distributed.collectives import world_size
from utils.distributed.sync_batch_norm import synchronise
from utils.optim.schedule_driver import Schedule
from utils.optim.schedule_from_config import build_schedule
from utils.random_state import seed_everything
from utils.samples.class_weights import class_weights

logger = logging.getLogger(__name__)


class TrainingComponents(NamedTuple):
    """The objects of a training, under the names that `Trainer` takes."""

    model: BaseModel
    losses: list[tuple[nn.Module, LossTerm]]
    optimizer: torch.optim.Optimizer
    lr_scheduler: Schedule | None
    train_loader: BaseDataLoader
    val_loader: BaseDataLoader | None
    meta: dict[str, Any]
    find_unused_parameters: bool
    device: torch.device
    n_gpu: int = 1
    surveyed: Sequence[str] = ()


def build_training(
    config: Config, loaders: Loaders, device: torch.device, checkpoint: Checkpoint | None = None
) -> TrainingComponents:
    """Build model, losses, optimizer and schedule for the data; write nothing.

    Raises:
        ValueError: If something cannot be built, or does not fit the rest.
    """
    check_trackers(config.trainer.loggers)

    # Data
    for loader in loaders:
        if loader is not None:
            loader.first_sample()
    check_splits(*loaders, config.ignore_index)
    check_settings(config, loaders.train)
    meta = describe_training(config, loaders.train, checkpoint)
    if checkpoint is None:
        loaders.train.prepare(1)  # the first batches are loaded while the model is built

    # Model
    seed_everything(config.seed, deterministic=config.deterministic)
    model = build_model(config, loaders.train.source, checkpoint)
    if world_size() > 1 and config.use_synch_bn:
        synchronise(model, device)
    model.to(device).to(memory_format=torch.channels_last)
    if checkpoint is not None:
        check_resumable(model, checkpoint, config)

    # Losses, optimizer, schedule
    losses = build_losses(config, meta.get("class_weights"))
    modules = [loss for loss, _ in losses]
    unused = dry_run(model, modules, loaders.train, device, config.trainer.accumulation_steps)
    optimizer = build_optimizer(config, model)
    scheduler = build_schedule(config, optimizer, len(loaders.train))
    return TrainingComponents(model, losses, optimizer, scheduler, *loaders, meta, unused, device)


def describe_training(
    config: Config, loader: BaseDataLoader, checkpoint: Checkpoint | None
) -> dict[str, Any]:
    """Return the `meta` of checkpoints: what a prediction needs, and what was found in the data."""
    stored = {} if checkpoint is None else checkpoint.meta
    meta = {
        **describe_dataset(loader.source, config.ignore_index),
        "versions": versions(),
        "binary": config.binary,
        "threshold": stored.get("threshold") if config.threshold == "search" else config.threshold,
    }
    if config.threshold == "search" and "threshold_search" in stored:
        meta["threshold_search"] = stored["threshold_search"]
    if wants_class_weights(config):
        meta["class_weights"] = stored.get("class_weights") or class_weights(count_labels(loader))
        pairs = zip(loader.source.classes, meta["class_weights"], strict=True)
        logger.info("Class weights: %s.", ", ".join(f"{name} {value:g}" for name, value in pairs))
    return meta


def versions() -> dict[str, str]:
    """Return the versions that a checkpoint is written with."""
    return {"torch": str(torch.__version__), "format": "1"}
