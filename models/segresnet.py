"""SegResNet: a ResNet and its mirror image, after SegNet."""

from typing import Annotated, ClassVar

from torch import Tensor, nn

from base.base_model import BaseModel
from models.layout import crop
from models.pretrained import load_pretrained
from models.resnet import RESNET_NAMES, Bottleneck, ResNet
from models.unpooling import unpool
from utils.config.types import PositiveInt


class UpBottleneck(nn.Module):
    """The mirror image of a bottleneck: the last of a stage, with fewer channels.

    Args:
        in_channels: Channels of the input; the middle has a quarter of them.
        double: Double the resolution.
    """

    def __init__(self, in_channels: int, channels: int, *, double: bool) -> None:
        super().__init__()
        inner = in_channels // 4
        conv2: nn.Module = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        shortcut: nn.Module = nn.Conv2d(in_channels, channels, 1, bias=False)
        if double:
            conv2 = nn.ConvTranspose2d(inner, inner, 2, stride=2, bias=False)
            shortcut = nn.ConvTranspose2d(in_channels, channels, 2, stride=2, bias=False)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv2
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H, W), or (B, channels, 2H, 2W)."""
        shortcut = self.downsample(features)
        features = self.relu(self.bn1(self.conv1(features)))
        features = self.relu(self.bn2(self.conv2(features)))
        features = self.bn3(self.conv3(features))
        return self.relu(features + shortcut)


def up_stage(in_channels: int, channels: int, depth: int, *, double: bool) -> nn.Sequential:
    """Return `depth` bottlenecks; the last changes the channels and can double the resolution."""
    blocks: list[nn.Module] = [Bottleneck(in_channels, in_channels // 4) for _ in range(depth - 1)]
    return nn.Sequential(*blocks, UpBottleneck(in_channels, channels, double=double))


class SegResNet(BaseModel):
    """A ResNet and its mirror image, with transposed convolutions and one unpooling.

    Paper: SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation,
    https://arxiv.org/abs/1511.00561, with the network of Deep Residual Learning for Image
    Recognition, https://arxiv.org/abs/1512.03385

    Differs from the paper:
        - The encoder is a ResNet, not VGG-16, and the decoder has its blocks in reverse order.
        - Only one of the five halvings is a pooling, of 3x3 windows, which unpooling inverts.
          Transposed 2x2 convolutions invert the strides of the convolutions.
        - There is no local contrast normalisation of the image.

    Args:
        num_classes, in_channels, freeze_bn, freeze_backbone: As in `BaseModel`.
        backbone: A ResNet, resnet18 to resnet152. Old checkpoints have resnet50.
        pretrained: ImageNet weights for the encoder: true downloads them, a path reads a file.

    Raises:
        ValueError: If `backbone` is not known, or its weights cannot be downloaded or read.
    """

    legacy_args: ClassVar[dict[str, str]] = {
        "use_aux": "SegResNet has no auxiliary output",
        "output_stride": "the decoder of SegResNet undoes every stride of the encoder",
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
        trunk = ResNet(backbone, in_channels=in_channels)
        pool = nn.MaxPool2d(3, 2, padding=1, return_indices=True)
        self.first_conv = nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, pool)
        layers = [trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4]
        self.encoder = nn.Sequential(*layers)
        channels = (64, *trunk.channels)  # before layer1, and after each layer
        mirrored = [
            up_stage(channels[i + 1], channels[i], len(layers[i]), double=i > 0)
            for i in (3, 2, 1, 0)
        ]
        self.decoder = nn.Sequential(*mirrored)
        classifier = nn.Conv2d(64, num_classes, 3, padding=1)
        self.last_conv = nn.Sequential(
            nn.ConvTranspose2d(64, 64, 2, stride=2, bias=False), classifier
        )

        self.initialise_weights([classifier])
        load_pretrained(trunk, trunk.weights_name, pretrained)
        self.apply_freezing()

    def backbone_modules(self) -> list[nn.Module]:
        """Return the ResNet."""
        return [self.first_conv, self.encoder]

    def classifier_modules(self) -> list[nn.Module]:
        """Return the last convolution."""
        return [self.last_conv[-1]]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W)."""
        self.check_images(images)
        self.check_batch(images, 32)

        # Encoder
        features, indices = self.first_conv(images)  # (B, 64, ceil(H / 4), ceil(W / 4))
        features = self.encoder(features)  # (B, C4, ceil(H / 32), ceil(W / 32))

        # Decoder to stride 4; what was rounded up is at the right and at the bottom
        features = crop(self.decoder(features), *indices.shape[2:])

        # Unpooling to (B, 64, *size), then a transposed convolution to (B, K, H, W)
        height, width = images.shape[2:]
        size = ((height + 1) // 2, (width + 1) // 2)
        features = unpool(features, indices, size, kernel_size=3)
        return crop(self.last_conv(features), height, width)
