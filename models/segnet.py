"""SegNet: a decoder that unpools to the indices of the encoder's maxima."""

import itertools
from typing import ClassVar

from torch import Tensor, nn

from base.base_model import BaseModel
from models.pretrained import load_pretrained
from models.unpooling import unpool
from utils.config.types import PositiveInt


def convolutions(*channels: int) -> nn.Sequential:
    """Return 3x3 convolutions between numbers of channels, with BatchNorm and ReLU."""
    modules: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        modules.append(nn.Conv2d(before, after, 3, padding=1))
        modules.append(nn.BatchNorm2d(after))
        modules.append(nn.ReLU(inplace=True))
    return nn.Sequential(*modules)


class SegNet(BaseModel):
    """The convolutions of VGG-16, then their mirror image with max unpooling.

    Paper: SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation,
    https://arxiv.org/abs/1511.00561

    Differs from the paper:
        - The pretrained encoder is VGG-16 with BatchNorm; the paper has weights of VGG-16 without.
        - There is no local contrast normalisation of the image.
        - The last convolution is 3x3.
        - Pooling rounds odd sizes up, so no row or column of an image is lost.

    Args:
        num_classes, in_channels, freeze_bn, freeze_backbone: As in `BaseModel`.
        base_channels: Channels of the first stage, doubled at the next three. VGG-16 has 64.
        pretrained: ImageNet weights for the encoder: true downloads them, a path reads a file.

    Raises:
        ValueError: If `base_channels` is below 1, or the pretrained weights cannot be downloaded or
            read.
    """

    legacy_args: ClassVar[dict[str, str]] = {
        "backbone": "the backbone of SegNet is always VGG-16",
        "use_aux": "SegNet has no auxiliary output",
        "output_stride": "the decoder of SegNet undoes every stride of the encoder",
    }

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: PositiveInt = 3,
        base_channels: PositiveInt = 64,
        pretrained: bool | str = True,
        freeze_bn: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn, freeze_backbone)
        if base_channels < 1:
            raise ValueError(f"base_channels must be at least 1, got {base_channels}")
        if pretrained is True and base_channels != 64:
            raise ValueError(
                f"VGG-16's ImageNet weights fit base_channels=64 only, got {base_channels}: "
                "set pretrained to false"
            )

        # Encoder: VGG-16 with BatchNorm
        c = base_channels
        self.pool = nn.MaxPool2d(2, ceil_mode=True, return_indices=True)
        self.stage1_encoder = convolutions(in_channels, c, c)
        self.stage2_encoder = convolutions(c, 2 * c, 2 * c)
        self.stage3_encoder = convolutions(2 * c, 4 * c, 4 * c, 4 * c)
        self.stage4_encoder = convolutions(4 * c, 8 * c, 8 * c, 8 * c)
        self.stage5_encoder = convolutions(8 * c, 8 * c, 8 * c, 8 * c)

        # Decoder: its mirror image
        self.stage1_decoder = convolutions(8 * c, 8 * c, 8 * c, 8 * c)
        self.stage2_decoder = convolutions(8 * c, 8 * c, 8 * c, 4 * c)
        self.stage3_decoder = convolutions(4 * c, 4 * c, 4 * c, 2 * c)
        self.stage4_decoder = convolutions(2 * c, 2 * c, c)
        classifier = nn.Conv2d(c, num_classes, 3, padding=1)
        self.stage5_decoder = nn.Sequential(*convolutions(c, c, c), classifier)

        # Weights
        self.initialise_weights([classifier])
        features: list[nn.Module] = []
        for stage in self.backbone_modules():
            features += [*stage.children(), self.pool]
        vgg = nn.ModuleDict({"features": nn.Sequential(*features)})
        load_pretrained(vgg, "vgg16_bn", pretrained, classifier="classifier.")
        self.apply_freezing()

    def backbone_modules(self) -> list[nn.Module]:
        """Return the five stages of the encoder."""
        first = [self.stage1_encoder, self.stage2_encoder, self.stage3_encoder]
        return [*first, self.stage4_encoder, self.stage5_encoder]

    def decoder_modules(self) -> list[nn.Module]:
        """Return the five stages of the decoder, from low to full resolution."""
        first = [self.stage1_decoder, self.stage2_decoder, self.stage3_decoder]
        return [*first, self.stage4_decoder, self.stage5_decoder]

    def classifier_modules(self) -> list[nn.Module]:
        """Return the last convolution."""
        return [self.stage5_decoder[-1]]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W)."""
        self.check_images(images)
        self.check_batch(images, 16)

        # Encoder: (B, C, H, W) to (B, 8c, ceil(H / 32), ceil(W / 32))
        features, pooled = images, []
        for stage in self.backbone_modules():
            features = stage(features)
            size = features.shape[2:]
            features, indices = self.pool(features)
            pooled.append((indices, size))

        # Decoder: each stage at the size of its encoder stage, up to (B, K, H, W)
        for stage in self.decoder_modules():
            indices, size = pooled.pop()
            features = stage(unpool(features, indices, size))
        return features
