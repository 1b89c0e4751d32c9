"""What is UNetResnet's own."""

import functools

import torch
from torch import nn

from tests.models.test_models import build as build_case

build = functools.partial(build_case, "UNetResnet")


def test_cardinality_unet_resnet_decoder():
    """Source: by hand, for 75x50, which is rounded up to 10x7 at stride 8 and 19x13 at stride 4."""
    model = build().eval()
    shapes = []
    for index in range(1, 8):
        conv = getattr(model, f"conv{index}")
        conv.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape[1:])))
    with torch.no_grad():
        model(torch.randn(1, 3, 75, 50))
    deep = [(512, 10, 7), (128 + 256, 10, 7), (96 + 128, 10, 7), (64 + 64, 19, 13)]
    assert shapes == [*deep, (48, 38, 26), (32, 75, 50), (32, 75, 50)]


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
