"""ResNet trunks: plain or dilated, no classifier."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.convolution import conv_bn_relu
from utils.config.types import Choices


def conv3x3(in_channels: int, channels: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution without bias that divides the size by its stride."""
    return nn.Conv2d(
        in_channels, channels, 3, stride, padding=dilation, dilation=dilation, bias=False
    )


def projection(in_channels: int, channels: int, stride: int) -> nn.Sequential | None:
    """Return the projection of a shortcut to the shape of its block's output, None if it has it."""
    if stride == 1 and in_channels == channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Args:
        stride: Stride of the first convolution.
        dilation: Dilation of the first convolution.
        next_dilation: Dilation of the second convolution, as of the next block.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        next_dilation: int = 1,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride, dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, dilation=next_dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, channels, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
        shortcut = features if self.downsample is None else self.downsample(features)
        features = self.relu(self.bn1(self.conv1(features)))
        features = self.bn2(self.conv2(features))
        return self.relu(features + shortcut)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 convolutions, and a shortcut.

    Args:
        channels: Channels of the 3x3 convolution; the output has four times as many.
        stride: Stride of the 3x3 convolution.
        dilation: Dilation of the 3x3 convolution.
        next_dilation: Unused, as this block has one 3x3 convolution; both blocks take it.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        next_dilation: int = 1,
    ) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride, dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, out_channels, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, 4 * channels, H / stride, W / stride)."""
        shortcut = features if self.downsample is None else self.downsample(features)
        features = self.relu(self.bn1(self.conv1(features)))
        features = self.relu(self.bn2(self.conv2(features)))
        features = self.bn3(self.conv3(features))
        return self.relu(features + shortcut)


Block = type[BasicBlock] | type[Bottleneck]

VARIANTS: dict[str, tuple[Block, tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}
RESNETS = tuple(VARIANTS)
RESNET_ALIAS = (("resnet", "resnet101"),)  # as DeepLab programs with several backbones mean it
RESNET_NAMES = Choices(RESNETS, others=RESNET_ALIAS)


def variant(name: str) -> tuple[Block, tuple[int, int, int, int]]:
    """Return the block of a ResNet, and the number of blocks in layer1 to layer4.

    Raises:
        ValueError: If there is no such ResNet.
    """
    RESNET_NAMES.check(name, "backbone")
    return VARIANTS[name]


class ResNet(nn.Module):
    """The modules of a ResNet that segmentation needs, for a model to take over.

    Paper: Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385

    Differs from the paper:
        - resnet50, 101 and 152 have their stride in the 3x3 convolution, not in the first 1x1.
        - At an output stride below 32 the last stages keep their resolution and dilate instead.
        - With `deep_stem`, three 3x3 convolutions replace the 7x7.
        - There is no pooling and no classifier at the end.

    The modules have the names of the published weights: conv1, bn1, layer1 to layer4.

    Args:
        name: One of `RESNETS`.
        in_channels: Channels of the images.
        output_stride: Stride of layer4: 8, 16 or 32.
        deep_stem: Begin with three convolutions, the last of 128 channels.
        dilations: Dilations of each block of layer3 and layer4, instead of `usual_dilations()`.

    Raises:
        ValueError: If `name` is not a known ResNet, or `output_stride` is not 8, 16 or 32.
    """

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 3,
        output_stride: int = 32,
        deep_stem: bool = False,
        dilations: tuple[Sequence[int], Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        block, depths = variant(name)
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride}")
        self.weights_name = f"{name}s" if deep_stem else name  # as in `models/pretrained.py`
        self.conv1: nn.Module
        if deep_stem:
            stem_channels = 128
            self.conv1 = nn.Sequential(
                *conv_bn_relu(in_channels, 64, 3, stride=2),
                *conv_bn_relu(64, 64, 3),
                conv3x3(64, stem_channels),
            )
        else:
            stem_channels = 64
            self.conv1 = nn.Conv2d(in_channels, stem_channels, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)

        widths = [channels * block.expansion for channels in (64, 128, 256, 512)]
        self.channels = tuple(widths)  # of layer1 to layer4
        third, fourth = dilations or usual_dilations(name, output_stride)
        strides = (1 if output_stride == 8 else 2, 2 if output_stride == 32 else 1)
        self.layer1 = stage(block, stem_channels, 64, [1] * depths[0])
        self.layer2 = stage(block, widths[0], 128, [1] * depths[1], stride=2)
        self.layer3 = stage(block, widths[1], 256, third, stride=strides[0])
        self.layer4 = stage(block, widths[2], 512, fourth, stride=strides[1])

    def stem(self) -> nn.Sequential:
        """Return the modules before layer1 as one: (B, C, H, W) to (B, 64, H / 4, W / 4)."""
        return nn.Sequential(self.conv1, self.bn1, self.relu, self.maxpool)


def usual_dilations(
    name: str, output_stride: int, *, halve_first: bool = True
) -> tuple[list[int], list[int]]:
    """Return the dilation of each block of layer3 and layer4: doubled for each stride left out.

    Args:
        name: One of `RESNETS`.
        output_stride: 8, 16 or 32.
        halve_first: Give the first block of a stage the dilation of the stage before, against a
            grid pattern.
    """
    _, depths = variant(name)
    third, fourth = {8: (2, 4), 16: (1, 2), 32: (1, 1)}[output_stride]
    result = ([third] * depths[2], [fourth] * depths[3])
    if halve_first:
        result[0][0], result[1][0] = 1, third
    return result


def stage(
    block: Block, in_channels: int, channels: int, dilations: Sequence[int], *, stride: int = 1
) -> nn.Sequential:
    """Return a block for each of `dilations`, the first of them with the stride."""
    blocks: list[nn.Module] = []
    for index, dilation in enumerate(dilations):
        blocks.append(
            block(
                in_channels if index == 0 else channels * block.expansion,
                channels,
                stride=stride if index == 0 else 1,
                dilation=dilation,
                next_dilation=dilations[min(index + 1, len(dilations) - 1)],
            )
        )
    return nn.Sequential(*blocks)
