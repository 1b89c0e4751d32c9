"""What is SegResNet's own."""

import functools

import pytest
import torch
import torch.nn.functional as F

from models.resnet import RESNETS
from models.segresnet import UpBottleneck
from tests.models.test_models import K
from tests.models.test_models import build as build_case

build = functools.partial(build_case, "SegResNet")


@pytest.mark.parametrize("backbone", RESNETS)
def test_cardinality_segresnet_blocks(backbone):
    """The decoder has the encoder's blocks, stage by stage from the end."""
    with torch.device("meta"):
        model = build(backbone=backbone)
    assert [len(stage) for stage in model.decoder] == [len(stage) for stage in model.encoder][::-1]


@pytest.mark.parametrize("double", [False, True])
def test_cardinality_up_bottleneck(double):
    features = UpBottleneck(16, 8, double=double)(torch.randn(2, 16, 3, 5))
    assert features.shape == ((2, 8, 6, 10) if double else (2, 8, 3, 5))


@pytest.mark.parametrize("size", [(64, 64), (65, 71), (97, 131), (50, 33)])
def test_feature_segresnet_uses_positions(size):
    """Source: torch's max unpooling. What the decoder gives comes back where the maxima were."""
    model = build().eval()
    seen = []
    model.decoder.register_forward_hook(lambda _, __, output: seen.append(output))
    model.last_conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        logits = model(images)
        pooled, indices = model.first_conv(images)
    decoded, unpooled = seen
    decoded = decoded[:, :, : pooled.shape[2], : pooled.shape[3]]
    full = tuple((side + 1) // 2 for side in size)
    assert logits.shape == (1, K, *size) and unpooled.shape[2:] == full
    # Where windows share a maximum, the values differ and torch's choice is anyone's guess.
    flat = indices.flatten(2)
    counts = torch.zeros(1, 64, full[0] * full[1]).scatter_add_(2, flat, torch.ones(flat.shape))
    once = (counts == 1).view(unpooled.shape)
    expected = F.max_unpool2d(decoded, indices, 2, output_size=full)
    assert torch.equal(unpooled[once], expected[once])
    assert not unpooled[(counts == 0).view(unpooled.shape)].any()
