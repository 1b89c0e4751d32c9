"""GCN: large kernels at four resolutions, and boundary refinement in the decoder."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from base.base_model import BaseModel
from models.backbones import ResNetStages
from models.layout import crop, resize_like
from models.resnet import RESNET_NAMES, VARIANTS, Bottleneck, ResNet, projection, variant
from utils.config.types import PositiveInt


class GlobalConvolution(nn.Module):
    """A kernel of size x size as the sum of two pairs of narrow convolutions.

    Args:
        size: Side of the kernel; odd.
    """

    def __init__(self, in_channels: int, channels: int, size: int) -> None:
        super().__init__()
        margin = size // 2
        self.conv11 = nn.Conv2d(in_channels, channels, (size, 1), padding=(margin, 0))
        self.conv12 = nn.Conv2d(channels, channels, (1, size), padding=(0, margin))
        self.conv21 = nn.Conv2d(in_channels, channels, (1, size), padding=(0, margin))
        self.conv22 = nn.Conv2d(channels, channels, (size, 1), padding=(margin, 0))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H, W)."""
        return self.conv12(self.conv11(features)) + self.conv22(self.conv21(features))


class BoundaryRefinement(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    Args:
        channels: Channels of the input and of the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Unused, as in the paper; older checkpoints have the two BatchNorms.
        self.bn1 = nn.BatchNorm2d(channels).requires_grad_(False)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels).requires_grad_(False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, scores: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        return scores + self.conv2(self.relu(self.conv1(scores)))


class GlobalBlock(nn.Module):
    """A residual block with large kernels, in place of a bottleneck.

    It has 85 inner channels where the bottleneck has 256, and so about as many weights.

    Args:
        stride: Divisor of height and width.
    """

    size = 5

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        inner = channels * 85 // 1024
        self.branch1 = nn.Sequential(
            *self._narrow(in_channels, inner, stride, tall=True),
            *self._narrow(inner, inner, stride, tall=False),
        )
        self.branch2 = nn.Sequential(
            *self._narrow(in_channels, inner, stride, tall=False),
            *self._narrow(inner, inner, stride, tall=True),
        )
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, channels, stride)

    def _narrow(self, in_channels: int, channels: int, stride: int, *, tall: bool) -> nn.Sequential:
        """Return one convolution of a pair, with the stride along its kernel."""
        kernel, steps, padding = (self.size, 1), (stride, 1), (self.size // 2, 0)
        if not tall:
            kernel, steps, padding = kernel[::-1], steps[::-1], padding[::-1]
        return nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel, steps, padding, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, ceil(H / stride), ceil(W / stride))."""
        shortcut = features if self.downsample is None else self.downsample(features)
        features = self.branch1(features) + self.branch2(features)
        return self.relu(self.bn3(self.conv3(features)) + shortcut)


def global_stage(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    """Return `depth` blocks with large kernels, the first of them with a stride of 2."""
    first = GlobalBlock(in_channels, channels, stride=2)
    return nn.Sequential(first, *(GlobalBlock(channels, channels) for _ in range(depth - 1)))


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution that doubles height and width.

    Args:
        channels: Channels of the input and of the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 4, stride=2, padding=1, bias=False)

    def start_bilinear(self) -> None:
        """Set the weights to bilinear interpolation of each channel, as FCN does."""
        slope = torch.tensor([0.25, 0.75, 0.75, 0.25])
        nn.init.zeros_(self.weight)
        with torch.no_grad():
            self.weight.diagonal().copy_(torch.outer(slope, slope)[..., None])


class GCN(BaseModel):
    """Large separable kernels on every stage of a ResNet, boundary refinement after each step.

    Paper: Large Kernel Matters - Improve Semantic Segmentation by Global Convolutional Network,
    https://arxiv.org/abs/1703.02719

    Differs from the paper:
        - The kernels are 11x11 by default, not 15x15 or larger.
        - Scores are upsampled bilinearly, by 4 in the last step; with `use_deconv`, by transposed
          convolutions that always double, as in the paper.
        - A 1x1 convolution over the classes ends the network.
        - With `use_resnet_gcn`, only layer3 and layer4 have large kernels. The paper shows a
          block of layer3, with 85 inner channels; layer4 has twice as many.

    Args:
        num_classes, in_channels, freeze_bn, freeze_backbone: As in `BaseModel`.
        backbone: A ResNet, resnet18 to resnet152.
        pretrained: ImageNet weights for the backbone: true downloads them, a path reads a file.
        use_resnet_gcn: Build layer3 and layer4 of the backbone from large kernels instead of
            bottlenecks. There are no ImageNet weights for these blocks: with `pretrained` they keep
            their random values, and a warning says so.
        use_deconv: Upsample scores by transposed convolutions, which start as bilinear.
        num_filters: Side of the large kernels; odd.

    Raises:
        ValueError: If `backbone` is not known or has no bottlenecks for `use_resnet_gcn` to
            replace, `num_filters` is even or below 1, or the weights cannot be downloaded or read.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: PositiveInt = 3,
        backbone: Annotated[str, RESNET_NAMES] = "resnet50",
        pretrained: bool | str = True,
        use_resnet_gcn: bool = False,
        use_deconv: bool = False,
        num_filters: PositiveInt = 11,
        freeze_bn: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn, freeze_backbone)
        if use_resnet_gcn and variant(backbone)[0] is not Bottleneck:
            names = [name for name, (block, _) in VARIANTS.items() if block is Bottleneck]
            raise ValueError(
                f"use_resnet_gcn replaces bottlenecks, which {backbone} does not have: choose "
                f"{', '.join(names)}"
            )
        if num_filters < 1 or num_filters % 2 == 0:
            raise ValueError(f"num_filters must be odd and at least 1, got {num_filters}")

        # Backbone
        trunk = ResNet(backbone, in_channels=in_channels)
        widths = trunk.channels
        if use_resnet_gcn:
            trunk.layer3 = global_stage(widths[1], widths[2], len(trunk.layer3))
            trunk.layer4 = global_stage(widths[2], widths[3], len(trunk.layer4))
        self.use_deconv = use_deconv
        self.backbone = ResNetStages(trunk, "initial")

        # Scores of each stage: large kernels, then boundary refinement
        self.gcn1 = GlobalConvolution(widths[0], num_classes, num_filters)
        self.br1 = BoundaryRefinement(num_classes)
        self.gcn2 = GlobalConvolution(widths[1], num_classes, num_filters)
        self.br2 = BoundaryRefinement(num_classes)
        self.gcn3 = GlobalConvolution(widths[2], num_classes, num_filters)
        self.br3 = BoundaryRefinement(num_classes)
        self.gcn4 = GlobalConvolution(widths[3], num_classes, num_filters)
        self.br4 = BoundaryRefinement(num_classes)

        # Decoder: a refinement before and after each upsampling
        self.br5 = BoundaryRefinement(num_classes)
        self.br6 = BoundaryRefinement(num_classes)
        self.br7 = BoundaryRefinement(num_classes)
        self.br8 = BoundaryRefinement(num_classes)
        self.br9 = BoundaryRefinement(num_classes)
        if use_deconv:
            self.decov1 = Doubling(num_classes)  # the spelling of older checkpoints
            self.decov2 = Doubling(num_classes)
            self.decov3 = Doubling(num_classes)
            self.decov4 = Doubling(num_classes)
            self.decov5 = Doubling(num_classes)
        self.final_conv = nn.Conv2d(num_classes, num_classes, 1)

        # Weights
        self.initialise_weights([self.final_conv])
        for module in self.modules():
            if isinstance(module, Doubling):
                module.start_bilinear()
        self.backbone.load(pretrained)
        self.apply_freezing()

    def classifier_modules(self) -> list[nn.Module]:
        """Return all modules after the backbone, as they have a channel for each class."""
        return [module for module in self.children() if module is not self.backbone]

    def modules_over_classes(self) -> list[nn.Module]:
        """Return all of them except the first convolutions over features."""
        parts = self.classifier_modules()
        large = [part for part in parts if isinstance(part, GlobalConvolution)]
        first = {module for part in large for module in (part.conv11, part.conv21)}
        return [module for part in parts for module in part.modules() if module not in first]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W)."""
        self.check_images(images)
        self.check_batch(images, 32)

        # Backbone: four maps (B, C_i, ceil(H / stride), ceil(W / stride))
        features4, features8, features16, features32 = self.backbone(images)

        # Scores at every stride: (B, K, ceil(H / stride), ceil(W / stride))
        stride4 = self.br1(self.gcn1(features4))
        stride8 = self.br2(self.gcn2(features8))
        stride16 = self.br3(self.gcn3(features16))
        scores = self.br4(self.gcn4(features32))

        # Upsampling from stride 32 to (B, K, H, W)
        if self.use_deconv:
            scores = self.br5(stride16 + crop(self.decov1(scores), *stride16.shape[2:]))
            scores = self.br6(stride8 + crop(self.decov2(scores), *stride8.shape[2:]))
            scores = self.br7(stride4 + crop(self.decov3(scores), *stride4.shape[2:]))
            scores = self.br8(self.decov4(scores))
            scores = self.br9(crop(self.decov5(scores), *images.shape[2:]))
        else:
            scores = self.br5(stride16 + resize_like(scores, stride16, align_corners=True))
            scores = self.br6(stride8 + resize_like(scores, stride8, align_corners=True))
            scores = self.br7(stride4 + resize_like(scores, stride4, align_corners=True))
            scores = self.br8(scores)
            scores = F.interpolate(scores, images.shape[2:], mode="bilinear", align_corners=True)
            scores = self.br9(scores)
        return self.final_conv(scores)
