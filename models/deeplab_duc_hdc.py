"""DeepLab with hybrid dilations and upsampling by convolutions."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from base.base_model import BaseModel
from models.aspp import ASPP
from models.backbones import ResNetStages
from models.convolution import conv_bn_relu
from models.layout import crop, keep_layout
from models.resnet import RESNET_NAMES, ResNet, variant
from utils.config.types import PositiveInt

ASPP_DILATIONS = (6, 12, 18, 24, 36)
"""Dilations at an output stride of 8; halved at 16."""


class DUC(nn.Module):
    """Dense upsampling convolution: every position predicts a square of factor x factor.

    Args:
        factor: Side of the square.
    """

    def __init__(self, in_channels: int, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(in_channels, channels * factor**2, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels * factor**2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, factor * H, factor * W), never below 0."""
        squares = self.relu(self.bn(self.conv(features)))
        return keep_layout(F.pixel_shuffle(squares, self.factor), features)


class Decoder(nn.Module):
    """Joins the deep features, upsampled by a convolution, with those of stride 4.

    Args:
        low_channels: Channels of the features of stride 4.
        channels: Channels of the deep features.
        factor: Ratio of the size of the features of stride 4 to that of the deep features.
        classifier: The last convolution.
    """

    def __init__(
        self, low_channels: int, channels: int, factor: int, classifier: nn.Conv2d
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(low_channels, 48, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(48)
        self.relu = nn.ReLU(inplace=True)
        self.DUC = DUC(channels, channels, factor)
        self.output = nn.Sequential(
            *conv_bn_relu(48 + channels, 256, 3),
            *conv_bn_relu(256, 256, 3),
            nn.Dropout(0.1),
            classifier,
        )

    def forward(self, deep: Tensor, stride4: Tensor) -> Tensor:
        """Map (B, channels, h, w) and (B, low_channels, H / 4, W / 4) to (B, K, H / 4, W / 4)."""
        low = self.relu(self.bn1(self.conv1(stride4)))  # (B, 48, H / 4, W / 4)
        # Odd sizes were rounded up in the backbone, so the last column or row can be too many.
        deep = crop(self.DUC(deep), *low.shape[2:])
        return self.output(torch.cat([low, deep], dim=1))


class DeepLab_DUC_HDC(BaseModel):
    """DeepLab with hybrid dilated convolution (HDC) and dense upsampling convolution (DUC).

    Paper: Understanding Convolution for Semantic Segmentation, https://arxiv.org/abs/1702.08502

    Differs from the paper:
        - The decoder is that of DeepLab V3+: features of stride 4 join in half-way, so there are
          two DUCs, up to stride 4 and from there to the image.
        - A DUC ends with BatchNorm and ReLU, the last one too: no logit is below 0.
        - The pyramid pooling is that of DeepLab V3, with more dilations.

    Args:
        num_classes, in_channels, freeze_bn, freeze_backbone: As in `BaseModel`.
        backbone: A ResNet, resnet18 to resnet152. Older checkpoints have resnet101.
        pretrained: ImageNet weights for the backbone: true downloads them, a path reads a file.
        output_stride: Ratio of the image size to that of the deepest features. At 16 instead of the
            paper's 8 every dilation is halved and the first DUC upsamples by 4 instead of 2, so
            that checkpoints of one do not fit the other.

    Raises:
        ValueError: If `backbone` or `output_stride` is not a choice, or the weights cannot be
            downloaded or read.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: PositiveInt = 3,
        backbone: Annotated[str, RESNET_NAMES] = "resnet101",
        pretrained: bool | str = True,
        output_stride: Literal[8, 16] = 8,
        freeze_bn: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn, freeze_backbone)
        if output_stride not in (8, 16):
            raise ValueError(f"output_stride must be 8 or 16, got {output_stride}")
        trunk = ResNet(
            backbone,
            in_channels=in_channels,
            output_stride=output_stride,
            dilations=hybrid_dilations(backbone, output_stride),
        )
        self.backbone = ResNetStages(trunk)
        dilations = [dilation * 8 // output_stride for dilation in ASPP_DILATIONS]
        self.ASSP = ASPP(self.backbone.channels[-1], dilations)
        classifier = nn.Conv2d(256, num_classes, 1)
        self.decoder = Decoder(self.backbone.channels[0], 256, output_stride // 4, classifier)
        self.DUC_out = DUC(num_classes, num_classes, 4)

        self.initialise_weights([])
        # The last BatchNorm undoes any scale before it, so it is what keeps the first logits small.
        nn.init.constant_(self.DUC_out.bn.weight, 0.1)
        self.backbone.load(pretrained)
        self.apply_freezing()

    def classifier_modules(self) -> list[nn.Module]:
        """Return the last convolution of the decoder, and the DUC after it."""
        return [self.decoder.output[-1], self.DUC_out]

    def modules_over_classes(self) -> list[nn.Module]:
        """Return the convolution that upsamples the logits."""
        return [self.DUC_out.conv]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W), none below 0, of images (B, C, H, W)."""
        self.check_images(images)
        self.check_batch(images)  # ASPP's mean is one value per channel and image

        # Backbone: (B, C4, ceil(H / 4), ceil(W / 4)) and (B, C, h, w)
        stride4, _, _, deep = self.backbone(images)

        # Context at several dilations: (B, 256, h, w)
        deep = self.ASSP(deep)

        # Decoder: (B, K, ceil(H / 4), ceil(W / 4)), then four times that size
        logits = self.decoder(deep, stride4)
        return crop(self.DUC_out(logits), *images.shape[2:])


def hybrid_dilations(name: str, output_stride: int) -> tuple[list[int], list[int]]:
    """Return the dilation of each block of layer3 and layer4: groups of three without gaps.

    Blocks that are left over have the middle dilation of a group, as in the paper.
    """
    groups = {8: ((1, 2, 3), (3, 4, 5)), 16: ((1, 1, 1), (1, 2, 3))}[output_stride]
    _, depths = variant(name)
    third, fourth = (
        [*group] * (depth // 3) + [group[1]] * (depth % 3)
        for group, depth in zip(groups, depths[2:], strict=True)
    )
    return third, fourth
