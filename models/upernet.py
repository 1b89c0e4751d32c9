"""UPerNet: pyramid pooling of the deepest features, and a feature pyramid of all maps."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from base.base_model import BaseModel
from models.backbones import DILATED, ResNetStages, initialise
from models.convolution import conv_bn_relu
from models.layout import resize_like, upsample_logits
from models.pspnet import PyramidPooling
from models.resnet import ResNet, usual_dilations
from models.timm_backbone import PREFIX, TimmBackbone
from utils.config.types import PositiveInt
from utils.logits.coarse_logits import Logits


class FeaturePyramid(nn.Module):
    """Adds deep features to the larger maps from top to bottom, and joins all maps.

    Paper: Feature Pyramid Networks for Object Detection, https://arxiv.org/abs/1612.03144

    Differs from the paper:
        - The maps are resized bilinearly, and joined into one.
        - The deepest map has no 3x3 convolution of its own.
        - The largest map has no 1x1 convolution if it has `channels` channels already.

    Args:
        in_channels: Channels of the maps, the largest map first.
        channels: Channels of each map in the pyramid, and of the output.
        legacy: Compute as older checkpoints need it: the map added to another one is its deeper
            neighbour before the sum, and all 3x3 convolutions share weights.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, *, legacy: bool = False) -> None:
        super().__init__()
        self.legacy = legacy
        self.keeps_first = in_channels[0] == channels
        projected = in_channels[1:] if self.keeps_first else in_channels
        self.conv1x1 = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in projected)
        smooth_convs = [nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels[:-1]]
        if legacy:
            smooth_convs = smooth_convs[:1] * len(smooth_convs)
        self.smooth_conv = nn.ModuleList(smooth_convs)
        self.conv_fusion = conv_bn_relu(len(in_channels) * channels, channels, 3)
        self.register_load_state_dict_pre_hook(refuse_legacy_weights)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map (B, in_channels[i], H_i, W_i) to (B, channels, H_0, W_0)."""
        # Lateral maps: (B, channels, H_i, W_i)
        laterals = list(maps[:1]) if self.keeps_first else []
        projected = maps[1:] if self.keeps_first else maps
        laterals += [conv(features) for conv, features in zip(self.conv1x1, projected, strict=True)]

        # Sums, from the deepest to the largest map
        pyramid = laterals[-1:]
        deeper = laterals[-1]
        for lateral, smooth in zip(laterals[-2::-1], list(self.smooth_conv)[::-1], strict=True):
            features = lateral + resize_like(deeper, lateral, align_corners=True)
            pyramid.append(smooth(features))
            deeper = lateral if self.legacy else features

        # Fusion at the largest map
        pyramid.reverse()
        largest = pyramid[0]
        resized = [resize_like(features, largest, align_corners=True) for features in pyramid]
        return self.conv_fusion(torch.cat(resized, dim=1))


def smooths_alike(weights: Mapping[str, Tensor], prefix: str) -> bool:
    """Return whether the 3x3 convolutions of a `FeaturePyramid` share weights, as they once did."""
    keys = [key for key in weights if re.fullmatch(rf"{prefix}smooth_conv\.\d+\.weight", key)]
    first, *others = [weights[key] for key in keys] or [torch.empty(0)]
    return bool(others) and all(torch.equal(first, other) for other in others)


def refuse_legacy_weights(
    pyramid: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *_: Any
) -> None:
    """Refuse the weights of an older checkpoint for a pyramid that computes something else.

    Raises:
        ValueError: If the 3x3 convolutions share weights, as in older checkpoints only, and the
            pyramid is not `legacy`.
    """
    assert isinstance(pyramid, FeaturePyramid)
    if smooths_alike(state_dict, prefix) and not pyramid.legacy:
        raise ValueError(
            "these weights are of an older UperNet, whose feature pyramid adds other maps: set "
            "legacy_fpn=true in arch.args"
        )


class UperNet(BaseModel):
    """Pyramid pooling at 1, 2, 4 and 6 bins, a feature pyramid, one segmentation head.

    Paper: Unified Perceptual Parsing for Scene Understanding, https://arxiv.org/abs/1807.10221

    Differs from the paper:
        - There is one head, for semantic segmentation; none for scenes, parts or materials.
        - The ResNets have an output stride of 16, with layer4 dilated, not of 32.
        - The pooling is at 1, 2, 4 and 6 bins, not at 1, 2, 3 and 6, and its output has as many
          channels as the deepest features.
        - The feature pyramid has one BatchNorm and ReLU, after the maps are joined.
        - The head is one 3x3 convolution.
        - There is no auxiliary head.
        - Every network of timm that has features at strides 4 to 32 can be the backbone.

    Args:
        num_classes, in_channels, freeze_bn, freeze_backbone: As in `BaseModel`.
        backbone: A ResNet, resnet18 to resnet152, or `timm/` and a name of timm's.
        pretrained: ImageNet weights for the backbone: true downloads them, a path reads a file.
        fpn_out: Channels of the feature pyramid.
        legacy_fpn: Build the feature pyramid as older checkpoints need it, see `FeaturePyramid`.

    Raises:
        ValueError: If `backbone` is not known or lacks one of the strides, its weights cannot be
            downloaded or read, or `fpn_out` is below 1.
    """

    legacy_args: ClassVar[dict[str, str]] = {"use_aux": "UperNet has no auxiliary output"}

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: PositiveInt = 3,
        backbone: Annotated[str, DILATED] = "resnet101",
        pretrained: bool | str = True,
        fpn_out: PositiveInt = 256,
        legacy_fpn: bool = False,
        freeze_bn: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn, freeze_backbone)
        if fpn_out < 1:
            raise ValueError(f"fpn_out must be at least 1, got {fpn_out}")

        # Backbone
        self.backbone: TimmBackbone | ResNetStages
        if backbone.startswith(PREFIX):
            self.backbone = TimmBackbone(
                backbone.removeprefix(PREFIX), in_channels=in_channels, pretrained=pretrained
            )
        else:
            trunk = ResNet(
                backbone,
                in_channels=in_channels,
                output_stride=16,
                dilations=usual_dilations(backbone, 16, halve_first=False),
            )
            self.backbone = ResNetStages(trunk, "initial")

        # Pyramid pooling, feature pyramid, head
        channels = self.backbone.channels
        # Upper-case names, because older checkpoints have them.
        self.PPN = PyramidPooling(channels[-1], bins=(1, 2, 4, 6), out_channels=channels[-1])
        self.FPN = FeaturePyramid(channels, fpn_out, legacy=legacy_fpn)
        self.head = nn.Conv2d(fpn_out, num_classes, 3, padding=1)

        initialise(self, [self.head], pretrained)
        self.apply_freezing()

    @classmethod
    def args_for(cls, args: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments for a checkpoint, whose weights tell the kind of the pyramid."""
        # The config decides; the weights are asked where it says nothing.
        return {"legacy_fpn": smooths_alike(weights, "FPN."), **super().args_for(args, weights)}

    def classifier_modules(self) -> list[nn.Module]:
        """Return the last convolution."""
        return [self.head]

    def forward(self, images: Tensor) -> Logits:
        """Return logits (B, K, H, W) of images (B, C, H, W)."""
        self.check_images(images)
        self.check_batch(images)  # the 1x1 pooling leaves one value per image

        # Backbone: four maps (B, C_i, h_i, w_i), the first of stride 4
        maps = self.backbone(images)

        # Pyramid pooling: (B, C_3, h_3, w_3)
        deepest = self.PPN(maps[-1])

        # Feature pyramid: (B, fpn_out, ceil(H / 4), ceil(W / 4))
        features = self.FPN([*maps[:-1], deepest])

        # Head: (B, K, ceil(H / 4), ceil(W / 4)), then upsampled
        return upsample_logits(self, self.head(features), images)
