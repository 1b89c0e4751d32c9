"""Atrous spatial pyramid pooling: context from dilated convolutions and from the whole image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.convolution import conv_bn_relu
from models.layout import keep_layout

USUAL_DILATIONS = {8: (12, 24, 36), 16: (6, 12, 18)}
"""Dilations for each output stride; twice as dense features get twice the dilation."""


class ASPP(nn.Module):
    """Parallel branches with several fields of view at every position.

    The branches are a 1x1 convolution, a 3x3 convolution for each dilation, and the mean of the
    whole image; a 1x1 convolution joins them. The modules have the names of older checkpoints.

    Paper: Rethinking Atrous Convolution for Semantic Image Segmentation,
    https://arxiv.org/abs/1706.05587

    Differs from the paper:
        - Dropout follows.

    Args:
        dilations: Dilations of the 3x3 convolutions.
        channels: Channels of each branch and of the output.
    """

    def __init__(self, in_channels: int, dilations: Sequence[int], channels: int = 256) -> None:
        super().__init__()
        branches = [conv_bn_relu(in_channels, channels)]
        for dilation in dilations:
            branches.append(conv_bn_relu(in_channels, channels, 3, dilation=dilation))
        self.branches = [f"aspp{number}" for number in range(1, len(branches) + 1)]
        for name, branch in zip(self.branches, branches, strict=True):
            self.add_module(name, branch)
        # Pooling to 1x1 is a plain mean in torch, which has a deterministic gradient on CUDA.
        self.avg_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_bn_relu(in_channels, channels))
        self.conv1 = nn.Conv2d(channels * (len(branches) + 1), channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H, W)."""
        # Local context: one map (B, channels, H, W) for each dilation
        views = [self.get_submodule(name)(features) for name in self.branches]

        # Global context: (B, channels, 1, 1), the same at every position
        whole = self.avg_pool(features).expand(-1, -1, *features.shape[2:])
        views.append(keep_layout(whole, features))

        return self.dropout(self.relu(self.bn1(self.conv1(torch.cat(views, dim=1)))))
