"""What is UNetResnet's own."""

import pytest
import torch
import torchvision
from torch import nn

import models
from models.resnet import RESNETS, ResNet
from tests.slow import mark_slow

K = 3


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def build(**args):
    return models.UNetResnet(K, **{"backbone": "resnet18", "pretrained": False, **args})


def test_exception_unet_resnet_backbone():
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        build(backbone="resnet5")


@pytest.mark.parametrize("backbone", mark_slow(RESNETS))
def test_smoke_unet_resnet_backbones(backbone):
    model = build(backbone=backbone).train()
    assert model(torch.randn(2, 3, 33, 40)).shape == (2, K, 33, 40)


def test_feature_unet_resnet_pretrained(tmp_path, caplog):
    """Source: torchvision's ResNet up to layer2; from there on ours is dilated."""
    theirs = torchvision.models.resnet18()
    for norm in theirs.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    theirs.eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = build(pretrained=str(tmp_path / "weights.pth")).eval()
    images = torch.randn(1, 3, 40, 32)
    with torch.no_grad():
        stem = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        expected = theirs.layer2(theirs.layer1(stem))
        features = model.layer2(model.layer1(model.initial(images)))
    torch.testing.assert_close(features, expected)
    assert torch.equal(model.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert not caplog.records


def test_smoke_unet_resnet_pretrained_deep_stem(tmp_path, caplog):
    """The published weights have the names of `ResNet`; with a fourth channel besides."""
    weights = ResNet("resnet50", deep_stem=True).state_dict()
    weights |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    torch.save(weights, tmp_path / "weights.pth")
    model = build(backbone="resnet50", in_channels=4, pretrained=str(tmp_path / "weights.pth"))
    expected = weights["conv1.0.weight"][:, [0, 1, 2, 0]] * 3 / 4
    torch.testing.assert_close(model.initial[0][0].weight, expected)
    assert torch.equal(model.layer4[2].conv3.weight, weights["layer4.2.conv3.weight"])
    assert not caplog.records


def test_cardinality_unet_resnet_decoder():
    """Source: by hand, for 75x50, which is rounded up to 10x7 at stride 8 and 19x13 at stride 4."""
    model = build().eval()
    shapes = []
    for index in range(1, 8):
        conv = getattr(model, f"conv{index}")
        conv.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape[1:])))
    with torch.no_grad():
        model(torch.randn(1, 3, 75, 50))
    assert shapes == [
        (512, 10, 7),
        (128 + 256, 10, 7),
        (96 + 128, 10, 7),
        (64 + 64, 19, 13),
        (48, 38, 26),
        (32, 75, 50),
        (32, 75, 50),
    ]


def test_feature_unet_resnet_linear_decoder():
    """The logits are linear in the features: twice the features, twice the logits."""
    model = build().eval()
    for index in range(1, 7):
        nn.init.zeros_(getattr(model, f"conv{index}").bias)
    images = torch.randn(1, 3, 40, 48)
    with torch.no_grad():
        logits = model(images)

        def twice(_, __, features):
            return 2 * features

        # Doubled where the decoder takes them; what the next stage takes is halved again.
        for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
            stage.register_forward_hook(twice)
        for stage in (model.layer2, model.layer3, model.layer4):
            stage.register_forward_pre_hook(lambda _, inputs: (inputs[0] / 2,))
        torch.testing.assert_close(model(images), 2 * logits)


def test_exception_single_value():
    model = build().train()
    with pytest.raises(ValueError, match="one value per channel"):
        model(torch.randn(1, 3, 8, 8))
    model(torch.randn(1, 3, 8, 9))  # two values are enough
