"""From the `arch` section of a config to the model of a training."""

import logging
from collections.abc import Mapping

from torch import Tensor

import models
from base.base_dataset import BaseDataset
from base.base_model import BaseModel
from builders.init_from import init_from, load_start
from utils.checkpoint.content import Checkpoint
from utils.config.build import build
from utils.config.sections import Component, Config
from utils.config.signatures import signature_of

logger = logging.getLogger(__name__)


def build_model(
    config: Config, dataset: BaseDataset, checkpoint: Checkpoint | None = None
) -> BaseModel:
    """Build the model for a dataset; a new run starts from the weights of `init_from`, if any.

    Raises:
        ValueError: If it cannot be built, or the weights of `init_from` are of another model.
    """
    start = None
    if checkpoint is None and config.init_from is not None:
        start = load_start(config.init_from)
    arch = with_channels(config.arch, dataset.channels)
    if checkpoint is not None:
        arch = arch_for(arch, checkpoint.state_dict)
    elif start is not None:
        arch = arch_for(arch, start.weights)
    num_classes = 1 if config.binary else len(dataset.classes)
    model = build(models, arch, BaseModel, "arch", num_classes=num_classes)
    if start is not None:
        table = init_from(model, start, dataset.classes)
        logger.info("Weights of %s:\n%s", config.init_from, table)
    return model


def arch_for(arch: Component, weights: Mapping[str, Tensor]) -> Component:
    """Return the model that weights of a checkpoint are of; see `BaseModel.args_for()`."""
    cls: type[BaseModel] = getattr(models, arch.type)
    return Component(arch.type, cls.args_for(arch.args, weights))


def with_channels(arch: Component, channels: int) -> Component:
    """Return the model with a first layer for so many channels, unless `in_channels` is given."""
    if channels == 3 or "in_channels" not in signature_of(getattr(models, arch.type)):
        return arch
    return Component(arch.type, {"in_channels": channels, **arch.args})
