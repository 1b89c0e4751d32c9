"""UNetResnet: the skips of UNet on a dilated ResNet."""

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from base.base_model import BaseModel
from models.layout import resize_like
from models.pretrained import load_pretrained
from models.resnet import RESNET_NAMES, ResNet
from utils.config.types import PositiveInt


def double(in_channels: int, channels: int) -> nn.ConvTranspose2d:
    """Return a transposed convolution to twice the resolution."""
    return nn.ConvTranspose2d(in_channels, channels, 4, 2, padding=1, bias=False)


class UNetResnet(BaseModel):
    """A ResNet of stride 8 as the encoder, and a decoder without activations.

    Paper: U-Net: Convolutional Networks for Biomedical Image Segmentation,
    https://arxiv.org/abs/1505.04597

    Differs from the paper:
        - The encoder is a ResNet whose last two stages dilate, so there are skips at strides 4, 8,
          8 and none at full resolution. Features that are doubled at stride 8 are resized back.
        - The decoder has one convolution for each doubling and no activations, so it is linear.
        - The convolutions are padded, and the logits are resized to the size of the image.

    Args:
        num_classes, in_channels, freeze_bn, freeze_backbone: As in `BaseModel`.
        backbone: A ResNet, resnet18 to resnet152.
        pretrained: ImageNet weights for the backbone: true downloads them, a path reads a file.

    Raises:
        ValueError: If `backbone` is not known, or its weights cannot be downloaded or read.
    """

    legacy_args: ClassVar[dict[str, str]] = {
        "use_aux": "UNetResnet has no auxiliary output",
        "output_stride": "the output stride of UNetResnet's backbone is always 8",
    }

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: PositiveInt = 3,
        backbone: Annotated[str, RESNET_NAMES] = "resnet50",
        pretrained: bool | str = True,
        freeze_bn: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn, freeze_backbone)

        # Encoder
        deep_stem = backbone not in ("resnet18", "resnet34")
        trunk = ResNet(backbone, in_channels=in_channels, output_stride=8, deep_stem=deep_stem)
        self.initial = trunk.stem()
        self.layer1 = trunk.layer1
        self.layer2 = trunk.layer2
        self.layer3 = trunk.layer3
        self.layer4 = trunk.layer4

        # Decoder: a convolution over the skip, then a doubling
        c1, c2, c3, c4 = trunk.channels
        self.conv1 = nn.Conv2d(c4, 192, 3, padding=1)
        self.upconv1 = double(192, 128)
        self.conv2 = nn.Conv2d(128 + c3, 128, 3, padding=1)
        self.upconv2 = double(128, 96)
        self.conv3 = nn.Conv2d(96 + c2, 96, 3, padding=1)
        self.upconv3 = double(96, 64)
        self.conv4 = nn.Conv2d(64 + c1, 64, 3, padding=1)
        self.upconv4 = double(64, 48)
        self.conv5 = nn.Conv2d(48, 48, 3, padding=1)
        self.upconv5 = double(48, 32)
        self.conv6 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv7 = nn.Conv2d(32, num_classes, 1, bias=False)

        # Weights
        self.initialise_weights([self.conv7])
        load_pretrained(trunk, trunk.weights_name, pretrained)
        self.apply_freezing()

    def backbone_modules(self) -> list[nn.Module]:
        """Return the ResNet."""
        return [self.initial, self.layer1, self.layer2, self.layer3, self.layer4]

    def classifier_modules(self) -> list[nn.Module]:
        """Return the last convolution."""
        return [self.conv7]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W)."""
        self.check_images(images)
        self.check_batch(images, 8)

        # Backbone
        stride4 = self.layer1(self.initial(images))  # (B, C1, ceil(H / 4), ceil(W / 4))
        stride8 = self.layer2(stride4)
        middle = self.layer3(stride8)  # (B, C3, ceil(H / 8), ceil(W / 8))
        deep = self.layer4(middle)  # (B, C4, ceil(H / 8), ceil(W / 8))

        # Decoder with skips, to stride 4: (B, 64 + C1, ceil(H / 4), ceil(W / 4))
        features = join(self.upconv1(self.conv1(deep)), middle)
        features = join(self.upconv2(self.conv2(features)), stride8)
        features = join(self.upconv3(self.conv3(features)), stride4)

        # Decoder without skips: (B, 32, 4 * ceil(H / 4), 4 * ceil(W / 4)), then resized
        features = self.upconv4(self.conv4(features))
        features = self.upconv5(self.conv5(features))
        features = resize_like(features, images, align_corners=True)
        return self.conv7(self.conv6(features))


def join(features: Tensor, skip: Tensor) -> Tensor:
    """Resize (B, C, h, w) to the skip (B, D, H, W) and join them: (B, C + D, H, W)."""
    return torch.cat([resize_like(features, skip, align_corners=True), skip], dim=1)
