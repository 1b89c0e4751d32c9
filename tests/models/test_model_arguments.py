"""What several models say of their arguments, and the networks that these choose."""

import pytest
import torch

from models.resnet import RESNETS
from tests.models.test_models import CASES, K, as_params, as_tuple, build, copied, parameters_of

STRIDE = r"output_stride must be 8 or 16, got "
WRONG = [
    ("DeepLab", {"output_stride": 32}, STRIDE + "32"),
    (
        "DeepLab",
        {"backbone": "drn", "output_stride": 16},
        "drn has .* 8 .*: set output_stride to 8",
    ),
    ("DeepLab", {"backbone": "timm/swin_tiny_patch4_window7_224"}, "cannot leave out str.* not 16"),
    ("DeepLabV3", {"output_stride": 32}, STRIDE + "32"),
    ("DeepLab_DUC_HDC", {"output_stride": 4}, STRIDE + "4"),
    ("DeepLab_DUC_HDC", {"backbone": "xception"}, '"xception" is not a choice'),
    ("FCN8", {"base_channels": 0}, "base_channels must be at least 1, got 0"),
    ("FCN8", {"hidden_channels": -1}, "hidden_channels must be at least 1, got -1"),
    (
        "FCN8",
        {"base_channels": 64, "hidden_channels": 8, "pretrained": True},
        "fit base_channels=64 .* only, got 64 and 8: set pretr",
    ),
    ("GCN", {"num_filters": 10}, "num_filters must be odd and at least 1, got 10"),
    ("GCN", {"num_filters": -1}, "num_filters must be odd and at least 1, got -1"),
    (
        "GCN/deconv",
        {"use_resnet_gcn": True},
        "resnet18 does not have: choose resnet50, resnet101, resnet152",
    ),
    ("PSPDenseNet", {"stem": "deep", "pretrained": True}, "no ImageNet weights for a deep stem"),
    ("PSPDenseNet", {"stem": "deep", "pretrained": "a.pth"}, "set pretrained to false"),
    ("PSPDenseNet", {"stem": "shallow"}, 'stem must be "auto", "plain" or "deep", got \'shallow\''),
    ("SegNet", {"base_channels": 0}, "base_channels must be at least 1, got 0"),
    ("SegNet", {"pretrained": True}, "fit base_channels=64 only, got 4: set pretrained to"),
    ("UNet", {"base_channels": 0}, "base_channels must be even and at least 2, got 0"),
    ("UNet", {"base_channels": 7}, "base_channels must be even and at least 2, got 7"),
    ("UperNet", {"fpn_out": 0}, "fpn_out must be at least 1, got 0"),
]


@pytest.mark.parametrize(("case", "args", "message"), WRONG)
def test_exception_value(case, args, message):
    with pytest.raises(ValueError, match=message):
        build(case, **args)


@pytest.mark.parametrize("case", [c for c in CASES if "/" not in c and "backbone" in CASES[c]])
def test_exception_backbone(case):
    name = CASES[case]["backbone"]
    with pytest.raises(ValueError, match=f'"{name[:-1]}" is not a choice; did you mean .{name}'):
        build(case, backbone=name[:-1])


# The largest side whose features shrink to one value; none where an average over the image is one.
SINGLE_VALUE = {
    **{"ENet": 8, "FCN": 8, "UNetResnet": 8, "SegNet": 16, "UNet": 16},
    **{"GCN": 32, "SegResNet": 32, "SMP": 32},
    **dict.fromkeys(["DeepLab", "DeepLabV3", "PSPDenseNet", "PSPNet", "UperNet", "SMP/PAN"]),
}


@pytest.mark.parametrize("case", SINGLE_VALUE)
def test_exception_single_value(case):
    side = SINGLE_VALUE[case] or 64
    model = copied(case)
    with pytest.raises(ValueError, match="one value per channel"):
        model(torch.randn(1, 3, side, side))
    if SINGLE_VALUE[case]:
        model(torch.randn(1, 3, side, side + 1))  # two values are enough


@pytest.mark.parametrize("case", as_params(c for c in CASES if "use_aux" in parameters_of(c)))
def test_feature_without_auxiliary_head(case):
    model = build(case, use_aux=False).train()
    assert isinstance(model(torch.randn(2, 3, 32, 32)), torch.Tensor)
    inside = {key for key, _ in model.named_parameters() if key.startswith("auxiliary_")}
    assert inside and inside == {k for k, p in model.named_parameters() if not p.requires_grad}
    build(case).load_state_dict(model.state_dict())


# Beside those of `CASES`
BACKBONES = {
    "DeepLab": (*RESNETS[1:], "xception", "drn", "timm/convnext_atto"),
    "DeepLabV3": ("resnet34", "timm/convnext_atto"),
    "FCN": ("resnet34", "timm/convnext_atto"),
    "PSPDenseNet": ("densenet161", "densenet169", "densenet201"),
    "PSPNet": RESNETS[1:],
    "SegResNet": RESNETS[1:],
    "UNetResnet": RESNETS[1:],
    "UperNet": ("resnet34", "resnet50", "timm/swin_tiny_patch4_window7_224"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), [(c, n) for c in BACKBONES for n in BACKBONES[c]])
def test_smoke_backbones(case, name):
    stride = {"output_stride": 8} if case == "DeepLab" else {}
    model = build(case, backbone=name, in_channels=4, **stride).train()
    with torch.no_grad():
        outputs = as_tuple(model(torch.randn(2, 4, 33, 40)))
    assert [logits.shape for logits in outputs] == [(2, K, 33, 40)] * len(outputs)
    heads = 2 if "use_aux" in parameters_of(case) else 1
    assert len(outputs) == heads


@pytest.mark.parametrize(
    ("name", "heads"),
    [("PSPNet", ["master_branch", "auxiliary_branch"]), ("DeepLab", ["ASSP", "decoder"])],
)
def test_feature_parameter_order(name, heads):
    """Source: the order in which older optimizer states hold the two groups."""
    model = build(name)
    name_of = {id(parameter): key.split(".")[0] for key, parameter in model.named_parameters()}
    decoder = dict.fromkeys(name_of[id(p)] for p in model.get_decoder_params())
    backbone = dict.fromkeys(name_of[id(p)] for p in model.get_backbone_params())
    layers = ["initial", "layer1", "layer2", "layer3", "layer4"]
    assert list(decoder) == heads
    assert list(backbone) == (layers if name == "PSPNet" else ["backbone"])
