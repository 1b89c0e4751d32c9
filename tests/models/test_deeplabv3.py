"""FCN and DeepLabV3, which torchvision has too."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import segmentation

import models
from tests.models.weights import stir

K = 5
PAIRS = [
    ("FCN", "fcn_resnet50", "resnet50"),
    ("FCN", "fcn_resnet101", "resnet101"),
    ("DeepLabV3", "deeplabv3_resnet50", "resnet50"),
    ("DeepLabV3", "deeplabv3_resnet101", "resnet101"),
]


def build(name, **args):
    return getattr(models, name)(K, **{"backbone": "resnet18", "pretrained": False, **args})


def theirs_of(function, aux):
    model = getattr(segmentation, function)(
        weights=None, weights_backbone=None, num_classes=K, aux_loss=aux
    )
    return stir(model)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "function", "backbone", "aux"),
    [
        pytest.param(*pair, aux, marks=[pytest.mark.slow] if "101" in pair[1] else [])
        for pair in PAIRS
        for aux in (True, False)
        if aux or "50" in pair[1]
    ],
)
def test_feature_from_torchvision(name, function, backbone, aux):
    """Source: torchvision's networks, with their weights under our names."""
    theirs, ours = theirs_of(function, aux), build(name, backbone=backbone)
    names = ours.foreign_names["torchvision"]
    weights = names.ours(theirs.state_dict())
    missing, unexpected = ours.load_state_dict(weights, strict=False)
    assert not unexpected and bool(missing) != aux
    assert all(key.startswith(names.optional) for key in missing)
    images = torch.randn(2, 3, 33, 48, dtype=torch.float64)

    # In training mode, for the auxiliary logits, but with nothing random and fixed statistics
    for model in (theirs, ours):
        # In double precision, since random weights let the activations grow with the depth
        model.double().train()
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.Dropout)):
                module.eval()
    with torch.no_grad():
        expected = theirs(images)
        logits, auxiliary_logits = ours(images)
    torch.testing.assert_close(logits, expected["out"], rtol=1e-5, atol=1e-5)
    if aux:
        torch.testing.assert_close(auxiliary_logits, expected["aux"], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "function", "backbone"), PAIRS[::2])
def test_feature_to_torchvision(name, function, backbone):
    """Source: torchvision's networks take our weights under their names, in their order."""
    ours = build(name, backbone=backbone).eval()
    stir(ours)
    for classifier in ours.classifier_modules():
        nn.init.normal_(classifier.weight)
    theirs = theirs_of(function, aux=True)
    weights = ours.foreign_names["torchvision"].theirs(ours.state_dict())
    assert list(weights) == list(theirs.state_dict())
    theirs.load_state_dict(weights)
    images = torch.randn(1, 3, 48, 65, dtype=torch.float64)
    with torch.no_grad():
        logits, expected = ours.double()(images), theirs.double()(images)["out"]
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["FCN", "DeepLabV3"])
def test_feature_torchvision_names(name):
    """Other weights are not taken for torchvision's."""
    assert getattr(models, name).aux_weight == 0.5  # torchvision's references/segmentation
    names = getattr(models, name).foreign_names["torchvision"]
    assert names.ours(torchvision.models.resnet18().state_dict()) is None
    assert names.ours(build(name).state_dict()) is None
    assert names.theirs(build(name, backbone="timm/convnext_atto").state_dict()) is None


@pytest.mark.parametrize("output_stride", [8, 16])
def test_feature_deeplabv3_dilations(output_stride):
    """Source: section 4.1 of the paper: 6, 12 and 18 at a stride of 16, twice that at 8."""
    model = build("DeepLabV3", output_stride=output_stride)
    branches = [model.aspp.aspp2, model.aspp.aspp3, model.aspp.aspp4]
    factor = 16 // output_stride
    assert [branch[0].dilation[0] for branch in branches] == [6 * factor, 12 * factor, 18 * factor]
    assert model.backbone(torch.randn(1, 3, 64, 64))[-1].shape[2] == 64 // output_stride
