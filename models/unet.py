"""UNet: an encoder, a decoder, and a skip at every resolution."""

from typing import Annotated, ClassVar

import msgspec
import torch
from torch import Tensor, nn

from base.base_model import BaseModel
from models.convolution import conv_bn_relu
from models.layout import resize_like
from utils.config.types import PositiveInt

EvenInt = Annotated[int, msgspec.Meta(ge=2, multiple_of=2)]

_NO_BACKBONE = "UNet has no backbone"


def double_conv(in_channels: int, channels: int) -> nn.Sequential:
    """Return two 3x3 convolutions with BatchNorm and ReLU; the first has half the channels."""
    inner = channels // 2
    return nn.Sequential(*conv_bn_relu(in_channels, inner, 3), *conv_bn_relu(inner, channels, 3))


class Down(nn.Module):
    """A double convolution, then pooling to half the resolution, odd sizes rounded up."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.down_conv = double_conv(in_channels, channels)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, ceil(H / 2), ceil(W / 2))."""
        return self.pool(self.down_conv(features))


class Up(nn.Module):
    """Upsampling to the resolution of the skip, joined with it, then a double convolution.

    Args:
        in_channels: Channels of the input; the skip and the output have half as many.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        channels = in_channels // 2
        self.up = nn.ConvTranspose2d(in_channels, channels, 2, stride=2)
        self.up_conv = double_conv(in_channels, channels)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) and (B, in_channels / 2, H, W) to the shape of the skip."""
        features = resize_like(self.up(features), skip, align_corners=True)
        return self.up_conv(torch.cat([skip, features], dim=1))


class UNet(BaseModel):
    """Four halvings and four doublings of the resolution, with skips between equal ones.

    Paper: U-Net: Convolutional Networks for Biomedical Image Segmentation,
    https://arxiv.org/abs/1505.04597

    Differs from the paper:
        - The convolutions are padded, so the logits have the size of the image; odd sizes are
          rounded up in the encoder and resized back in the decoder.
        - Every convolution has a BatchNorm, and there is no dropout.
        - The first convolution of a pair has half the channels of the second.
        - Pooling comes after a pair of convolutions, not before, and there is one more pair at the
          lowest resolution.

    Args:
        num_classes, in_channels, freeze_bn: As in `BaseModel`.
        base_channels: Channels at full resolution, doubled at each halving; even. Old checkpoints
            have 64.

    Raises:
        ValueError: If `base_channels` is odd or below 2.
    """

    legacy_args: ClassVar[dict[str, str]] = {
        "backbone": _NO_BACKBONE,
        "pretrained": "there are no pretrained weights for UNet",
        "freeze_backbone": _NO_BACKBONE,
        "use_aux": "UNet has no auxiliary output",
        "output_stride": "UNet always returns to full resolution",
    }

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: PositiveInt = 3,
        base_channels: EvenInt = 64,
        freeze_bn: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn)
        if base_channels < 2 or base_channels % 2:
            raise ValueError(f"base_channels must be even and at least 2, got {base_channels}")
        c = base_channels
        self.start_conv = double_conv(in_channels, c)
        self.down1 = Down(c, 2 * c)
        self.down2 = Down(2 * c, 4 * c)
        self.down3 = Down(4 * c, 8 * c)
        self.down4 = Down(8 * c, 16 * c)
        self.middle_conv = double_conv(16 * c, 16 * c)
        self.up1 = Up(16 * c)
        self.up2 = Up(8 * c)
        self.up3 = Up(4 * c)
        self.up4 = Up(2 * c)
        self.final_conv = nn.Conv2d(c, num_classes, 1)
        self.initialise_weights([self.final_conv])
        self.apply_freezing()

    def classifier_modules(self) -> list[nn.Module]:
        """Return the last convolution."""
        return [self.final_conv]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W)."""
        self.check_images(images)
        self.check_batch(images, 16)

        # Encoder
        stride1 = self.start_conv(images)  # (B, c, H, W)
        stride2 = self.down1(stride1)  # (B, 2c, ceil(H / 2), ceil(W / 2))
        stride4 = self.down2(stride2)
        stride8 = self.down3(stride4)
        stride16 = self.middle_conv(self.down4(stride8))  # (B, 16c, ceil(H / 16), ceil(W / 16))

        # Decoder: each step at the resolution of its skip
        features = self.up1(stride16, stride8)
        features = self.up2(features, stride4)
        features = self.up3(features, stride2)
        features = self.up4(features, stride1)  # (B, c, H, W)
        return self.final_conv(features)
