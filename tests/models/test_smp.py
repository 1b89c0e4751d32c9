"""What is SMP's own: the library as the source of every number."""

import socket
from typing import Any

import pytest
import segmentation_models_pytorch as library
import timm
import torch
from safetensors.torch import save_file

import models
from models.pooling import AveragePool
from models.pretrained import adapt_first_layer
from models.smp import ARCHITECTURES
from tests.models.weights import saved
from tests.slow import mark_slow

ENCODERS = {"DPT": "tu-vit_tiny_patch16_224", "Segformer": "mit_b0"}
SMALL: dict[str, dict[str, Any]] = {
    "DPT": {"decoder_intermediate_channels": [16] * 4, "decoder_fusion_channels": 16}
}


def build(architecture="Unet", **args):
    defaults = {
        "encoder_name": ENCODERS.get(architecture, "resnet18"),
        "encoder_weights": None,
        "options": SMALL.get(architecture),
    }
    return models.SMP(3, architecture=architecture, **{**defaults, **args})


def theirs(architecture):
    extra = {"dynamic_img_size": True} if architecture == "DPT" else {}
    network = getattr(library, architecture)(
        encoder_name=ENCODERS.get(architecture, "resnet18"),
        encoder_weights=None,
        classes=3,
        **SMALL.get(architecture, {}),
        **extra,
    )
    disturb(network)
    return network.eval()


def disturb(network):
    """Random statistics and affine parameters, so that no zero hides a difference."""
    for key, value in network.state_dict().items():
        if key.endswith("running_var") or (key.endswith("weight") and value.dim() == 1):
            value.uniform_(0.5, 1.5)
        elif key.endswith("running_mean"):
            value.normal_(0, 0.1)


@pytest.mark.parametrize("architecture", mark_slow(ARCHITECTURES.names))
def test_feature_same_logits_as_the_library(architecture, tmp_path):
    """Source: the library, in both directions of the name map."""
    original = theirs(architecture)
    model = build(architecture).eval()
    weights, optional = model.own_names(original.state_dict())
    assert optional == ()
    model.load_state_dict(weights)
    images = torch.randn(1, 3, 128, 160)
    with torch.no_grad():
        expected = original(images)
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)

        back = models.SMP.foreign_names["segmentation_models_pytorch"].theirs(model.state_dict())
        assert back is not None and list(back) == list(original.state_dict())
        for value in original.parameters():
            value.zero_()
        original.load_state_dict(back)
        assert torch.equal(original(images), expected)


@pytest.mark.parametrize("architecture", mark_slow(ARCHITECTURES.names))
def test_cardinality_any_size(architecture):
    model = build(architecture, in_channels=4).eval()
    with torch.no_grad():
        for size in ((1, 1), (33, 47), (190, 38)):
            assert model(torch.randn(1, 4, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("architecture", mark_slow(ARCHITECTURES.names))
def test_gradient_parameter_groups(architecture):
    model = build(architecture, freeze_backbone=True).train()
    size = max(model.smallest_side, 64)
    model(torch.randn(2, 3, size, size)).mean().backward()
    assert all(p.grad is None for p in model.get_backbone_params())
    trainable = [p for p in model.get_decoder_params() if p.requires_grad]
    assert trainable and all(p.grad is not None for p in trainable)
    count = len(model.get_backbone_params()) + len(model.get_decoder_params())
    assert count == len(list(model.parameters()))


def test_feature_padding_is_zeros_right_and_below():
    model = build("FPN").eval()
    images = torch.randn(1, 3, 40, 70)
    padded = torch.zeros(1, 3, 64, 96)
    padded[:, :, :40, :70] = images
    with torch.no_grad():
        assert torch.equal(model(images), model(padded)[:, :, :40, :70])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["resnext50_32x4d", "efficientnet-b0", "mobilenet_v2", "tu-darknet17", "tu-convnext_atto"],
)
def test_smoke_encoders(name):
    model = build(encoder_name=name, in_channels=2).train()
    model(torch.randn(2, 2, 33, 47)).mean().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("Unet", "mit_b0"),
        ("Unet", "efficientnet-b0"),
        ("Unet", "tu-hrnet_w18_small"),
        ("Unet", "densenet121"),
        ("DeepLabV3Plus", "mit_b0"),
    ],
)
def test_cardinality_any_size_over_encoders(architecture, name):
    """Encoders that need more than the architecture asks for."""
    model = build(architecture, encoder_name=name).eval()
    with torch.no_grad():
        for size in ((1, 1), (3, 100), (33, 47)):
            assert model(torch.randn(1, 3, *size)).shape == (1, 3, *size)


def test_feature_dpt_over_swin():
    """Source: the library, at a size that is a multiple of 32 and not of 64."""
    name = "tu-swin_tiny_patch4_window7_224"
    options = {**SMALL["DPT"], "depths": [1, 1, 1, 1]}
    model = build("DPT", encoder_name=name, options=options).eval()
    images = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        assert torch.equal(model(images), model.network(images))


def test_feature_weights_file_with_other_parts(tmp_path, caplog):
    encoder = library.encoders.get_encoder("resnet18", weights=None)
    weights = {**encoder.state_dict(), "extra.weight": torch.zeros(1)}
    del weights["layer1.0.bn1.weight"]
    model = build(encoder_weights=saved(weights, tmp_path))
    kept, left_over = (record.getMessage() for record in caplog.records)
    assert kept.endswith("layer1.0.bn1.weight") and left_over.endswith("extra.weight")
    assert torch.equal(model.network.encoder.conv1.weight, encoder.conv1.weight)


def test_feature_checkpoint_with_a_classification_head():
    aux = {"classes": 4}
    original = library.Unet("resnet18", encoder_weights=None, classes=3, aux_params=aux)
    assert any(key.startswith("classification_head.") for key in original.state_dict())
    weights, _ = build().own_names(original.state_dict())
    build().load_state_dict(weights)


def test_feature_unused_parts_do_not_train():
    """The library's PSPNet carries two stages of the encoder that it never calls."""
    model = build("PSPNet")
    frozen = [key for key, p in model.named_parameters() if not p.requires_grad]
    assert frozen and all(key.startswith("network.encoder.layer") for key in frozen)
    assert {key.split(".")[2] for key in frozen} == {"layer3", "layer4"}


def test_feature_deterministic_pooling():
    model = build("PSPNet")
    bins = [m.bins for m in model.modules() if isinstance(m, AveragePool)]
    assert bins == [2, 3, 6]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"architecture": "unet"}, "architecture: \"unet\" is not a choice; did you mean 'Unet'"),
        ({"encoder_name": "resnet19"}, "no encoder 'resnet19'; did you mean 'resnet18'"),
        ({"encoder_name": "convnext_tiny"}, "timm's names begin with tu-"),
        ({"encoder_name": "timm/resnet18"}, "did you mean 'tu-resnet18'"),
        ({"options": {"encoder_depth": "x"}}, "Unet with encoder resnet18: "),
        ({"options": {"upsampling": 2}, "architecture": "FPN"}, "makes 32x48 logits of a 64x96"),
        ({"architecture": "PAN", "encoder_name": "tu-swin_tiny_patch4_window7_224"},
         "cannot leave out strides, which PAN needs"),
        ({"encoder_name": "tu-convnext_tinny"}, "did you mean 'tu-convnext_tiny'"),
        ({"options": {"decoder_chanels": 1}}, "did you mean 'decoder_channels'"),
        ({"options": {"classes": 5}}, "options.classes"),
        ({"options": {"encoder_depth": 9}}, "depth"),
        ({"encoder_name": "tu-convnext_atto", "options": {"depht": 1}}, "depht"),
        ({"architecture": "DPT", "encoder_name": "resnet18"}, "DPT with encoder resnet18"),
        ({"encoder_weights": "imagnet"}, "resnet18 has no 'imagnet'; did you mean 'imagenet'"),
        ({"encoder_weights": "no/such.pth"}, "_weights: cannot open no/such.pth: no such file"),
    ],
)  # fmt: skip
def test_exception_arguments(args, message):
    with pytest.raises(ValueError) as caught:
        build(**args)
    assert message in str(caught.value)


@pytest.mark.parametrize("channels", mark_slow([4, 1, 3]))
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_feature_encoder_weights_from_a_file(channels, suffix, tmp_path):
    """Source: the library's own adaptation of the first layer."""
    encoder = library.encoders.get_encoder("resnet18", weights=None)
    disturb(encoder)
    path = tmp_path / f"weights.{suffix}"
    save = save_file if suffix == "safetensors" else torch.save
    save(encoder.state_dict(), path)
    model = build(in_channels=channels, encoder_weights=str(path))
    encoder.set_in_channels(channels, pretrained=True)
    for key, value in encoder.state_dict().items():
        torch.testing.assert_close(model.network.encoder.state_dict()[key], value)


def test_feature_timm_weights_from_a_file(tmp_path):
    """Source: timm's network whose weights they are."""
    network = timm.create_model("convnext_atto")
    disturb(network)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    path = str(tmp_path / "weights.safetensors")
    model = build("FPN", encoder_name="tu-convnext_atto", encoder_weights=path, in_channels=4)
    own = model.network.encoder.state_dict()
    expected = adapt_first_layer(network.state_dict()["stem.0.weight"], 4)
    torch.testing.assert_close(own["model.stem_0.weight"], expected)
    key = "stages.2.blocks.1.mlp.fc1.weight"
    assert torch.equal(own["model.stages_2.blocks.1.mlp.fc1.weight"], network.state_dict()[key])


@pytest.mark.parametrize("encoder", ["resnet18", "tu-convnext_atto"])
def test_exception_weights_of_another_network(encoder, tmp_path):
    path = saved({"a.weight": torch.zeros(3)}, tmp_path)
    with pytest.raises(ValueError, match=f"no weights of {encoder}"):
        build(encoder_name=encoder, encoder_weights=path)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-convnext_atto"])
def test_exception_no_network(encoder, tmp_path, monkeypatch):
    """It is asked for once; timm itself would ask fifteen times, in most of a minute.

    Source of the file's name: the libraries' own tables.
    """
    asked = []

    def look_up_in_vain(host, *_, **__):
        asked.append(host)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up_in_vain)
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError) as caught:
        build(encoder_name=encoder, encoder_weights="imagenet")
    assert asked == ["huggingface.co"]
    names = {"resnet18": "smp-hub/resnet18.imagenet"}
    repository = names.get(encoder, "timm/convnext_atto.d2_in1k")
    for words in (f"https://huggingface.co/{repository}/", "model.safetensors",
                  'give its path as "encoder_weights"'):  # fmt: skip
        assert words in str(caught.value)
