"""DeepLab V3+: atrous spatial pyramid pooling, and a decoder for sharp boundaries."""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from base.base_model import BaseModel
from models.aspp import ASPP, USUAL_DILATIONS
from models.backbones import ResNetStages, dilated_backbone, initialise
from models.convolution import conv_bn_relu
from models.drn import DRN
from models.layout import resize_like, upsample_logits
from models.mobilenetv2 import MobileNetV2
from models.resnet import RESNET_ALIAS, RESNETS, ResNet, usual_dilations
from models.timm_backbone import PREFIX, TimmBackbone
from models.xception import Xception
from utils.config.types import Choices, PositiveInt
from utils.logits.coarse_logits import Logits

BACKBONES = Choices(
    (*RESNETS, "xception", "mobilenet_v2", "drn"),
    (PREFIX,),
    (*RESNET_ALIAS, ("mobilenet", "mobilenet_v2")),
)

Backbone = ResNetStages | Xception | MobileNetV2 | DRN | TimmBackbone


class Decoder(nn.Module):
    """Joins the deep features with those of stride 4.

    Args:
        low_channels: Channels of the features of stride 4.
        channels: Channels of the deep features.
        classifier: The last convolution.
    """

    def __init__(self, low_channels: int, channels: int, classifier: nn.Conv2d) -> None:
        super().__init__()
        # Few channels, so that the deep features dominate.
        self.conv1 = nn.Conv2d(low_channels, 48, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(48)
        self.relu = nn.ReLU(inplace=True)
        self.output = nn.Sequential(
            *conv_bn_relu(48 + channels, 256, 3),
            *conv_bn_relu(256, 256, 3),
            nn.Dropout(0.1),
            classifier,
        )

    def forward(self, deep: Tensor, stride4: Tensor) -> Tensor:
        """Map (B, channels, h, w) and (B, low_channels, H / 4, W / 4) to (B, K, H / 4, W / 4)."""
        low = self.relu(self.bn1(self.conv1(stride4)))  # (B, 48, H / 4, W / 4)
        deep = resize_like(deep, low, align_corners=True)
        return self.output(torch.cat([low, deep], dim=1))


class DeepLab(BaseModel):
    """DeepLab V3+: context at several dilations, joined with features of stride 4.

    Paper: Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation,
    https://arxiv.org/abs/1802.02611

    Differs from the paper:
        - The convolutions of the pyramid pooling and of the decoder are plain, not separable.
        - With xception, the features of stride 4 are those of the first block, before their ReLU;
          see `Xception` for the differences inside it.
        - Dropout follows the pyramid pooling and precedes the classifier.
        - Every block of a dilated stage of a ResNet has the full dilation, the first one too, and
          there is no multi-grid.
        - The backbone can also be resnet18, 34 or 152, mobilenet_v2 with a decoder, drn (DRN-D-54)
          or a network of timm.

    Args:
        num_classes, in_channels, freeze_bn, freeze_backbone: As in `BaseModel`.
        backbone: A ResNet, resnet18 to resnet152, `xception`, `mobilenet_v2`, `drn`, or `timm/` and
            a name of timm's.
        pretrained: ImageNet weights for the backbone: true downloads them, a path reads a file.
            Those for `xception` are of another version of it and fill 89 % of it.
        output_stride: Ratio of the image size to that of the deepest features; 8 takes more time
            and memory than 16. `drn` has 8 only.

    Raises:
        ValueError: If `backbone` is not known or cannot have the output stride, or its weights
            cannot be downloaded or read.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: PositiveInt = 3,
        backbone: Annotated[str, BACKBONES] = "xception",
        pretrained: bool | str = True,
        output_stride: Literal[8, 16] = 16,
        freeze_bn: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn, freeze_backbone)
        BACKBONES.check(backbone, "backbone")
        if output_stride not in USUAL_DILATIONS:
            raise ValueError(f"output_stride must be 8 or 16, got {output_stride}")
        self.backbone = build_backbone(backbone, in_channels, output_stride, pretrained)
        self.ASSP = ASPP(self.backbone.channels[-1], USUAL_DILATIONS[output_stride])
        classifier = nn.Conv2d(256, num_classes, 1)
        self.decoder = Decoder(self.backbone.channels[0], 256, classifier)

        initialise(self, [classifier], pretrained)
        self.apply_freezing()

    def classifier_modules(self) -> list[nn.Module]:
        """Return the last convolution of the decoder."""
        return [self.decoder.output[-1]]

    def forward(self, images: Tensor) -> Logits:
        """Return logits (B, K, H, W) of images (B, C, H, W)."""
        self.check_images(images)
        self.check_batch(images)  # ASPP's mean is one value per channel and image

        # Backbone
        maps = self.backbone(images)
        stride4, deep = maps[0], maps[-1]  # (B, C4, ceil(H / 4), ceil(W / 4)), (B, C, h, w)

        # Context at several dilations: (B, 256, h, w)
        deep = self.ASSP(deep)

        # Decoder: (B, K, ceil(H / 4), ceil(W / 4)), then upsampled
        logits = self.decoder(deep, stride4)
        return upsample_logits(self, logits, images, align_corners=True)


def build_backbone(
    name: str, in_channels: int, output_stride: int, pretrained: bool | str
) -> Backbone:
    """Return a backbone, without its weights yet unless it is one of timm's.

    Raises:
        ValueError: If it cannot have the output stride, or timm's weights cannot be downloaded or
            read.
    """
    if name.startswith(PREFIX):
        return dilated_backbone(
            name, in_channels=in_channels, output_stride=output_stride, pretrained=pretrained
        )
    if name == "xception":
        return Xception(in_channels=in_channels, output_stride=output_stride)
    if name == "mobilenet_v2":
        return MobileNetV2(in_channels=in_channels, output_stride=output_stride)
    if name == "drn":
        if output_stride != DRN.output_stride:
            raise ValueError(
                f"backbone drn has an output stride of {DRN.output_stride} and no other: "
                f"set output_stride to {DRN.output_stride}, got {output_stride}"
            )
        return DRN(in_channels=in_channels)
    dilations = usual_dilations(name, output_stride, halve_first=False)
    trunk = ResNet(name, in_channels=in_channels, output_stride=output_stride, dilations=dilations)
    return ResNetStages(trunk)
