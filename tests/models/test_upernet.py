"""What is UperNet's own."""

import pytest
import torch
import torchvision
from torch import nn

import models
from models.upernet import FeaturePyramid

K = 3


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def build(**args):
    settings = {"backbone": "resnet18", "fpn_out": 8, "pretrained": False, **args}
    return models.UperNet(K, **settings)


def published():
    """torchvision's resnet18 with statistics unlike those of a new network."""
    network = torchvision.models.resnet18(weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"backbone": "resnet5"}, "did you mean 'resnet50'"),
        ({"fpn_out": 0}, "fpn_out must be at least 1, got 0"),
    ],
)
def test_exception_upernet(args, message):
    with pytest.raises(ValueError, match=message):
        build(**args)


def test_exception_upernet_batch_of_one():
    with pytest.raises(ValueError, match="one value per channel"):
        build().train()(torch.randn(1, 3, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet34", "resnet50", "timm/swin_tiny_patch4_window7_224"])
@torch.no_grad()
def test_smoke_upernet_backbones(backbone):
    assert build(backbone=backbone).train()(torch.randn(2, 3, 33, 40)).shape == (2, K, 33, 40)


def test_cardinality_upernet_maps():
    maps = build().eval().backbone(torch.randn(1, 3, 64, 96))
    assert [tuple(features.shape[1:]) for features in maps] == [
        (64, 16, 24),
        (128, 8, 12),
        (256, 4, 6),
        (512, 4, 6),
    ]


@pytest.mark.parametrize("in_channels", [3, 4])
def test_feature_upernet_pretrained_file(in_channels, tmp_path, caplog):
    """Source: torchvision's ResNet up to layer3; from there on ours is dilated."""
    theirs = published()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = build(pretrained=str(tmp_path / "weights.pth"), in_channels=in_channels).eval()
    images = torch.randn(1, 3, 40, 32)
    # Of four channels the fourth is another red, and all weigh 3/4.
    shared = torch.cat([images[:, :1] / 2, images[:, 1:], images[:, :1] / 2], dim=1) * 4 / 3
    with torch.no_grad():
        features = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        expected = theirs.layer3(theirs.layer2(theirs.layer1(features)))
        maps = model.backbone(images if in_channels == 3 else shared)
    torch.testing.assert_close(maps[2], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.backbone.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert not caplog.records


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
    maps = [
        torch.full((1, 1 if level == 0 else 2, *size), 10.0**level)
        for level, size in enumerate(sizes)
    ]
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
