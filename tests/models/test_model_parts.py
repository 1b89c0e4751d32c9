"""The parts that several models are made of: pooling, ResNet trunks, timm's backbones."""

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file

from models.pooling import adaptive_average_pool
from models.pretrained import adapt_first_layer
from models.resnet import ResNet
from models.timm_backbone import TimmBackbone, timm_weights
from tests.models.weights import saved

# Pooling


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6), (12, 9), (13, 60)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_feature_pooling(size, bins, layout):
    """Source: torch's adaptive average pooling, values and gradient."""
    features = torch.randn(2, 4, *size).to(memory_format=layout).requires_grad_()
    pooled, expected = adaptive_average_pool(features, bins), F.adaptive_avg_pool2d(features, bins)
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-6)
    assert size == (1, 1) or pooled.is_contiguous(memory_format=layout)
    weight = torch.randn_like(pooled)
    gradient = torch.autograd.grad((pooled * weight).sum(), features)
    expected_gradient = torch.autograd.grad((expected * weight).sum(), features)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_feature_pooling_precision(dtype):
    """Source: torch's own in double precision; half precision is to round once, at the end."""
    features = torch.rand(1, 2, 11, 23).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        pooled = adaptive_average_pool(features, 3)
    expected = F.adaptive_avg_pool2d(features.double(), 3)
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled, expected.to(dtype), rtol=4 * torch.finfo(dtype).eps, atol=0)


# ResNet


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
def test_feature_basic_block_dilation(backbone):
    """Source: by hand. A stage's first block has half the dilation, but not in its second conv."""
    trunk = ResNet(backbone, output_stride=8)
    for stage, first, others in ((trunk.layer2, 1, 1), (trunk.layer3, 1, 2), (trunk.layer4, 2, 4)):
        for index, block in enumerate(stage):
            assert block.conv1.dilation[0] == (others if index else first)
            assert block.conv2.dilation[0] == others


def test_feature_bottleneck_stages():
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


# timm's networks


@pytest.mark.parametrize(
    "name", ["convnext_atto", "resnet18", "mobilenetv3_small_050", "pvt_v2_b0", "darknet17"]
)
@pytest.mark.parametrize("size", [(64, 96), (33, 47), (5, 1)])
def test_cardinality_timm_pyramid(name, size):
    backbone = TimmBackbone(name, in_channels=4).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(2, 4, *size))
    for features, channels, stride in zip(maps, backbone.channels, (4, 8, 16, 32), strict=True):
        assert features.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))


def test_feature_timm_same_features():
    """Source: timm, of an image that needs no filling up."""
    theirs = timm.create_model("convnext_atto", features_only=True).eval()
    backbone = TimmBackbone("convnext_atto").eval()
    backbone.network.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for features, expected in zip(backbone(images), theirs(images), strict=True):
            assert torch.equal(features, expected)


def test_feature_timm_channels_last_networks():
    """Source: timm; Swin gives (B, H, W, C)."""
    backbone = TimmBackbone("swin_tiny_patch4_window7_224").eval()
    assert not backbone.channels_first
    with torch.no_grad():
        images = torch.randn(1, 3, 64, 64)
        expected = backbone.network(images)[-1].permute(0, 3, 1, 2)
        assert torch.equal(backbone(images)[-1], expected)


@pytest.mark.parametrize(("stride", "strides"), [(8, (4, 8, 8, 8)), (16, (4, 8, 16, 16))])
def test_cardinality_timm_output_stride(stride, strides):
    backbone = TimmBackbone("convnext_atto", output_stride=stride).eval()
    assert backbone.strides == strides
    with torch.no_grad():
        sizes = [tuple(f.shape[2:]) for f in backbone(torch.randn(1, 3, 64, 64))]
    assert sizes == [(64 // s, 64 // s) for s in strides]


@pytest.mark.parametrize("name", ["convnext_atto", "resnet18", "hrnet_w18_small"])
def test_gradient_timm_every_trainable_parameter(name):
    backbone = TimmBackbone(name)
    sum(f.square().sum() for f in backbone(torch.randn(2, 3, 64, 64))).backward()
    for key, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("convnext_tinny", {}, "no network named 'convnext_tinny'; did you mean 'convnext"),
        ("vit_tiny_patch16_224", {}, "has features at strides 16"),
        ("maxvit_rmlp_pico_rw_256", {}, "cannot be run on an image of 64x96"),
        ("swin_tiny_patch4_window7_224", {"output_stride": 8}, "cannot leave out strides"),
        ("hrnet_w18_small", {"output_stride": 16}, "cannot leave out strides"),
    ],
)
def test_exception_timm(name, settings, message):
    with pytest.raises(ValueError) as caught:
        TimmBackbone(name, **settings)
    assert message in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_feature_timm_weights_from_a_file(channels, tmp_path):
    """Source: timm's network whose weights they are."""
    theirs = timm.create_model("convnext_atto")
    for value in theirs.parameters():
        value.data.normal_()
    path = saved(theirs.state_dict(), tmp_path)
    backbone = TimmBackbone("convnext_atto", in_channels=channels, pretrained=path)
    own, weights = backbone.state_dict(), theirs.state_dict()
    expected = adapt_first_layer(weights["stem.0.weight"], channels)
    torch.testing.assert_close(own["network.stem_0.weight"], expected)
    for key in ("stages.0.blocks.0.conv_dw.weight", "stages.3.downsample.1.bias"):
        assert torch.equal(own[f"network.{key.replace('.', '_', 1)}"], weights[key])


def test_feature_timm_reports_what_is_missing(tmp_path, caplog):
    weights = timm.create_model("convnext_atto").state_dict()
    del weights["stages.1.blocks.0.norm.weight"]
    TimmBackbone("convnext_atto", pretrained=saved(weights, tmp_path))
    (record,) = caplog.records
    assert record.getMessage().startswith("1 weights of timm/convnext_atto are not in")
    assert record.getMessage().endswith("stages.1.blocks.0.norm.weight")
    path = saved({"a.weight": torch.zeros(1)}, tmp_path)
    with pytest.raises(ValueError, match="no weights of timm/convnext_atto"):
        TimmBackbone("convnext_atto", pretrained=path)


def test_feature_timm_reports_what_is_left_over(tmp_path, caplog):
    """A pyramid has no classifier, which is no news; a block too many is."""
    weights = timm.create_model("resnet18").state_dict()
    TimmBackbone("resnet18", pretrained=saved(weights, tmp_path))
    assert not caplog.records
    weights["layer1.2.conv1.weight"] = torch.zeros(64, 64, 3, 3)
    TimmBackbone("resnet18", pretrained=saved(weights, tmp_path))
    (record,) = caplog.records
    assert record.getMessage().startswith("1 weights of")
    assert "by timm/resnet18" in record.getMessage()
    assert record.getMessage().endswith("layer1.2.conv1.weight")


def test_feature_timm_earlier_download(tmp_path, monkeypatch):
    """A file in the hub's folder is taken without a word to the network."""
    repository = tmp_path / "models--timm--convnext_atto.d2_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_file(timm.create_model("convnext_atto").state_dict(), snapshot / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("models.timm_backbone.no_answer", lambda url: pytest.fail(url))
    assert timm_weights("convnext_atto") == snapshot / "model.safetensors"
    TimmBackbone("convnext_atto", pretrained=True)


def test_exception_timm_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("models.timm_backbone.no_answer", lambda url: "no answer within 3 s")
    with pytest.raises(ValueError) as caught:
        TimmBackbone("convnext_atto", pretrained=True)
    url = "https://huggingface.co/timm/convnext_atto.d2_in1k/resolve/main/model.safetensors"
    assert f"Fetch {url} on a machine that can" in str(caught.value)
