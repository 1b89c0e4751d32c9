"""What is PSPDenseNet's own."""

import functools
import re

import pytest
import torch

import models
from tests.models.test_models import K
from tests.models.test_models import build as build_case
from tests.models.weights import stirred

build = functools.partial(build_case, "PSPDenseNet", stem="auto")


def published(path):
    """torchvision's densenet121, and its weights in a file with the names that are published."""
    network = stirred("densenet121")
    weights = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in weights
    torch.save(weights, path)
    return network


@pytest.mark.parametrize("in_channels", [3, 4])
def test_feature_pspdensenet_pretrained_file(in_channels, tmp_path, caplog):
    """Source: torchvision's DenseNet up to its second block; from there on ours is dilated."""
    path = tmp_path / "weights.pth"
    theirs = published(path).features
    model = build(pretrained=str(path), in_channels=in_channels).eval()
    images = torch.randn(1, 3, 40, 32)
    # Of four channels the fourth is another red, and all weigh 3/4.
    shared = torch.cat([images[:, :1] / 2, images[:, 1:], images[:, :1] / 2], dim=1) * 4 / 3
    with torch.no_grad():
        features = model.block0(images if in_channels == 3 else shared)
        features = model.block2(model.transition1(model.block1(features)))
        expected = theirs[: list(dict(theirs.named_children())).index("denseblock2") + 1](images)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(model.transition3[2].weight, theirs.transition3.conv.weight)
    last = "denselayer16.conv2.weight"
    assert torch.equal(model.block4.state_dict()[last], theirs.denseblock4.state_dict()[last])
    assert not caplog.records


def test_feature_pspdensenet_dilation():
    """Source: a response spreads over 2 * dilation + 1 positions, with holes between."""
    model = build().eval()
    assert model.block4.denselayer1.conv2.kernel_size == (3, 3)
    for block, dilation in ((model.block2, 1), (model.block3, 2), (model.block4, 4)):
        conv = block.denselayer1.conv2
        impulse = torch.zeros(1, conv.in_channels, 17, 17)
        impulse[:, :, 8, 8] = 1
        with torch.no_grad():
            response = conv(impulse)
        assert response.shape[2:] == impulse.shape[2:]
        rows = response.abs().sum(dim=(0, 1, 3)).nonzero().flatten().tolist()
        assert rows == [8 - dilation, 8, 8 + dilation]


def test_cardinality_pspdensenet_stride():
    model = build(stem="plain").eval()
    shapes = []
    model.block4.register_forward_hook(lambda *call: shapes.append(tuple(call[2].shape)))
    with torch.no_grad():
        model(torch.randn(1, 3, 64, 96))
    assert shapes == [(1, 1024, 8, 12)]


def test_feature_pspdensenet_backbone_parameters():
    """The rate of the backbone is for every block, the last one too."""
    model = build()
    inside = {id(parameter) for parameter in model.get_backbone_params()}
    names = {key.partition(".")[0] for key, p in model.named_parameters() if id(p) in inside}
    assert names == {"transition1", "transition2", "transition3", *(f"block{i}" for i in range(5))}


def test_feature_pspdensenet_deep_stem():
    model = build(stem="deep").eval()
    assert model.block0[3] is model.block0[6] and model.block0[4] is model.block0[7]
    assert model.min_size == 15 and build(stem="plain").min_size == 5
    with pytest.raises(ValueError, match="at least 15x15 pixels, got 14x20"):
        model(torch.randn(1, 3, 14, 20))
    with torch.no_grad():
        assert model(torch.randn(1, 3, 15, 20)).shape == (1, K, 15, 20)


@pytest.mark.parametrize("stem", ["plain", "deep"])
def test_feature_pspdensenet_stem_of_a_checkpoint(stem):
    """A checkpoint is opened without ImageNet weights, which must not change the stem."""
    weights = build(stem=stem).state_dict()
    args = models.PSPDenseNet.args_for({"backbone": "densenet121"}, weights)
    assert args["pretrained"] is False
    models.PSPDenseNet(K, **args).load_state_dict(weights)
