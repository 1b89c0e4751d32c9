"""Dilated ResNet trunks: output stride 8, no classifier."""

from typing import Literal

from torch import Tensor, nn

ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


def conv3x3(in_channels: int, channels: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps the size, but for its stride."""
    return nn.Conv2d(
        in_channels, channels, 3, stride, padding=dilation, dilation=dilation, bias=False
    )


def projection(in_channels: int, channels: int, stride: int) -> nn.Sequential | None:
    """What a shortcut needs to match its block's output: None where the shapes agree."""
    if stride == 1 and in_channels == channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        stride: Stride of the first convolution.
        dilation: Dilation of this block, that of the first convolution.
        stage_dilation: Dilation of the stage's other blocks, that of the second convolution.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        stage_dilation: int = 1,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride, dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, dilation=stage_dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, channels, stride)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
        shortcut = features if self.downsample is None else self.downsample(features)
        features = self.relu(self.bn1(self.conv1(features)))
        features = self.bn2(self.conv2(features))
        return self.relu(features + shortcut)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 convolutions, and a shortcut.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the 3x3 convolution; the output has four times as many.
        stride: Stride of the 3x3 convolution.
        dilation: Dilation of the 3x3 convolution.
        stage_dilation: Not used: this block has one 3x3 convolution. Keeps the blocks alike.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        stage_dilation: int = 1,
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
        """(B, in_channels, H, W) to (B, 4 * channels, H / stride, W / stride)."""
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


class ResNet(nn.Module):
    """The parts of a ResNet that segmentation needs, for a model to take over.

    Paper: Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385

    Differs from the paper:
        - layer3 and layer4 keep their stride at 8 and dilate instead, by 2 and 4. The first block
          of a stage has half that dilation, which spares the result a grid pattern.
        - resnet50, 101 and 152 begin with three 3x3 convolutions in place of one 7x7, and have
          their stride in the 3x3 convolution.
        - There is no pooling and no classifier at the end.

    The modules carry the names that published weights have: conv1, bn1, layer1 to layer4.

    Args:
        name: One of `VARIANTS`.
        in_channels: Channels of the images.

    Raises:
        ValueError: If `name` is not a known ResNet.
    """

    def __init__(self, name: ResNetName, *, in_channels: int = 3) -> None:
        super().__init__()
        if name not in VARIANTS:
            raise ValueError(f"no ResNet named {name!r}: choose one of {', '.join(VARIANTS)}")
        block, depths = VARIANTS[name]
        self.conv1: nn.Module
        if block is Bottleneck:
            stem_channels = 128
            self.conv1 = nn.Sequential(
                conv3x3(in_channels, 64, stride=2),
                nn.BatchNorm2d(64),
                nn.ReLU(inplace=True),
                conv3x3(64, 64),
                nn.BatchNorm2d(64),
                nn.ReLU(inplace=True),
                conv3x3(64, stem_channels),
            )
        else:
            stem_channels = 64
            self.conv1 = nn.Conv2d(in_channels, stem_channels, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)

        widths = [channels * block.expansion for channels in (64, 128, 256, 512)]
        self.stride8_channels = (widths[2], widths[3])  # of layer3 and layer4
        self.layer1 = stage(block, stem_channels, 64, depths[0])
        self.layer2 = stage(block, widths[0], 128, depths[1], stride=2)
        self.layer3 = stage(block, widths[1], 256, depths[2], dilation=2)
        self.layer4 = stage(block, widths[2], 512, depths[3], dilation=4)

    def stem(self) -> nn.Sequential:
        """The part before layer1 as one module: (B, C, H, W) to stride 4."""
        return nn.Sequential(self.conv1, self.bn1, self.relu, self.maxpool)


def stage(
    block: Block,
    in_channels: int,
    channels: int,
    depth: int,
    *,
    stride: int = 1,
    dilation: int = 1,
) -> nn.Sequential:
    """`depth` blocks in a row, of which the first has the stride and half the dilation."""
    first = block(
        in_channels,
        channels,
        stride=stride,
        dilation=max(dilation // 2, 1),
        stage_dilation=dilation,
    )
    others = [
        block(channels * block.expansion, channels, dilation=dilation, stage_dilation=dilation)
        for _ in range(depth - 1)
    ]
    return nn.Sequential(first, *others)
