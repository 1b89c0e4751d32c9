"""The parts that several models are made of: pooling, ResNet trunks, timm's backbones."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision

from models.pooling import adaptive_average_pool
from models.resnet import ResNet


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


# Pooling


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6), (12, 9), (13, 60)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_feature_pooling(size: tuple[int, int], bins: int) -> None:
    """Source: torch's adaptive average pooling, values and gradient."""
    features = torch.randn(2, 4, *size, requires_grad=True)
    pooled, expected = adaptive_average_pool(features, bins), F.adaptive_avg_pool2d(features, bins)
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-6)
    weight = torch.randn_like(pooled)
    gradient = torch.autograd.grad((pooled * weight).sum(), features)
    expected_gradient = torch.autograd.grad((expected * weight).sum(), features)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_feature_pooling_precision(dtype: torch.dtype) -> None:
    """Source: torch's own in double precision; half precision is to round once, at the end."""
    features = torch.rand(1, 2, 11, 23).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        pooled = adaptive_average_pool(features, 3)
    expected = F.adaptive_avg_pool2d(features.double(), 3)
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled, expected.to(dtype), rtol=4 * torch.finfo(dtype).eps, atol=0)


# ResNet


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
def test_feature_basic_block_dilation(backbone: str) -> None:
    """Source: by hand. A stage's first block has half the dilation, but not in its second conv."""
    trunk: Any = ResNet(backbone, output_stride=8)
    for stage, first, others in ((trunk.layer2, 1, 1), (trunk.layer3, 1, 2), (trunk.layer4, 2, 4)):
        for index, block in enumerate(stage):
            assert block.conv1.dilation[0] == (others if index else first)
            assert block.conv2.dilation[0] == others


def test_feature_bottleneck_stages() -> None:
    """Source: torchvision's dilated resnet50, layer2 to layer4, which differ in nothing."""
    trunk = ResNet("resnet50", output_stride=8).eval()
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]).eval()
    features = torch.randn(1, 256, 10, 12)
    with torch.no_grad():
        expected = features
        for stage in ("layer2", "layer3", "layer4"):
            getattr(trunk, stage).load_state_dict(getattr(theirs, stage).state_dict())
            features, expected = getattr(trunk, stage)(features), getattr(theirs, stage)(expected)
    assert features.shape == (1, 2048, 5, 6)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
