"""What is FCN8's own."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.models.test_models import K
from tests.models.test_models import build as build_case
from tests.models.weights import narrow_vgg, saved

build = functools.partial(build_case, "FCN8")


def test_feature_fcn8_pretrained(tmp_path, caplog):
    """Source: torchvision's features with the padding put in by hand, and its classifier."""
    theirs = narrow_vgg()
    model = build(pretrained=saved(theirs.state_dict(), tmp_path)).eval()
    assert not caplog.records
    images = torch.randn(1, 3, 26, 26)  # 26 + 198 is a multiple of 32, so nothing is rounded
    theirs.features[0].padding = (100, 100)
    with torch.no_grad():
        expected = theirs.features(images)
        features = model.pool5(model.pool4(model.pool3(images)))
        assert features.shape == expected.shape == (1, 32, 7, 7)
        torch.testing.assert_close(features, expected)
        expected = theirs.classifier[:6](expected.flatten(1))
        hidden = model.output[:6](features)
    torch.testing.assert_close(hidden, expected[:, :, None, None])


@pytest.mark.parametrize(("name", "factor"), [("up_output", 2), ("up_final", 8)])
def test_feature_fcn8_upsampling(name, factor):
    """Source: torch's bilinear interpolation, away from the border, where it repeats the edge."""
    scores = torch.randn(2, K, 5, 6)
    with torch.no_grad():
        upsampled = getattr(build(), name)(scores)
    expected = F.interpolate(scores, scale_factor=factor, mode="bilinear")
    inner, outer = factor // 2, factor
    torch.testing.assert_close(
        upsampled[:, :, outer:-outer, outer:-outer], expected[:, :, inner:-inner, inner:-inner]
    )


def test_feature_fcn8_strides():
    """Source: the paper's table 1. Every prediction of stride 32 sees 404x404 pixels."""
    model = build().eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):  # positive everywhere, so that nothing is cut off
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    images = torch.rand(1, 3, 538, 538, requires_grad=True)
    scores = model.output(model.pool5(model.pool4(model.pool3(images))))
    assert scores.shape[2:] == (17, 17)
    # Pooling passes on the largest only; averages instead show all that a score can see.
    for stage in (model.pool3, model.pool4, model.pool5):
        for index, module in enumerate(stage):
            if isinstance(module, nn.MaxPool2d):
                stage[index] = nn.AvgPool2d(2)
    scores = model.output(model.pool5(model.pool4(model.pool3(images))))
    scores[0, 0, 8, 8].backward()
    assert images.grad is not None
    rows = images.grad[0].sum(dim=(0, 2)).nonzero()
    assert rows.max() - rows.min() + 1 == 404


def test_feature_fcn8_freeze_backbone():
    model = build(freeze_backbone=True)
    names = {key.rpartition(".")[0] for key, p in model.named_parameters() if p.requires_grad}
    scores = {"adj_pool3", "adj_pool4", "output.6"}
    assert names == scores | {"up_output", "up_pool4_out", "up_final"}
