"""What is UperNet's own."""

import functools

import pytest
import torch
from torch import nn

import models
from models.upernet import FeaturePyramid
from tests.models.test_models import build as build_case

build = functools.partial(build_case, "UperNet")


def test_cardinality_upernet_maps():
    maps = build().eval().backbone(torch.randn(1, 3, 64, 96))
    shapes = [tuple(features.shape[1:]) for features in maps]
    assert shapes == [(64, 16, 24), (128, 8, 12), (256, 4, 6), (512, 4, 6)]


@pytest.mark.parametrize(
    ("legacy", "expected"), [(False, [1111, 1110, 1100, 1000]), (True, [11, 110, 1100, 1000])]
)
def test_feature_pyramid_top_down(legacy, expected):
    """Source: hand. Every convolution leaves its input alone, so a level is a sum of maps."""
    pyramid = FeaturePyramid([1, 2, 2, 2], 1, legacy=legacy)
    for conv in [*pyramid.conv1x1, *pyramid.smooth_conv]:
        nn.init.dirac_(conv.weight)
        nn.init.zeros_(conv.bias)
    joined = []
    pyramid.conv_fusion.register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0]))
    sizes = [(8, 12), (4, 6), (3, 3), (2, 2)]
    maps = [torch.full((1, 2 if n else 1, *size), 10.0**n) for n, size in enumerate(sizes)]
    assert pyramid(maps).shape == (1, 1, 8, 12)
    assert joined[0].shape == (1, 4, 8, 12)
    levels = torch.tensor(expected).view(1, 4, 1, 1)
    torch.testing.assert_close(joined[0], levels.expand_as(joined[0]).float())


@pytest.mark.parametrize("channels", [4, 6])
def test_cardinality_pyramid_projections(channels):
    """The largest map needs no projection if its width is right."""
    pyramid = FeaturePyramid([4, 8, 8, 16], channels)
    assert len(pyramid.conv1x1) == (3 if channels == 4 else 4)
    maps = [torch.randn(2, width, 8, 8) for width in (4, 8, 8, 16)]
    assert pyramid(maps).shape == (2, channels, 8, 8)


def test_feature_upernet_older_checkpoint():
    """One convolution under three names: refused by the paper's pyramid, which is another."""
    older, newer = build(legacy_fpn=True), build()
    convs = set(older.FPN.smooth_conv)
    assert len(convs) == 1 and len(set(newer.FPN.smooth_conv)) == 3
    assert list(older.state_dict()) == list(newer.state_dict())
    one_conv = sum(parameter.numel() for parameter in convs.pop().parameters())
    assert newer.num_parameters()[0] - older.num_parameters()[0] == 2 * one_conv
    with pytest.raises(ValueError, match=r"set legacy_fpn=true in arch\.args"):
        newer.load_state_dict(older.state_dict())
    build(legacy_fpn=True).load_state_dict(older.state_dict())
    build().load_state_dict(newer.state_dict())


def test_feature_upernet_legacy_arguments():
    assert set(models.UperNet.legacy_args) == {"use_aux"}
