"""What does not fit together, before training begins."""

from __future__ import annotations

import logging

import torch
from torch import nn

from base.base_dataloader import BaseDataLoader
from base.base_model import BaseModel
from utils.normalize import normalize

logger = logging.getLogger(__name__)


def rehearse(
    model: BaseModel, losses: list[nn.Module], loader: BaseDataLoader, device: torch.device
) -> None:
    """One forward pass in training mode, after which everything is as it was.

    What model, pictures and losses cannot agree on is found here, before a folder is made.

    Raises:
        ValueError: If they do not fit together.
    """
    sample = loader.first_sample()
    count = min(loader.batches.batch_size, 2)
    images = torch.from_numpy(sample.image).to(device).expand(count, -1, -1, -1)
    labels = torch.from_numpy(sample.label).to(device).long().expand(count, -1, -1)
    channels = images.shape[-1]
    if model.in_channels != channels:
        raise ValueError(
            f"arch.args.in_channels: {model.in_channels}, but the pictures have {channels} "
            "channels; leave it out to take it from them"
        )
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        outputs = model.train()(normalize(images, loader.source.mean, loader.source.std))
        logits = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
        for loss in losses:
            try:
                loss.to(device)(logits, labels)
            except ValueError as error:
                raise ValueError(f"loss.args.{error}") from error
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


def check_classes(
    train_loader: BaseDataLoader, val_loader: BaseDataLoader | None, ignore_index: int
) -> None:
    """Training and validation have to speak of the same classes.

    Raises:
        ValueError: If they do not.
    """
    names = train_loader.source.classes
    if 0 <= ignore_index < len(names):
        logger.warning(
            "ignore_index: %d is the class %r, whose pixels will not count",
            ignore_index,
            names[ignore_index],
        )
    if val_loader is None:
        return
    train, val = (list(loader.source.classes) for loader in (train_loader, val_loader))
    if train != val:
        raise ValueError(
            f"train_loader has {len(train)} classes and val_loader {len(val)}, or their names "
            "differ; both have to be the same"
        )
