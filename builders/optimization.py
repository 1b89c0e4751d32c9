"""From the `loss` and `optimizer` sections of a config to losses and optimizer."""

import logging
from collections.abc import Sequence

import torch
from torch import nn

from base.base_model import BaseModel
from utils import losses
from utils.config.build import build
from utils.config.errors import ConfigError
from utils.config.sections import Component, Config, LossTerm, OptimizerSection
from utils.config.signatures import signature_of
from utils.optim.param_groups import backbone_layers, parameter_groups

logger = logging.getLogger(__name__)

# differential_lr: the backbone's learning rate over the decoder's, as in pytorch-segmentation
BACKBONE_RATE = 0.1


def wants_class_weights(config: Config) -> bool:
    """Return whether a loss of the config has `"class_weights": "auto"`."""
    return any(term.args.get("class_weights") == "auto" for term in config.loss)


def build_losses(
    config: Config, class_weights: Sequence[float] | None = None
) -> list[tuple[nn.Module, LossTerm]]:
    """Build each loss, with `class_weights` for `"auto"`; return it with its section."""
    built = []
    for term in config.loss:
        args = dict(term.args)
        if args.get("class_weights") == "auto":
            args["class_weights"] = list(class_weights or ())
        plain = Component(term.type, args)
        loss = build(losses, plain, nn.Module, "loss", ignore_index=config.ignore_index)
        built.append((loss, term))
    return built


def build_optimizer(config: Config, model: BaseModel) -> torch.optim.Optimizer:
    """Build the optimizer over all trainable parameters, in the groups that the section asks for.

    With `differential_lr` group 0 is the decoder at the full rate and group 1 the backbone at a
    tenth of it; a group without parameters is left out.

    Raises:
        ConfigError: If nothing is left to train, the model has no such backbone, or the optimizer
            refuses a parameter.
    """
    section = config.optimizer
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError("arch.args", ["every parameter is frozen; nothing is left to train"])
    _check_backbone(section, model)
    defaults = signature_of(getattr(torch.optim, section.type))
    if section.no_decay_norms_biases and not section.args.get(
        "weight_decay", defaults["weight_decay"].default
    ):
        logger.warning("optimizer.no_decay_norms_biases: has no effect, as weight_decay is 0")
    backbone_rate = section.backbone_rate
    if backbone_rate is None and section.differential_lr:
        backbone_rate = BACKBONE_RATE
    groups = parameter_groups(
        model,
        model.backbone_modules(),
        section.args.get("lr", defaults["lr"].default),
        backbone_rate=backbone_rate,
        layer_decay=section.layer_decay,
        no_decay=section.no_decay_norms_biases,
    )
    return build(torch.optim, section, torch.optim.Optimizer, "optimizer", params=groups)


def _check_backbone(section: OptimizerSection, model: BaseModel) -> None:
    """Refuse settings of a backbone that the model does not have."""
    name = type(model).__name__
    for key in ("backbone_rate", "layer_decay"):
        if getattr(section, key) is not None and not model.backbone_modules():
            raise ConfigError(f"optimizer.{key}", [f"{name} has no backbone; remove it"])
        if getattr(section, key) is not None and model.freeze_backbone:
            logger.warning("optimizer.%s: has no effect, as the backbone is frozen", key)
    if section.layer_decay is not None and len(backbone_layers(model.backbone_modules())) == 1:
        raise ConfigError(
            "optimizer.layer_decay",
            [f"the backbone of this {name} cannot be divided into layers; use backbone_rate"],
        )
