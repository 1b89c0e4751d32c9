"""What is GCN's own."""

import logging

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import models
from models.gcn import BoundaryRefinement, Doubling, GlobalBlock, GlobalConvolution
from models.resnet import Bottleneck

K = 3


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def build(**args):
    return models.GCN(K, **{"backbone": "resnet18", "pretrained": False, **args})


def published(name):
    """A ResNet of torchvision with statistics unlike those of a new network."""
    network = torchvision.models.get_model(name, weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def numel(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"backbone": "resnet5"}, "did you mean 'resnet50'"),
        ({"num_filters": 10}, "num_filters must be odd and at least 1, got 10"),
        ({"num_filters": -1}, "num_filters must be odd and at least 1, got -1"),
        ({"use_resnet_gcn": True}, "resnet18 does not have: choose resnet50, resnet101, resnet152"),
    ],
)
def test_exception_gcn(args, message):
    with pytest.raises(ValueError, match=message):
        build(**args)


def test_exception_gcn_single_value():
    with pytest.raises(ValueError, match="one value per channel"):
        build().train()(torch.randn(1, 3, 32, 32))
    build().train()(torch.randn(1, 3, 32, 33))  # two values are enough


@pytest.mark.parametrize("size", [1, 3, 7])
def test_feature_global_convolution(size):
    """Source: the paper's figure. Without biases the sum is one convolution, size x size."""
    module = GlobalConvolution(2, 3, size)
    for conv in module.children():
        nn.init.zeros_(conv.bias)
    first = torch.einsum(
        "mir,omc->oirc", module.conv11.weight[..., 0], module.conv12.weight[:, :, 0]
    )
    second = torch.einsum(
        "mic,omr->oirc", module.conv21.weight[:, :, 0], module.conv22.weight[..., 0]
    )
    features = torch.randn(2, 2, 16, 12)
    expected = F.conv2d(features, first + second, padding=size // 2)
    margin = size // 2  # at the border the first of a pair has bits that the padding cuts off
    inside = slice(margin, -margin or None)
    result = module(features)
    assert result.shape == expected.shape
    torch.testing.assert_close(
        result[..., inside, inside], expected[..., inside, inside], rtol=1e-4, atol=1e-5
    )


def test_feature_boundary_refinement():
    """Source: the paper's figure: S + R(S), R being convolution, ReLU, convolution."""
    module = BoundaryRefinement(K)
    scores = torch.randn(2, K, 6, 5)
    first = F.conv2d(scores, module.conv1.weight, module.conv1.bias, padding=1)
    refined = F.conv2d(first.clamp(min=0), module.conv2.weight, module.conv2.bias, padding=1)
    torch.testing.assert_close(module(scores), scores + refined)


def test_feature_doubling_begins_bilinear():
    """Source: torch's own interpolation, away from the border."""
    module = Doubling(2)
    module.start_bilinear()
    scores = torch.randn(1, 2, 5, 7)
    expected = F.interpolate(scores, scale_factor=2, mode="bilinear")
    doubled = module(scores)
    assert doubled.shape == expected.shape
    torch.testing.assert_close(doubled[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


@pytest.mark.parametrize("size", [(33, 47), (65, 64), (1, 100)])
@torch.no_grad()
def test_cardinality_gcn_deconv(size):
    """Odd sizes are rounded up on the way down, and cut back on the way up."""
    assert build(use_deconv=True).eval()(torch.randn(1, 3, *size)).shape == (1, K, *size)


@pytest.mark.parametrize("in_channels", [3, 4])
def test_feature_gcn_pretrained_file(in_channels, tmp_path, caplog):
    """Source: torchvision's ResNet, all of it."""
    theirs = published("resnet18")
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = build(pretrained=str(tmp_path / "weights.pth"), in_channels=in_channels).eval()
    images = torch.randn(1, 3, 40, 32)
    # Of four channels the fourth is another red, and all weigh 3/4.
    shared = torch.cat([images[:, :1] / 2, images[:, 1:], images[:, :1] / 2], dim=1) * 4 / 3
    with torch.no_grad():
        features = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        maps = model.backbone(images if in_channels == 3 else shared)
        for layer, ours in zip(("layer1", "layer2", "layer3", "layer4"), maps, strict=True):
            features = getattr(theirs, layer)(features)
            torch.testing.assert_close(ours, features, rtol=1e-4, atol=1e-4)
    assert not caplog.records


@pytest.mark.parametrize("stride", [1, 2])
def test_cardinality_global_block(stride):
    block = GlobalBlock(64, 256, stride=stride)
    assert block(torch.randn(2, 64, 7, 10)).shape == (2, 256, -(-7 // stride), 10 // stride)


def test_feature_resnet_gcn():
    """Source: the paper's figure of a block, 1024 channels outside and 85 inside, kernels of 5.

    It says that the two kinds of blocks were made to have about as many parameters.
    """
    model = build(backbone="resnet50", use_resnet_gcn=True)
    blocks = [m for m in model.backbone.modules() if isinstance(m, GlobalBlock)]
    assert len(blocks) == len(set(blocks)) == 6 + 3
    kept = [m for m in model.backbone.modules() if isinstance(m, Bottleneck)]
    assert len(kept) == 3 + 4
    shapes = [tuple(p.shape) for p in model.backbone.layer3[1].parameters() if p.dim() == 4]
    tall, wide = (5, 1), (1, 5)
    one, other = [(85, 1024, *tall), (85, 85, *wide)], [(85, 1024, *wide), (85, 85, *tall)]
    assert shapes == [*one, *other, (1024, 85, 1, 1)]
    for stage, channels in ((model.backbone.layer3, 1024), (model.backbone.layer4, 2048)):
        assert numel(stage[1]) == pytest.approx(numel(Bottleneck(channels, channels // 4)), rel=0.1)


def test_gradient_resnet_gcn():
    model = build(backbone="resnet50", use_resnet_gcn=True).train()
    logits = model(torch.randn(2, 3, 33, 40))
    assert logits.shape == (2, K, 33, 40)
    (logits.flatten() @ torch.randn(logits.numel())).backward()
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.any() for p in trainable)
    model.eval()
    maps = model.backbone(torch.randn(1, 3, 33, 40))
    sizes = [tuple(features.shape[2:]) for features in maps]
    assert sizes == [(9, 10), (5, 5), (3, 3), (2, 2)]


def test_feature_resnet_gcn_pretrained(tmp_path, caplog):
    """The weights of a plain ResNet fit up to layer2; what does not fit is said."""
    theirs = published("resnet50").state_dict()
    torch.save(theirs, tmp_path / "weights.pth")
    path = str(tmp_path / "weights.pth")
    with caplog.at_level(logging.WARNING):
        model = build(backbone="resnet50", use_resnet_gcn=True, pretrained=path)
    ours = model.backbone.state_dict()
    for key in ("layer1.0.conv1.weight", "layer2.3.conv3.weight", "layer3.0.downsample.0.weight"):
        assert torch.equal(ours[key], theirs[key])
    kept, left_over = (record.getMessage() for record in caplog.records)
    assert "keep their random values" in kept and "layer4.2.conv3.weight" in kept
    assert "layer2." not in kept
    assert "layer3.1.conv2.weight" in left_over


def test_feature_gcn_batchnorms_of_older_checkpoints():
    """The boundary refinement carries two BatchNorms that nothing depends on."""
    model = build().eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model(images)
        for key, value in model.state_dict().items():
            if key.startswith("br") and ".bn" in key and value.dtype == torch.float32:
                value.uniform_(2, 3)
        assert torch.equal(model(images), before)
    unused = [key for key, p in model.named_parameters() if not p.requires_grad]
    assert len(unused) == 9 * 4 and all(key.startswith("br") and ".bn" in key for key in unused)
