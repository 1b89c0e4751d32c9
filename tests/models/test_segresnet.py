"""What is SegResNet's own."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import models
from models.resnet import RESNETS
from models.segresnet import UpBottleneck
from tests.slow import mark_slow

K = 3


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def build(**args):
    return models.SegResNet(K, **{"backbone": "resnet18", "pretrained": False, **args})


def published(backbone):
    """torchvision's network, with statistics that are not the same everywhere."""
    network = torchvision.models.get_model(backbone)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return network.eval()


def test_exception_segresnet_backbone():
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        build(backbone="resnet5")


@pytest.mark.parametrize("backbone", mark_slow(RESNETS))
def test_smoke_segresnet_backbones(backbone):
    """The decoder has the encoder's blocks, stage by stage from the end."""
    model = build(backbone=backbone).train()
    assert model(torch.randn(2, 3, 33, 40)).shape == (2, K, 33, 40)
    depths = [len(stage) for stage in model.encoder]
    assert [len(stage) for stage in model.decoder] == depths[::-1]


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_feature_segresnet_pretrained(backbone, tmp_path, caplog):
    """Source: torchvision's ResNet."""
    theirs = published(backbone)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = build(backbone=backbone, pretrained=str(tmp_path / "weights.pth")).eval()
    assert not caplog.records
    images = torch.randn(1, 3, 70, 64)
    with torch.no_grad():
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            expected = stage(expected)
        features = model.encoder(model.first_conv(images)[0])
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_smoke_segresnet_pretrained_in_channels(tmp_path, caplog):
    weights = published("resnet18").state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    model = build(in_channels=4, pretrained=str(tmp_path / "weights.pth"))
    expected = weights["conv1.weight"][:, [0, 1, 2, 0]] * 3 / 4
    torch.testing.assert_close(model.first_conv[0].weight, expected)
    assert not caplog.records


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


def test_exception_single_value():
    model = build().train()
    with pytest.raises(ValueError, match="one value per channel"):
        model(torch.randn(1, 3, 32, 32))
    model(torch.randn(1, 3, 32, 33))  # two values are enough
