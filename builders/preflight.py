"""Refuse what does not fit together, before training begins."""

import logging

import torch
from torch import nn

from base.base_dataloader import BaseDataLoader
from base.base_model import BaseModel
from base.compatibility import check_same, ignored_class, statistics_warning
from base.micro_batches import micro_batches
from utils import losses
from utils.config.errors import ConfigError
from utils.config.sections import Config
from utils.distributed.collectives import world_size
from utils.distributed.sync_batch_norm import is_synchronised
from utils.out_of_memory import is_out_of_memory
from utils.samples.normalize import normalize
from utils.snapshot import StateSnapshot

logger = logging.getLogger(__name__)


def dry_run(
    model: BaseModel,
    loss_modules: list[nn.Module],
    loader: BaseDataLoader,
    device: torch.device,
    accumulation_steps: int = 1,
) -> bool:
    """Forward two images in training mode, and put everything back as it was.

    What model, images and losses cannot agree on is found here, before a folder is made.

    Returns:
        Whether some parameters get no gradient; False in a single process, which need not know.

    Raises:
        ValueError: If they do not fit together.
    """
    sample = loader.first_sample()
    channels = sample.image.shape[-1]
    if model.in_channels != channels:
        raise ValueError(
            f"arch.args.in_channels: {model.in_channels}, but the images have {channels} "
            "channels; leave it out to take it from them"
        )

    # Batch: one image where a micro-batch of a rank has no more, else two
    size = loader.batches.batch_size // accumulation_steps
    count = min(size if is_synchronised(model) else size // world_size(), 2)
    images = torch.from_numpy(sample.image).to(device).expand(count, -1, -1, -1)
    labels = torch.from_numpy(sample.label).to(device).long().expand(count, -1, -1)
    for loss in loss_modules:
        loss.to(device)
    snapshot = StateSnapshot(model, loss_modules)

    # Forward
    devices = [device] if device.type == "cuda" else []
    several = world_size() > 1
    with torch.set_grad_enabled(several), torch.random.fork_rng(devices=devices):
        try:
            outputs = model.train()(normalize(images, loader.source.mean, loader.source.std))
        except ValueError as error:
            fewer = "; or fewer trainer.accumulation_steps" * (accumulation_steps > 1)
            raise ValueError(f"{error}{fewer}") from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise ValueError(
                f"out of memory with {count} images; use a smaller crop_size or model"
            ) from None

        # Losses
        logits = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
        _try_losses(loss_modules, logits.detach(), labels)
        snapshot.restore()
        return several and _leaves_out(model, outputs)


def _try_losses(modules: list[nn.Module], logits: torch.Tensor, labels: torch.Tensor) -> None:
    for index, loss in enumerate(modules):
        try:
            loss.train()(logits, labels)
        except ValueError as error:
            where = f"loss.{index}" if len(modules) > 1 else "loss"
            raise ValueError(f"{where}.args.{error}") from error


def _leaves_out(model: BaseModel, outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> bool:
    """Return whether a trainable parameter has no part in the outputs."""
    heads = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    torch.stack([logits.sum() for logits in heads]).sum().backward()
    found = any(p.requires_grad and p.grad is None for p in model.parameters())
    model.zero_grad(set_to_none=True)
    return found


def check_settings(config: Config, loader: BaseDataLoader) -> None:
    """Refuse settings that do not fit the training images.

    Raises:
        ConfigError: If they do not fit.
    """
    classes, problems = len(loader.source.classes), []
    for name in ("binary", "threshold"):
        if getattr(config, name) and classes != 2:
            problems.append(f"{name}: needs two classes, but there are {classes}; remove it")
    if config.threshold == "search" and not config.trainer.val:
        problems.append('threshold: "search" needs a validation; give a number, or set trainer.val')

    # Micro-batches
    batch, steps = loader.batches.batch_size, config.trainer.accumulation_steps
    if batch % steps:
        fits = ", ".join(str(n) for n in range(2, batch + 1) if batch % n == 0)
        problems.append(
            f"trainer.accumulation_steps: a batch of {batch} cannot be divided into {steps} equal "
            f"micro-batches; {'use ' + fits if fits else 'remove it'}"
        )
    elif not config.use_synch_bn:
        sizes = {loader.batches.size_of(0), loader.batches.size_of(len(loader) - 1)}
        slices = [rows for size in sizes for rows in micro_batches(size, batch // steps)]
        least = min(rows.stop - rows.start for rows in slices)
        if least < world_size():
            problems.append(
                f"use_synch_bn: {least} images cannot be normalised by {world_size()} processes "
                "each on its own; set it to true, or use fewer accumulation_steps, or drop_last"
            )
    if problems:
        raise ConfigError("config", problems)

    # Foreground
    weighs = any(getattr(losses, term.type).weighs_foreground for term in config.loss)
    if loader.source.has_foreground and not weighs:
        logger.warning("train_loader: its foreground is read, but no loss uses it")
    for term in config.loss:
        if "background_weight" in term.args and not loader.source.has_foreground:
            logger.warning(
                "loss.args.background_weight: has no effect, as the dataset has no foreground"
            )


def check_splits(
    train_loader: BaseDataLoader, val_loader: BaseDataLoader | None, ignore_index: int
) -> None:
    """Refuse a validation of other classes or another kind of images than the training.

    Raises:
        ValueError: If they differ.
    """
    names = train_loader.source.classes
    ignored = ignored_class(names, ignore_index)
    if ignored is not None:
        logger.warning(ignored)
    if val_loader is None:
        return
    train, val = train_loader.source, val_loader.source
    check_same(train, val)
    warning = statistics_warning(train, val, "val_loader")
    if warning is not None:
        logger.warning(warning)
