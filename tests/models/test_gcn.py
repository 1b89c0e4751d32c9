"""What is GCN's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.gcn import BoundaryRefinement, Doubling, GlobalBlock, GlobalConvolution
from models.resnet import Bottleneck
from tests.models.test_models import K
from tests.models.test_models import build as build_case
from tests.models.weights import saved, stirred


def build(**args):
    return build_case("GCN", **{"backbone": "resnet18", **args})


def numel(module):
    return sum(parameter.numel() for parameter in module.parameters())


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
    theirs = stirred("resnet50").state_dict()
    path = saved(theirs, tmp_path)
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
