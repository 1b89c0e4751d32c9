"""Max unpooling."""

import pytest
import torch
import torch.nn.functional as F

from models.unpooling import unpool


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 3), (4, 6), (7, 5), (6, 9)])
def test_feature_unpool(size, channels_last):
    """Source: torch's own, values and gradient."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    full = torch.randn(2, 3, *size).to(memory_format=layout)
    pooled, indices = F.max_pool2d(full, 2, ceil_mode=True, return_indices=True)
    features = torch.randn_like(pooled).requires_grad_()  # other values than were pooled
    unpooled = unpool(features, indices, size)
    expected = F.max_unpool2d(features, indices, 2, output_size=size)
    assert torch.equal(unpooled, expected)
    if pooled[0, 0].numel() > 1:  # else the layouts are the same
        assert unpooled.is_contiguous(memory_format=layout)
    weight = torch.randn_like(expected)
    gradient = torch.autograd.grad((unpooled * weight).sum(), features)
    expected_gradient = torch.autograd.grad((expected * weight).sum(), features)
    assert torch.equal(gradient[0], expected_gradient[0])


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 3), (4, 6), (7, 5), (6, 9), (12, 12)])
def test_feature_unpool_overlapping(size):
    """Source: a naive loop, in which a later value overwrites an earlier one."""
    full = torch.randn(2, 3, *size)
    pooled, indices = F.max_pool2d(full, 3, 2, padding=1, return_indices=True)
    features = torch.randn_like(pooled)
    expected = torch.zeros_like(full)
    for b, c, i, j in torch.cartesian_prod(*map(torch.arange, features.shape)).tolist():
        expected[b, c].view(-1)[indices[b, c, i, j]] = features[b, c, i, j]
    assert torch.equal(unpool(features, indices, size, kernel_size=3), expected)


def test_gradient_unpool_overlapping():
    """Source: finite differences."""
    full = torch.randn(1, 2, 5, 6)
    pooled, indices = F.max_pool2d(full, 3, 2, padding=1, return_indices=True)
    features = torch.randn_like(pooled).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: unpool(x, indices, (5, 6), kernel_size=3), features)


@pytest.mark.gpu
@pytest.mark.parametrize("kernel_size", [2, 3])
def test_feature_unpool_deterministic(kernel_size):
    """Source: the same on the CPU."""
    full, weight = torch.randn(2, 2, 3, 10, 8)
    gradients = []
    torch.use_deterministic_algorithms(True)
    try:
        for device in ("cpu", "cuda"):
            images = full.to(device).requires_grad_()
            pool = torch.nn.MaxPool2d(kernel_size, 2, kernel_size - 2, return_indices=True)
            pooled, indices = pool(images)
            unpooled = unpool(pooled * pooled, indices, (10, 8), kernel_size=kernel_size)
            (unpooled * weight.to(device)).sum().backward()
            assert images.grad is not None
            gradients.append(images.grad.cpu())
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(gradients[1], gradients[0])
