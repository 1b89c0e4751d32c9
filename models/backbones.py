"""Dilated backbones that return a pyramid of features."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from base.base_model import BaseModel
from models.pretrained import load_pretrained
from models.resnet import RESNET_ALIAS, RESNETS, ResNet
from models.timm_backbone import PREFIX, TimmBackbone
from utils.config.types import Choices

DILATED = Choices(RESNETS, (PREFIX,), RESNET_ALIAS)
"""The names of dilated backbones. `ResNet` and `TimmBackbone` refuse all others."""

TORCHVISION_RESNET = (
    ("backbone.conv1.", "backbone.layer0.0."),
    ("backbone.bn1.", "backbone.layer0.1."),
    *((f"backbone.layer{number}.",) * 2 for number in range(1, 5)),
)
"""Pairs for a `NameMap`: torchvision's names of a backbone's weights, and ours."""


class ResNetStages(nn.Module):
    """A ResNet in five parts: its stem, and layer1 to layer4.

    Args:
        trunk: The network whose modules this one takes over.
        stem: The name of the stem, as older checkpoints have it: `layer0` or `initial`.
    """

    def __init__(self, trunk: ResNet, stem: str = "layer0") -> None:
        super().__init__()
        self.stem = stem
        self.weights_name = trunk.weights_name
        self.channels = trunk.channels
        self.add_module(stem, trunk.stem())
        self.layer1 = trunk.layer1
        self.layer2 = trunk.layer2
        self.layer3 = trunk.layer3
        self.layer4 = trunk.layer4

    def load(self, pretrained: bool | str) -> None:
        """Fill in ImageNet weights, see `load_pretrained()`.

        Raises:
            ValueError: If the weights cannot be downloaded or read.
        """
        names = ("layer1", "layer2", "layer3", "layer4")
        convolution, norm, *_ = self.get_submodule(self.stem).children()
        published = {"conv1": convolution, "bn1": norm}
        published |= {name: getattr(self, name) for name in names}
        load_pretrained(nn.ModuleDict(published), self.weights_name, pretrained)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (B, C, H, W) to four maps (B, channels[i], ceil(H / stride), ceil(W / stride))."""
        stride4 = self.layer1(self.get_submodule(self.stem)(images))
        stride8 = self.layer2(stride4)
        middle = self.layer3(stride8)
        return [stride4, stride8, middle, self.layer4(middle)]


def initialise(model: BaseModel, classifiers: Sequence[nn.Conv2d], pretrained: bool | str) -> None:
    """Draw the weights of a model anew and load its backbone's, which timm's network has already.

    Raises:
        ValueError: If the weights cannot be downloaded or read.
    """
    backbone: Any = model.get_submodule("backbone")
    if isinstance(backbone, TimmBackbone):
        model.initialise_weights(classifiers, keep=backbone)
    else:
        model.initialise_weights(classifiers)
        backbone.load(pretrained)


def dilated_backbone(
    name: str, *, in_channels: int, output_stride: int, pretrained: bool | str
) -> ResNetStages | TimmBackbone:
    """Return a network of timm with its weights, or a ResNet before `ResNetStages.load()`.

    Raises:
        ValueError: If timm's network cannot dilate, or its weights cannot be downloaded or read.
    """
    if name.startswith(PREFIX):
        return TimmBackbone(
            name.removeprefix(PREFIX),
            in_channels=in_channels,
            output_stride=output_stride,
            pretrained=pretrained,
        )
    return ResNetStages(ResNet(name, in_channels=in_channels, output_stride=output_stride))
