"""Aligned Xception, the backbone of DeepLab V3+."""

import torch.nn.functional as F
from torch import Tensor, nn

from models.pretrained import load_pretrained

MIDDLE_BLOCKS = range(4, 20)


class SeparableConv(nn.Module):
    """A depthwise 3x3 convolution, BatchNorm, and a 1x1 convolution.

    Args:
        stride: Stride of the 3x3 convolution.
        dilation: Dilation of the 3x3 convolution.
    """

    def __init__(
        self, in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels,
            in_channels,
            3,
            stride,
            padding=dilation,
            dilation=dilation,
            groups=in_channels,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, ceil(H / stride), ceil(W / stride))."""
        return self.pointwise(self.bn(self.conv1(features)))


class XceptionBlock(nn.Module):
    """Three separable convolutions and a shortcut.

    Args:
        inner_channels: Channels after the first convolution.
        stride: Stride of the last convolution.
        dilation: Dilation of all three.
        rectify: Begin with a ReLU, before the shortcut.
    """

    def __init__(
        self,
        in_channels: int,
        inner_channels: int,
        channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        rectify: bool = True,
    ) -> None:
        super().__init__()
        self.rectify = rectify
        self.skip: nn.Conv2d | None = None
        self.skipbn: nn.BatchNorm2d | None = None
        if in_channels != channels:
            self.skip = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(channels)
        self.rep = nn.Sequential(
            # Stands for the ReLU, which published weights count.
            *([nn.Identity()] if rectify else []),
            SeparableConv(in_channels, inner_channels, dilation=dilation),
            nn.BatchNorm2d(inner_channels),
            nn.ReLU(inplace=True),
            SeparableConv(inner_channels, channels, dilation=dilation),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            SeparableConv(channels, channels, stride=stride, dilation=dilation),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, ceil(H / stride), ceil(W / stride))."""
        if self.rectify:
            features = F.relu(features)
        shortcut = features
        if self.skip is not None and self.skipbn is not None:
            shortcut = self.skipbn(self.skip(features))
        return self.rep(features) + shortcut


class Xception(nn.Module):
    """Separable convolutions throughout: an entry, 16 middle blocks and an exit.

    Papers: Xception: Deep Learning with Depthwise Separable Convolutions,
    https://arxiv.org/abs/1610.02357; aligned for dense prediction in Encoder-Decoder with Atrous
    Separable Convolution for Semantic Image Segmentation, https://arxiv.org/abs/1802.02611

    Differs from the papers:
        - No ReLU follows the second convolution, nor the 3x3 convolution inside a separable one.
        - A shortcut starts after the block's first ReLU, not before.

    Args:
        in_channels: Channels of the images.
        output_stride: 8 or 16.
    """

    weights_name = "xception"
    channels = (128, 2048)

    def __init__(self, *, in_channels: int = 3, output_stride: int = 16) -> None:
        super().__init__()
        dense = 16 // output_stride  # density of the deep features relative to a stride of 16
        self.conv1 = nn.Conv2d(in_channels, 32, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.block1 = XceptionBlock(64, 128, 128, stride=2, rectify=False)
        self.block2 = XceptionBlock(128, 256, 256, stride=2)
        self.block3 = XceptionBlock(256, 728, 728, stride=2 // dense)
        for number in MIDDLE_BLOCKS:
            self.add_module(f"block{number}", XceptionBlock(728, 728, 728, dilation=dense))
        self.block20 = XceptionBlock(728, 728, 1024, dilation=dense)
        self.conv3 = SeparableConv(1024, 1536, dilation=2 * dense)
        self.bn3 = nn.BatchNorm2d(1536)
        self.conv4 = SeparableConv(1536, 1536, dilation=2 * dense)
        self.bn4 = nn.BatchNorm2d(1536)
        self.conv5 = SeparableConv(1536, 2048, dilation=2 * dense)
        self.bn5 = nn.BatchNorm2d(2048)

    def load(self, pretrained: bool | str) -> None:
        """Fill in the ImageNet weights of the plain Xception, as far as they go.

        Raises:
            ValueError: If the weights cannot be downloaded or read.
        """
        load_pretrained(self, self.weights_name, pretrained, convert=from_plain)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (B, C, H, W) to (B, 128, ceil(H / 4), ceil(W / 4)) and (B, 2048, ...) at stride."""
        # Entry
        features = F.relu(self.bn1(self.conv1(images)))  # (B, 32, ceil(H / 2), ceil(W / 2))
        stride4 = self.block1(self.bn2(self.conv2(features)))  # (B, 128, ...)
        features = self.block3(self.block2(stride4))  # (B, 728, h, w) at the output stride

        # Middle: (B, 728, h, w)
        for number in MIDDLE_BLOCKS:
            features = self.get_submodule(f"block{number}")(features)

        # Exit: (B, 2048, h, w)
        features = F.relu(self.block20(features))
        features = F.relu(self.bn3(self.conv3(features)))
        features = F.relu(self.bn4(self.conv4(features)))
        return [stride4, F.relu(self.bn5(self.conv5(features)))]


def from_plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the plain Xception under the names of the aligned one.

    The plain one has eight middle blocks, the last of which also replaces the eight missing ones,
    and two convolutions at the exit, which become the first and the last of three.

    Args:
        weights: As published, where a 1x1 convolution can be a matrix (channels, in_channels).

    Returns:
        All weights; those without a counterpart keep their names.
    """
    if any(key.startswith("block20.") for key in weights):
        return dict(weights)  # of an aligned one already
    moved = {"block12": "block20", "conv4": "conv5", "bn4": "bn5"}
    result = {}
    for key, value in weights.items():
        part, dot, rest = key.partition(".")
        if key.endswith("pointwise.weight") and value.dim() == 2:
            value = value[:, :, None, None]
        copies = [f"block{number}" for number in range(11, 20)] if part == "block11" else []
        for name in copies or [moved.get(part, part)]:
            result[f"{name}{dot}{rest}"] = value
    return result
