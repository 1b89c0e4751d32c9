"""MobileNetV2: a small backbone."""

from torch import Tensor, nn

from models.pretrained import load_pretrained

# Expansion, channels, blocks, stride of the first block: table 2 of the paper.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def conv_bn_relu6(
    in_channels: int,
    channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Return a convolution without bias, BatchNorm and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            channels,
            kernel_size,
            stride,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(channels),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """An expansion, a depthwise convolution and a projection; a shortcut between equal shapes.

    Args:
        expansion: Factor of the channels in between.
        stride: Stride of the 3x3 convolution.
        dilation: Dilation of the 3x3 convolution.
    """

    def __init__(
        self, in_channels: int, channels: int, *, expansion: int, stride: int, dilation: int
    ) -> None:
        super().__init__()
        self.shortcut = stride == 1 and in_channels == channels
        inner = in_channels * expansion
        self.conv = nn.Sequential(
            *([conv_bn_relu6(in_channels, inner, 1)] if expansion != 1 else []),
            conv_bn_relu6(inner, inner, 3, stride=stride, dilation=dilation, groups=inner),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, ceil(H / stride), ceil(W / stride))."""
        projected = self.conv(features)
        return features + projected if self.shortcut else projected


class MobileNetV2(nn.Module):
    """Seventeen inverted residuals.

    Paper: MobileNetV2: Inverted Residuals and Linear Bottlenecks, https://arxiv.org/abs/1801.04381

    Differs from the paper:
        - At an output stride below 32 the last stages keep their resolution and dilate instead.
        - The 1x1 convolution to 1280 channels and all after it are left out, as in the paper's
          networks for segmentation.

    The modules have the names of the published weights.

    Args:
        in_channels: Channels of the images.
        output_stride: 8, 16 or 32.
    """

    weights_name = "mobilenet_v2"
    channels = (24, 320)
    low = 4  # parts up to the last one at stride 4

    def __init__(self, *, in_channels: int = 3, output_stride: int = 16) -> None:
        super().__init__()
        parts: list[nn.Module] = [conv_bn_relu6(in_channels, 32, 3, stride=2)]
        before, reached, dilation = 32, 2, 1
        for expansion, channels, blocks, first_stride in STAGES:
            for index in range(blocks):
                stride = first_stride if index == 0 else 1
                left_out = stride if reached == output_stride else 1
                parts.append(
                    InvertedResidual(
                        before,
                        channels,
                        expansion=expansion,
                        stride=stride // left_out,
                        dilation=dilation,
                    )
                )
                # A stride that is left out dilates the blocks after this one, not the block itself.
                dilation *= left_out
                reached *= stride // left_out
                before = channels
        self.features = nn.Sequential(*parts)

    def load(self, pretrained: bool | str) -> None:
        """Fill in torchvision's ImageNet weights.

        Raises:
            ValueError: If the weights cannot be downloaded or read.
        """

        def up_to_the_last_block(weights: dict[str, Tensor]) -> dict[str, Tensor]:
            left_out = (f"features.{len(self.features)}.", "classifier.")
            return {k: value for k, value in weights.items() if not k.startswith(left_out)}

        load_pretrained(self, self.weights_name, pretrained, convert=up_to_the_last_block)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (B, C, H, W) to (B, 24, ceil(H / 4), ceil(W / 4)) and (B, 320, ...) at the stride."""
        stride4 = self.features[: self.low](images)
        return [stride4, self.features[self.low :](stride4)]
