"""What is DeepLab's own: its backbones, the pyramid pooling, DUC and HDC."""

import functools

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from models.aspp import ASPP, USUAL_DILATIONS
from models.deeplab_duc_hdc import DUC, hybrid_dilations
from models.drn import DRN
from models.mobilenetv2 import MobileNetV2
from models.pretrained import weights_url
from models.resnet import RESNETS
from models.xception import Xception, from_plain
from tests.models.test_models import K, assert_channels_last
from tests.models.test_models import build as build_case
from tests.models.weights import saved, stir

build = functools.partial(build_case, "DeepLab")


# DeepLab


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["xception", "drn"])
def test_gradient_deeplab_backbones(backbone):
    model = build(backbone=backbone, output_stride=8).train()
    logits = model(torch.randn(2, 3, 32, 32))
    (logits * torch.randn_like(logits)).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), key


@pytest.mark.parametrize("backbone", ["xception", "drn"])
def test_feature_deeplab_backbones_channels_last(backbone):
    assert_channels_last(build(backbone=backbone, output_stride=8))


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("backbone", ["resnet18", "xception", "mobilenet_v2", "timm/convnext_atto"])
def test_cardinality_deeplab_features(backbone, output_stride):
    model = build(backbone=backbone, output_stride=output_stride).eval()
    with torch.no_grad():
        maps = model.backbone(torch.randn(1, 3, 65, 80))
    assert maps[0].shape == (1, model.backbone.channels[0], 17, 20)
    height, width = -(-65 // output_stride), 80 // output_stride
    assert maps[-1].shape == (1, model.backbone.channels[-1], height, width)


@pytest.mark.parametrize(("output_stride", "third", "fourth"), [(16, {1}, {2}), (8, {2}, {4})])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_feature_deeplab_resnet_dilations(backbone, output_stride, third, fourth):
    """Source: by hand; the first block of a stage has the full dilation as well."""
    trunk = build(backbone=backbone, output_stride=output_stride).backbone
    for stage, expected in ((trunk.layer2, {1}), (trunk.layer3, third), (trunk.layer4, fourth)):
        convs = [m for m in stage.modules() if getattr(m, "kernel_size", None) == (3, 3)]
        assert {conv.dilation[0] for conv in convs} == expected


# Pyramid pooling


@pytest.mark.parametrize("output_stride", [8, 16])
def test_feature_aspp(output_stride):
    """Source: torchvision's pyramid pooling. Its rates for 8 are its DeepLab V3's own."""
    from torchvision.models.segmentation import deeplabv3

    rates = USUAL_DILATIONS[output_stride]
    if output_stride == 8:
        head = deeplabv3.DeepLabHead(12, K)
        assert [branch[0].dilation[0] for branch in head[0].convs[1:4]] == list(rates)
    theirs = deeplabv3.ASPP(12, rates, 16).eval()
    stir(theirs)
    ours = ASPP(12, rates, 16).eval()
    values = theirs.state_dict().values()  # in the same order
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    features = torch.randn(2, 12, 30, 41)
    with torch.no_grad():
        torch.testing.assert_close(ours(features), theirs(features), rtol=1e-4, atol=1e-5)


# Backbones


def test_feature_mobilenetv2():
    """Source: torchvision's, up to its last block."""
    theirs = torchvision.models.mobilenet_v2().eval()
    stir(theirs)
    ours = MobileNetV2(output_stride=32).eval()
    weights = {k: v for k, v in theirs.state_dict().items() if k in ours.state_dict()}
    assert list(weights) == list(ours.state_dict())
    ours.load_state_dict(weights)
    images = torch.randn(1, 3, 65, 96)
    with torch.no_grad():
        stride4, deep = ours(images)
        torch.testing.assert_close(stride4, theirs.features[:4](images))
        torch.testing.assert_close(deep, theirs.features[:18](images))


@pytest.mark.parametrize(
    ("backbone", "dense", "sparse"),
    [(MobileNetV2, 16, 32), (MobileNetV2, 8, 32), (Xception, 8, 16)],
)
def test_feature_dilation(backbone, dense, sparse):
    """Source: the algorithme a trous. Between its new positions are the old ones, unchanged."""
    coarse = backbone(output_stride=sparse).eval()
    stir(coarse)
    fine = backbone(output_stride=dense).eval()
    fine.load_state_dict(coarse.state_dict())
    step = sparse // dense
    images = torch.randn(1, 3, 97, 128)
    with torch.no_grad():
        features, expected = fine(images)[-1], coarse(images)[-1]
    torch.testing.assert_close(features[:, :, ::step, ::step], expected, rtol=1e-3, atol=1e-4)


def test_feature_drn():
    """Source: the published network has 35,809,176 parameters, 513,000 in its classifier."""
    trunk = DRN()
    assert sum(parameter.numel() for parameter in trunk.parameters()) == 35_809_176 - 513_000
    dilations = {
        name: {m.dilation[0] for m in getattr(trunk, name).modules() if hasattr(m, "dilation")}
        for name in ("layer3", "layer4", "layer5", "layer6", "layer7", "layer8")
    }
    # Figure 5 of the paper; the 1x1 convolutions have 1.
    assert list(dilations.values()) == [{1}, {1}, {1, 2}, {1, 4}, {2}, {1}]


def test_feature_xception_leaves_its_tensors_alone():
    trunk = Xception().eval()
    stir(trunk)
    images = torch.randn(1, 3, 32, 32)
    before = images.clone()
    with torch.no_grad():
        stride4, deep = trunk(images)
        stem = F.relu(trunk.bn1(trunk.conv1(images)))
        expected = trunk.block1(trunk.bn2(trunk.conv2(stem)))
    assert torch.equal(images, before)
    assert stride4.min() < 0 and torch.equal(stride4, expected)
    assert deep.min() == 0


# Pretrained weights


def test_feature_deeplab_pretrained_drn(tmp_path, caplog):
    """Source of the names: the published file, which has a convolution as classifier."""
    theirs = DRN().state_dict()
    theirs = {k: v for k, v in theirs.items() if not k.endswith("num_batches_tracked")}
    theirs |= {"fc.weight": torch.zeros(1000, 512, 1, 1), "fc.bias": torch.zeros(1000)}
    file = saved(theirs, tmp_path)
    model = build(backbone="drn", output_stride=8, pretrained=file, in_channels=4)
    state = model.state_dict()
    expected = theirs["layer0.0.weight"][:, [0, 1, 2, 0]] * 3 / 4
    torch.testing.assert_close(state["backbone.layer0.0.weight"], expected)
    assert torch.equal(state["backbone.layer8.0.weight"], theirs["layer8.0.weight"])
    assert not caplog.records


def test_feature_deeplab_pretrained_xception(tmp_path, caplog):
    """Source of the names and shapes: timm's port of the plain Xception."""
    theirs = timm.create_model("legacy_xception").state_dict()
    published = {
        key: value[:, :, 0, 0] if key.endswith("pointwise.weight") else value
        for key, value in theirs.items()
        if not key.endswith("num_batches_tracked")  # the file is older than they are
    }
    model = build(backbone="xception", pretrained=saved(published, tmp_path), in_channels=4)
    state = {k.removeprefix("backbone."): v for k, v in model.state_dict().items()}
    expected = theirs["conv1.weight"][:, [0, 1, 2, 0]] * 3 / 4
    torch.testing.assert_close(state["conv1.weight"], expected)
    same = ["block1.rep.3.pointwise", "block11.rep.7.conv1", "conv3.pointwise", "block10.rep.8"]
    sources = {
        **{f"{name}.weight": f"{name}.weight" for name in same},
        "block19.rep.7.conv1.weight": "block11.rep.7.conv1.weight",
        "block12.rep.2.weight": "block11.rep.2.weight",
        "block20.skip.weight": "block12.skip.weight",
        "block20.rep.4.pointwise.weight": "block12.rep.4.pointwise.weight",
        "conv5.pointwise.weight": "conv4.pointwise.weight",
        "bn5.running_var": "bn4.running_var",
    }
    for ours, source in sources.items():
        assert torch.equal(state[ours], theirs[source]), ours

    (record,) = caplog.records  # nothing of the file is left over
    kept = record.getMessage().rpartition(": ")[2].split(", ")
    inside = [k for k in kept if ".bn." in k]  # the BatchNorm inside a separable convolution
    blocks = [f"block{n}.rep.{i}" for n in (1, 2, 3, 20) for i in (6, 7, 8)]
    new = {k.rpartition(".")[0] for k in kept if k not in inside}
    new = {k.removesuffix(".conv1").removesuffix(".pointwise") for k in new}
    assert new <= {*blocks, "conv4", "bn4"}
    assert len(inside) == 4 * sum(k.endswith("pointwise.weight") for k in state)


def test_feature_xception_aligned_file():
    weights = Xception().state_dict()
    assert list(from_plain(weights)) == list(weights)


def test_feature_deeplab_urls():
    for name in (MobileNetV2.weights_name, Xception.weights_name, DRN.weights_name):
        assert weights_url(name).endswith(".pth")


# DUC and HDC


def test_feature_hybrid_dilations():
    """Source: section 4.3 of the paper. Groups of 1, 2, 3 and a rest of 2; then 3, 4, 5."""
    third, fourth = hybrid_dilations("resnet101", 8)
    assert third == [1, 2, 3] * 7 + [2, 2] and fourth == [3, 4, 5]
    for name in RESNETS:
        with torch.device("meta"):
            model = build_case("DeepLab_DUC_HDC", backbone=name)
        conv = "conv1" if name in ("resnet18", "resnet34") else "conv2"
        third, fourth = hybrid_dilations(name, 8)
        for stage, expected in ((model.backbone.layer3, third), (model.backbone.layer4, fourth)):
            assert [getattr(block, conv).dilation[0] for block in stage] == expected


def test_feature_duc():
    """Source: by hand. Channel c of the position (y, x) in its square is c * 4 + 2 * y + x."""
    duc = DUC(1, 2, 2).eval()
    nn.init.ones_(duc.conv.weight)
    with torch.no_grad():
        duc.bn.bias.copy_(torch.arange(8.0))
        upsampled = duc(torch.zeros(1, 1, 1, 2))
    square = [[0.0, 1.0, 0.0, 1.0], [2.0, 3.0, 2.0, 3.0]]
    expected = torch.tensor([square, [[v + 4 for v in row] for row in square]])
    torch.testing.assert_close(upsampled[0], expected)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_cardinality_duc_hdc(output_stride):
    """Source: by hand. An older version gave 100x132 here."""
    model = build_case("DeepLab_DUC_HDC", output_stride=output_stride).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 97, 131))
        whole = model(torch.randn(1, 3, 96, 128))
    assert logits.shape == (1, K, 97, 131) and logits.min() >= 0
    assert whole.shape == (1, K, 96, 128)
