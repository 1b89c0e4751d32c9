"""A convolution with BatchNorm and ReLU."""

from torch import nn


def conv_bn_relu(
    in_channels: int, channels: int, kernel_size: int = 1, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Return a convolution without bias that divides the size by its stride, BatchNorm and ReLU."""
    padding = dilation * (kernel_size // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel_size, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
