"""FCN8: a fully convolutional VGG, with scores at three strides."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from base.base_model import BaseModel
from models.pretrained import load_pretrained
from utils.config.types import PositiveInt


def vgg_stage(
    in_channels: int, channels: int, count: int, *, first_padding: int = 1
) -> list[nn.Module]:
    """Return 3x3 convolutions with ReLU, then pooling to half the resolution, rounded up."""
    modules: list[nn.Module] = []
    for index in range(count):
        padding = 1 if index else first_padding
        modules.append(nn.Conv2d(channels if index else in_channels, channels, 3, padding=padding))
        modules.append(nn.ReLU(inplace=True))
    return [*modules, nn.MaxPool2d(2, ceil_mode=True)]


def as_linear(convolution: nn.Conv2d) -> nn.Linear:
    """Return a convolution as the fully connected layer it stands for, in the same memory."""
    assert convolution.bias is not None
    weight = convolution.weight.detach().flatten(1)
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight = nn.Parameter(weight)
    linear.bias = nn.Parameter(convolution.bias.detach())
    return linear


def start_bilinear(upsampling: nn.ConvTranspose2d) -> None:
    """Set a transposed convolution, whose kernel is 2 strides wide, to bilinear interpolation."""
    weight = upsampling.weight.detach()
    size = weight.shape[-1]
    position = weight.new_tensor(range(size))
    falling = 1 - (position - (size - 1) / 2).abs() / (size / 2)
    weight.zero_()
    for channel in range(weight.shape[0]):
        weight[channel, channel] = falling[:, None] * falling


def cut(features: Tensor, offset: int, like: Tensor) -> Tensor:
    """Return the part of a map that begins at (offset, offset) and is as large as `like`."""
    rows, columns = features.shape[2:]
    height, width = like.shape[2:]
    # Not by slicing: an exported graph would fix whether the slice is the whole map.
    right, bottom = offset + width - columns, offset + height - rows
    return F.pad(features, (-offset, right, -offset, bottom))


class FCN8(BaseModel):
    """VGG-16 with its fully connected layers as convolutions; scores at strides 8, 16 and 32.

    Paper: Fully Convolutional Networks for Semantic Segmentation, https://arxiv.org/abs/1411.4038

    Differs from the paper:
        - All three strides train together from the start, where the paper adds one after another.
          The features are scaled for this as in the authors' later network voc-fcn8s-atonce, see
          https://arxiv.org/abs/1605.06211
        - The last upsampling is learned too, not fixed to bilinear interpolation.
        - The scoring convolutions start close to zero, not at zero.

    Args:
        num_classes, in_channels: As in `BaseModel`.
        base_channels: Channels of the first stage, doubled at the next three. VGG-16 has 64.
        hidden_channels: Channels of fc6 and fc7. VGG-16 has 4096.
        pretrained: ImageNet weights for VGG-16, fc6 and fc7 included: true downloads them, a string
            is the path of a local file, false trains from scratch.
        freeze_bn: Has no effect, as VGG-16 has no BatchNorm.
        freeze_backbone: Train the scoring and upsampling convolutions only, not fc6 and fc7.

    Raises:
        ValueError: If `base_channels` or `hidden_channels` is below 1, or the pretrained weights
            cannot be downloaded or read.
    """

    legacy_args: ClassVar[dict[str, str]] = {
        "backbone": "the backbone of FCN8 is always VGG-16",
        "use_aux": "FCN8 has no auxiliary output",
        "output_stride": "the strides of FCN8 are always 8, 16 and 32",
    }

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: PositiveInt = 3,
        base_channels: PositiveInt = 64,
        hidden_channels: PositiveInt = 4096,
        pretrained: bool | str = True,
        freeze_bn: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn, freeze_backbone)
        for name, value in (("base_channels", base_channels), ("hidden_channels", hidden_channels)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        published = (base_channels, hidden_channels) == (64, 4096)
        if pretrained is True and not published:
            raise ValueError(
                "VGG-16's ImageNet weights fit base_channels=64 and hidden_channels=4096 only, "
                f"got {base_channels} and {hidden_channels}: set pretrained to false"
            )

        # Backbone: VGG-16 up to strides 8, 16 and 32
        c = base_channels
        self.pool3 = nn.Sequential(
            # The padding of 100 leaves enough pixels for fc6, which has none, in any image.
            *vgg_stage(in_channels, c, 2, first_padding=100),
            *vgg_stage(c, 2 * c, 2),
            *vgg_stage(2 * c, 4 * c, 3),
        )
        self.pool4 = nn.Sequential(*vgg_stage(4 * c, 8 * c, 3))
        self.pool5 = nn.Sequential(*vgg_stage(8 * c, 8 * c, 3))

        # Scores at each stride, the last after fc6 and fc7
        self.adj_pool3 = nn.Conv2d(4 * c, num_classes, 1)
        self.adj_pool4 = nn.Conv2d(8 * c, num_classes, 1)
        fc6 = nn.Conv2d(8 * c, hidden_channels, 7)
        fc7 = nn.Conv2d(hidden_channels, hidden_channels, 1)
        score = nn.Conv2d(hidden_channels, num_classes, 1)
        self.output = nn.Sequential(
            fc6,
            nn.ReLU(inplace=True),
            nn.Dropout(),
            fc7,
            nn.ReLU(inplace=True),
            nn.Dropout(),
            score,
        )

        # Upsampling by 2, 2 and 8
        self.up_output = nn.ConvTranspose2d(num_classes, num_classes, 4, 2, bias=False)
        self.up_pool4_out = nn.ConvTranspose2d(num_classes, num_classes, 4, 2, bias=False)
        self.up_final = nn.ConvTranspose2d(num_classes, num_classes, 16, 8, bias=False)

        # Weights
        self.initialise_weights([self.adj_pool3, self.adj_pool4, score])
        for upsampling in (self.up_output, self.up_pool4_out, self.up_final):
            start_bilinear(upsampling)
        vgg = nn.ModuleDict(
            {
                "features": nn.Sequential(*self.pool3, *self.pool4, *self.pool5),
                "classifier": nn.ModuleDict({"0": as_linear(fc6), "3": as_linear(fc7)}),
            }
        )
        load_pretrained(vgg, "vgg16", pretrained, classifier="classifier.6.")
        self.apply_freezing()

    def backbone_modules(self) -> list[nn.Module]:
        """Return VGG-16: its stages, fc6 and fc7."""
        return [self.pool3, self.pool4, self.pool5, self.output[0], self.output[3]]

    def classifier_modules(self) -> list[nn.Module]:
        """Return the scoring convolutions, and those that upsample scores."""
        scoring = [self.adj_pool3, self.adj_pool4, self.output[6]]
        return [*scoring, *self.modules_over_classes()]

    def modules_over_classes(self) -> list[nn.Module]:
        """Return the convolutions that upsample scores."""
        return [self.up_output, self.up_pool4_out, self.up_final]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W)."""
        self.check_images(images)

        # Backbone
        stride8 = self.pool3(images)  # (B, 4c, ceil((H + 198) / 8), ceil((W + 198) / 8))
        stride16 = self.pool4(stride8)
        stride32 = self.pool5(stride16)  # (B, 8c, ceil((H + 198) / 32), ceil((W + 198) / 32))

        # Scores (B, K, h, w) at stride 16, then 8; the factors even out the scales of the features
        scores = self.up_output(self.output(stride32))
        scores = scores + cut(self.adj_pool4(0.01 * stride16), 5, like=scores)
        scores = self.up_pool4_out(scores)
        scores = scores + cut(self.adj_pool3(0.0001 * stride8), 9, like=scores)

        # Upsampling: the padding of 100, less what fc6 and the upsampling took, is an offset of 31
        return cut(self.up_final(scores), 31, like=images)
