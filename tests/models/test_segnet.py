"""What is SegNet's own."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import models

K = 3


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def build(**args):
    return models.SegNet(K, **{"base_channels": 4, "pretrained": False, **args})


def published():
    """A narrow VGG-16 with BatchNorm under the names that are published."""
    widths = [4, 4, "M", 8, 8, "M", 16, 16, 16, "M", 32, 32, 32, "M", 32, 32, 32, "M"]
    features = torchvision.models.vgg.make_layers(widths, batch_norm=True)
    for norm in features:
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    layers = [nn.Linear(32 * 7 * 7, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.ReLU()]
    classifier = nn.Sequential(*layers, nn.Dropout(), nn.Linear(8, 1000))
    return nn.ModuleDict({"features": features, "classifier": classifier}).eval()


def test_feature_published_names():
    """Source: torchvision's VGG-16 with BatchNorm."""
    with torch.device("meta"):
        theirs = torchvision.models.vgg16_bn().state_dict()
    assert list(published().state_dict()) == list(theirs)


def test_feature_segnet_pretrained(tmp_path, caplog):
    """Source: torchvision's network."""
    theirs = published()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = build(pretrained=str(tmp_path / "weights.pth")).eval()
    assert not caplog.records
    features = images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for stage in model.backbone_modules():
            features = F.max_pool2d(stage(features), 2)
        torch.testing.assert_close(features, theirs.features(images))


def test_smoke_segnet_pretrained_in_channels(tmp_path, caplog):
    weights = published().state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    model = build(in_channels=4, pretrained=str(tmp_path / "weights.pth"))
    expected = weights["features.0.weight"][:, [0, 1, 2, 0]] * 3 / 4
    torch.testing.assert_close(model.stage1_encoder[0].weight, expected)
    assert not caplog.records


def test_exception_segnet_arguments():
    with pytest.raises(ValueError, match="base_channels must be at least 1, got 0"):
        build(base_channels=0)
    with pytest.raises(ValueError, match="fit base_channels=64 only, got 4: set pretrained to"):
        build(pretrained=True)


def test_feature_segnet_decoder_mirrors_encoder():
    """Source: the paper, section 3. Each encoder layer has a decoder layer: 13 and 13."""
    model = build()
    encoder, decoder = (
        [m.weight.shape[:2] for stage in stages for m in stage if isinstance(m, nn.Conv2d)]
        for stages in (model.backbone_modules(), model.decoder_modules())
    )
    assert len(encoder) == 13
    # From back to front with input and output exchanged, but for the image.
    mirrored = [torch.Size((before, after)) for after, before in reversed(encoder)]
    assert decoder == [*mirrored[:-1], (4, 4), (K, 4)]


def test_feature_segnet_uses_positions():
    """Source: the paper, figure 3. A maximum comes back where it was, not where its cell begins."""
    model = build().eval()
    for stage in (*model.backbone_modules(), *model.decoder_modules()):
        for module in stage:
            if isinstance(module, nn.Conv2d):  # each convolution passes its first channel on
                nn.init.zeros_(module.weight)
                module.weight.data[0, 0, 1, 1] = 1
    images = torch.zeros(1, 3, 67, 70)
    images[0, 0, 13, 45] = images[0, 0, 66, 69] = 1  # the second where sizes are rounded up
    with torch.no_grad():
        logits = model(images)
    assert logits[0, 0].nonzero().tolist() == [[13, 45], [66, 69]]


def test_exception_single_value():
    model = build().train()
    with pytest.raises(ValueError, match="one value per channel"):
        model(torch.randn(1, 3, 16, 16))
    model(torch.randn(1, 3, 16, 17))  # two values are enough
