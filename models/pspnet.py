"""PSPNet: context from pooling at four grid sizes."""

from typing import Annotated

import torch
from torch import Tensor, nn

from base.base_model import BaseModel
from models.backbones import DILATED
from models.convolution import conv_bn_relu
from models.layout import resize_like, upsample_logits
from models.pooling import AveragePool
from models.pretrained import load_pretrained
from models.resnet import ResNet
from models.timm_backbone import PREFIX, TimmBackbone
from utils.config.types import PositiveInt
from utils.logits.coarse_logits import Logits


class PyramidPooling(nn.Module):
    """Joins the features with their means over coarse grids.

    Args:
        bins: Grid sizes to pool at.
        out_channels: Channels of the output; a quarter of `in_channels` by default.
    """

    def __init__(
        self,
        in_channels: int,
        bins: tuple[int, ...] = (1, 2, 3, 6),
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        channels = in_channels // 4
        out_channels = out_channels or channels
        self.stages = nn.ModuleList(
            nn.Sequential(AveragePool(size), *conv_bn_relu(in_channels, channels)) for size in bins
        )
        joined = in_channels + channels * len(bins)
        self.bottleneck = nn.Sequential(*conv_bn_relu(joined, out_channels, 3), nn.Dropout2d(0.1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        pyramid = [features]
        for stage in self.stages:
            pooled = stage(features)  # (B, in_channels / 4, bins, bins)
            pyramid.append(resize_like(pooled, features, align_corners=True))
        return self.bottleneck(torch.cat(pyramid, dim=1))


class PSPNet(BaseModel):
    """Dilated backbone, pyramid pooling at 1, 2, 3 and 6 bins, one auxiliary head.

    Paper: Pyramid Scene Parsing Network, https://arxiv.org/abs/1612.01105

    Differs from the paper:
        - The backbone can also be resnet18 or resnet34, with one 7x7 convolution as stem, or a
          network of timm that can dilate instead of striding.
        - Dropout drops whole channels.

    Args:
        num_classes, in_channels, freeze_bn, freeze_backbone: As in `BaseModel`.
        backbone: A ResNet, resnet18 to resnet152, or `timm/` and a name of timm's.
        pretrained: ImageNet weights for the backbone: true downloads them, a path reads a file.
        use_aux: Return auxiliary logits in training; without, their head stays, untrained.

    Raises:
        ValueError: If `backbone` is not known or cannot have an output stride of 8, or its weights
            cannot be downloaded or read.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: PositiveInt = 3,
        backbone: Annotated[str, DILATED] = "resnet152",
        pretrained: bool | str = True,
        use_aux: bool = True,
        freeze_bn: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn, freeze_backbone)
        self.use_aux = use_aux

        # Backbone, at an output stride of 8
        self.backbone: TimmBackbone | None = None
        trunk: TimmBackbone | ResNet
        if backbone.startswith(PREFIX):
            trunk = self.backbone = TimmBackbone(
                backbone.removeprefix(PREFIX),
                in_channels=in_channels,
                output_stride=8,
                pretrained=pretrained,
            )
        else:
            deep_stem = backbone not in ("resnet18", "resnet34")
            trunk = ResNet(backbone, in_channels=in_channels, output_stride=8, deep_stem=deep_stem)
            self.initial = trunk.stem()
            self.layer1 = trunk.layer1
            self.layer2 = trunk.layer2
            self.layer3 = trunk.layer3
            self.layer4 = trunk.layer4

        # Heads: pyramid pooling, and the auxiliary one on layer3
        aux_channels, channels = trunk.channels[2:]
        classifier = nn.Conv2d(channels // 4, num_classes, 1)
        self.master_branch = nn.Sequential(PyramidPooling(channels), classifier)
        aux_classifier = nn.Conv2d(aux_channels // 2, num_classes, 1)
        self.auxiliary_branch = nn.Sequential(
            *conv_bn_relu(aux_channels, aux_channels // 2, 3), nn.Dropout2d(0.1), aux_classifier
        )

        # Weights
        self.initialise_weights([classifier, aux_classifier], keep=self.backbone)
        if isinstance(trunk, ResNet):
            load_pretrained(trunk, trunk.weights_name, pretrained)
        # Trainable weights that never get a gradient would stop a run on several processes.
        self.auxiliary_branch.requires_grad_(use_aux)
        self.apply_freezing()

    def backbone_modules(self) -> list[nn.Module]:
        """Return the network of timm, or the ResNet."""
        if self.backbone is not None:
            return [self.backbone]
        return [self.initial, self.layer1, self.layer2, self.layer3, self.layer4]

    def classifier_modules(self) -> list[nn.Module]:
        """Return the last convolution of each head."""
        return [self.master_branch[-1], self.auxiliary_branch[-1]]

    def forward(self, images: Tensor) -> Logits | tuple[Logits, Logits]:
        """Return logits (B, K, H, W); in training with `use_aux`, auxiliary ones as well."""
        self.check_images(images)
        self.check_batch(images)  # the 1x1 pooling leaves one value per image

        # Backbone: (B, C3, h, w) and (B, C4, h, w), where h is ceil(H / 8)
        if self.backbone is not None:
            middle, deep = self.backbone(images)[2:]
        else:
            stride8 = self.layer2(self.layer1(self.initial(images)))
            middle = self.layer3(stride8)
            deep = self.layer4(middle)

        # Heads: (B, K, h, w), then upsampled
        logits = upsample_logits(self, self.master_branch(deep), images)
        if not (self.training and self.use_aux):
            return logits
        return logits, upsample_logits(self, self.auxiliary_branch(middle), images)
