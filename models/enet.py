"""ENet: few channels, a large encoder, a small decoder."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from base.base_model import BaseModel
from models.layout import crop
from models.unpooling import unpool
from utils.config.types import PositiveInt

_NO_BACKBONE = "ENet has no backbone"

# The bottlenecks that keep the resolution, by the paper's numbers: 1.1 to 1.4, and 2.1 to 2.8 with
# their convolutions, which 3.1 to 3.8 repeat.
_FIRST = (11, 12, 13, 14)
_KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"dilation": 2},
    {"asymmetric": True},
    {"dilation": 4},
    {},
    {"dilation": 8},
    {"asymmetric": True},
    {"dilation": 16},
)
_SECOND = {10 * part + i: kind for part in (2, 3) for i, kind in enumerate(_KINDS, start=1)}


class InitialBlock(nn.Module):
    """A strided convolution beside a pooling of the image; odd sizes are rounded up.

    Args:
        in_channels: Channels of the images.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        # The paper's 16 channels in total, unless the image alone has as many.
        added = 16 - in_channels if in_channels < 16 else 13
        self.channels = in_channels + added
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.conv = nn.Conv2d(in_channels, added, 3, 2, padding=1)
        self.bn = nn.BatchNorm2d(self.channels)
        self.prelu = nn.PReLU(self.channels)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, channels, ceil(H / 2), ceil(W / 2))."""
        features = torch.cat([self.pool(images), self.conv(images)], dim=1)
        return self.prelu(self.bn(features))


class Bottleneck(nn.Module):
    """A convolution between two 1x1 convolutions, and a shortcut around them.

    Args:
        in_channels: Channels of the input; the middle has a quarter of them.
        dropout: Probability that a channel is dropped.
        stride: Stride and kernel size of the first convolution.
        dilation: Dilation of the second convolution, which is 3x3.
        asymmetric: Replace the 3x3 convolution by a 1x5 and a 5x1.
        activation: The class of the activations.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        dropout: float,
        stride: int = 1,
        dilation: int = 1,
        asymmetric: bool = False,
        activation: type[nn.Module] = nn.PReLU,
    ) -> None:
        super().__init__()
        inner = in_channels // 4
        self.conv1 = nn.Conv2d(in_channels, inner, stride, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.prelu1 = activation()
        self.conv2: nn.Module
        if asymmetric:
            self.conv2 = nn.Sequential(
                nn.Conv2d(inner, inner, (1, 5), padding=(0, 2)),
                nn.BatchNorm2d(inner),
                activation(),
                nn.Conv2d(inner, inner, (5, 1), padding=(2, 0)),
            )
        else:
            self.conv2 = nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.prelu2 = activation()
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.prelu3 = activation()
        self.dropout = nn.Dropout2d(dropout)
        self.prelu_out = activation()

    def branch(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H / stride, W / stride); no shortcut."""
        features = self.prelu1(self.bn1(self.conv1(features)))
        features = self.prelu2(self.bn2(self.conv2(features)))
        features = self.prelu3(self.bn3(self.conv3(features)))
        return self.dropout(features)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        return self.prelu_out(self.branch(features) + features)


class DownBottleneck(Bottleneck):
    """A bottleneck that halves the resolution, odd sizes rounded up, with pooling as shortcut.

    Args:
        channels: Channels of the output, more than of the input.
        dropout: Probability that a channel is dropped.
    """

    def __init__(self, in_channels: int, channels: int, *, dropout: float) -> None:
        super().__init__(in_channels, channels, dropout=dropout, stride=2)
        self.pool = nn.MaxPool2d(2, ceil_mode=True, return_indices=True)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Map (B, in_channels, H, W) to (B, channels, ceil(H / 2), ceil(W / 2)) and indices."""
        shortcut, indices = self.pool(features)
        # Odd sizes need one more row and column; the stride skips them in even sizes.
        features = self.branch(F.pad(features, (0, 1, 0, 1)))
        missing = features.shape[1] - shortcut.shape[1]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, missing))  # channels of zeros
        return self.prelu_out(features + shortcut), indices


class UpBottleneck(nn.Module):
    """A bottleneck that doubles the resolution, with unpooling as shortcut.

    Args:
        in_channels: Channels of the input; the middle has a quarter of them.
        dropout: Probability that a channel is dropped.
    """

    def __init__(self, in_channels: int, channels: int, *, dropout: float) -> None:
        super().__init__()
        inner = in_channels // 4
        # The spelling is that of older checkpoints.
        self.spatil_conv = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn_up = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.ConvTranspose2d(inner, inner, 3, 2, padding=1, output_padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout2d(dropout)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor, indices: Tensor, size: Sequence[int]) -> Tensor:
        """Map (B, in_channels, h, w) and indices (B, channels, h, w) to (B, channels, *size)."""
        shortcut = unpool(self.bn_up(self.spatil_conv(features)), indices, size)
        features = self.relu(self.bn1(self.conv1(features)))
        features = self.relu(self.bn2(crop(self.conv2(features), *size)))
        features = self.relu(self.bn3(self.conv3(features)))
        return self.relu(self.dropout(features) + shortcut)


class ENet(BaseModel):
    """Bottlenecks of at most 128 channels, dilated and asymmetric; two unpoolings.

    Paper: ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation,
    https://arxiv.org/abs/1606.02147

    Differs from the paper:
        - A branch ends with an activation before the shortcut is added.
        - The PReLUs of the bottlenecks have one slope for all channels.
        - Odd sizes are rounded up in the encoder and cropped in the decoder.
        - Images of 16 or more channels are joined with 13 channels of the first convolution.

    Args:
        num_classes, in_channels, freeze_bn: As in `BaseModel`.
    """

    legacy_args: ClassVar[dict[str, str]] = {
        "backbone": _NO_BACKBONE,
        "pretrained": "there are no pretrained weights for ENet",
        "freeze_backbone": _NO_BACKBONE,
        "use_aux": "ENet has no auxiliary output",
        "output_stride": "the strides of ENet are the paper's",
    }

    def __init__(
        self, num_classes: int, *, in_channels: PositiveInt = 3, freeze_bn: bool = False
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn)
        self.initial = InitialBlock(in_channels)
        self.bottleneck10 = DownBottleneck(self.initial.channels, 64, dropout=0.01)
        for number in _FIRST:
            self.add_module(f"bottleneck{number}", Bottleneck(64, 64, dropout=0.01))
        self.bottleneck20 = DownBottleneck(64, 128, dropout=0.1)
        for number, kind in _SECOND.items():
            self.add_module(f"bottleneck{number}", Bottleneck(128, 128, dropout=0.1, **kind))
        self.bottleneck40 = UpBottleneck(128, 64, dropout=0.1)
        self.bottleneck41 = Bottleneck(64, 64, dropout=0.1, activation=nn.ReLU)
        self.bottleneck42 = Bottleneck(64, 64, dropout=0.1, activation=nn.ReLU)
        self.bottleneck50 = UpBottleneck(64, self.initial.channels, dropout=0.1)
        self.bottleneck51 = Bottleneck(
            self.initial.channels, self.initial.channels, dropout=0.1, activation=nn.ReLU
        )
        self.fullconv = nn.ConvTranspose2d(
            self.initial.channels, num_classes, 3, 2, padding=1, output_padding=1, bias=False
        )
        self.initialise_weights([])
        nn.init.normal_(self.fullconv.weight, std=0.01)
        self.apply_freezing()

    def classifier_modules(self) -> list[nn.Module]:
        """Return the last convolution, which is transposed."""
        return [self.fullconv]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W)."""
        self.check_images(images)
        self.check_batch(images, 8)

        # Encoder, stride 2: (B, 16, ceil(H / 2), ceil(W / 2))
        features = self.initial(images)
        size2 = features.shape[2:]

        # Encoder, stride 4: (B, 64, ceil(H / 4), ceil(W / 4))
        features, indices2 = self.bottleneck10(features)
        for number in _FIRST:
            features = getattr(self, f"bottleneck{number}")(features)
        size4 = features.shape[2:]

        # Encoder, stride 8: (B, 128, ceil(H / 8), ceil(W / 8))
        features, indices4 = self.bottleneck20(features)
        for number in _SECOND:
            features = getattr(self, f"bottleneck{number}")(features)

        # Decoder: (B, 64, *size4), (B, 16, *size2), then (B, K, H, W)
        features = self.bottleneck40(features, indices4, size4)
        features = self.bottleneck42(self.bottleneck41(features))
        features = self.bottleneck50(features, indices2, size2)
        features = self.bottleneck51(features)
        return crop(self.fullconv(features), *images.shape[2:])
