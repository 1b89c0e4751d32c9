"""What is ENet's own."""

import pytest
import torch
from torch import nn

import models
from models.enet import Bottleneck, DownBottleneck, InitialBlock, UpBottleneck

K = 3


# The paper's table 1, for an image of 512x512: name, (channels, side)
TABLE = {
    "initial": (16, 256),
    "bottleneck10": (64, 128),
    "bottleneck14": (64, 128),
    "bottleneck20": (128, 64),
    "bottleneck28": (128, 64),
    "bottleneck38": (128, 64),
    "bottleneck40": (64, 128),
    "bottleneck42": (64, 128),
    "bottleneck50": (16, 256),
    "bottleneck51": (16, 256),
    "fullconv": (K, 512),
}


def test_cardinality_enet_stages():
    """Source: the paper's table 1."""
    model = models.ENet(K).eval()
    shapes = {}

    def look(name):
        def hook(_, __, output):
            features = output[0] if isinstance(output, tuple) else output
            shapes[name] = (features.shape[1], features.shape[2])

        return hook

    for name in TABLE:
        getattr(model, name).register_forward_hook(look(name))
    with torch.no_grad():
        model(torch.randn(1, 3, 512, 512))
    assert shapes == TABLE


def test_feature_enet_kinds():
    """Source: the paper's table 1. Dilations, None for the asymmetric ones; and its dropout."""
    model = models.ENet(K)
    for part in (2, 3):
        dilations = []
        for index in range(1, 9):
            conv = getattr(model, f"bottleneck{part}{index}").conv2
            dilations.append(conv.dilation[0] if isinstance(conv, nn.Conv2d) else None)
        assert dilations == [1, 2, None, 4, 1, 8, None, 16]
    dropped = [
        module.dropout.p
        for module in model.modules()
        if isinstance(module, (Bottleneck, UpBottleneck))
    ]
    assert dropped == [0.01] * 5 + [0.1] * 22


@pytest.mark.parametrize(("channels", "filters"), [(1, 15), (3, 13), (15, 1), (16, 13), (20, 13)])
def test_cardinality_initial_block(channels, filters):
    block = InitialBlock(channels)
    assert block.conv.out_channels == filters
    features = block(torch.randn(2, channels, 7, 4))
    assert features.shape == (2, channels + filters, 4, 2)
    assert models.ENet(K, in_channels=channels)(torch.randn(2, channels, 9, 8)).shape[1] == K


@pytest.mark.parametrize("size", [(8, 6), (7, 6), (5, 9), (1, 1)])
def test_feature_down_and_up(size):
    """An odd size is what the same image, filled up by a row or column, makes of it."""
    down, up = DownBottleneck(8, 16, dropout=0).eval(), UpBottleneck(16, 8, dropout=0).eval()
    even = [side + side % 2 for side in size]
    # Filled with what no maximum is taken from; the convolution sees zeros there in both cases.
    features = torch.rand(2, 8, *size)
    filled = torch.zeros(2, 8, *even)
    filled[:, :, : size[0], : size[1]] = features
    with torch.no_grad():
        (low, indices), (expected, expected_indices) = down(features), down(filled)
        torch.testing.assert_close(low, expected)
        high = up(low, indices, size)
        expected = up(expected, expected_indices, even)[:, :, : size[0], : size[1]]
    assert high.shape == features.shape
    # The last 3x3 convolution is transposed, so the border of the filled one is the same as well.
    torch.testing.assert_close(high, expected)
