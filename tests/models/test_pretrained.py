"""ImageNet weights: finding, downloading, adapting, loading, and every way this can fail."""

import hashlib
import socket
import threading

import pytest
import torch
import torchvision

from models import pretrained
from models.resnet import RESNETS, ResNet
from tests.models.test_models import build as build_case
from tests.models.weights import narrow_vgg, saved, stir, stirred
from tests.slow import mark_slow


def build(**args):
    return build_case("PSPNet", **args)


def test_feature_urls():
    """Source: torchvision's table of weights."""
    for name in RESNETS:
        url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
        assert pretrained.weights_url(name) == url
    for name in RESNETS[2:]:
        assert "_v1s-" in pretrained.weights_url(f"{name}s")  # s: three convolutions first


def till_layer2(model, images):
    return [model.layer2(model.layer1(model.initial(images)))]


def whole_encoder(model, images):
    return [model.encoder(model.first_conv(images)[0])]


@pytest.mark.parametrize(
    ("case", "backbone", "maps_of", "stages"),
    [
        ("PSPNet", "resnet18", till_layer2, 2),
        pytest.param("PSPNet", "resnet34", till_layer2, 2, marks=pytest.mark.slow),
        ("UNetResnet", "resnet18", till_layer2, 2),
        ("UperNet", "resnet18", lambda model, images: model.backbone(images)[:3], 3),
        ("GCN", "resnet18", lambda model, images: model.backbone(images), 4),
        ("SegResNet", "resnet18", whole_encoder, 4),
        ("SegResNet", "resnet50", whole_encoder, 4),
    ],
)
def test_feature_same_features(case, backbone, maps_of, stages, tmp_path, caplog):
    """Source: torchvision's ResNet, up to the last stage that ours does not dilate."""
    theirs = stirred(backbone)
    path = saved(theirs.state_dict(), tmp_path)
    model = build_case(case, backbone=backbone, pretrained=path).eval()
    assert not caplog.records
    images = torch.randn(1, 3, 70, 64)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        layers = (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)[:stages]
        expected = [x := layer(x) for layer in layers]
        maps = maps_of(model, images)
    for ours, features in zip(maps, expected[-len(maps) :], strict=True):
        torch.testing.assert_close(ours, features, rtol=1e-4, atol=1e-4)


CONV1, LAST = "conv1.weight", "layer4.1.conv2.weight"
INITIAL = {"backbone.initial.0.weight": CONV1, f"backbone.{LAST}": LAST}
LAYER0 = {"backbone.layer0.0.weight": CONV1, "backbone.layer0.1.bias": "bn1.bias",
          f"backbone.{LAST}": LAST}  # fmt: skip
MOBILE = {f"backbone.{key}": key for key in ("features.0.0.weight", "features.17.conv.2.weight")}


@pytest.mark.parametrize("channels", mark_slow([4, 3]))
@pytest.mark.parametrize(
    ("case", "published", "pairs"),
    [
        ("PSPNet", "resnet18", {"initial.0.weight": CONV1, LAST: LAST}),
        ("UNetResnet", "resnet18", {"initial.0.weight": CONV1, LAST: LAST}),
        ("SegResNet", "resnet18", {"first_conv.0.weight": CONV1, "encoder.3.1.conv2.weight": LAST}),
        ("GCN/deconv", "resnet18", INITIAL),
        ("UperNet", "resnet18", INITIAL),
        ("DeepLab", "resnet18", LAYER0),
        ("DeepLab_DUC_HDC", "resnet18", LAYER0),
        ("DeepLabV3", "resnet18", LAYER0),
        ("FCN", "resnet18", LAYER0),
        ("DeepLab/mobilenet_v2", "mobilenet_v2", MOBILE),
        ("SegNet", "narrow vgg16_bn", {"stage1_encoder.0.weight": "features.0.weight"}),
        ("FCN8", "narrow vgg16", {"pool3.0.weight": "features.0.weight"}),
    ],
)
def test_feature_pretrained_file(case, published, pairs, channels, tmp_path, caplog):
    """The first pair is the first layer; a fourth channel is another red, and all weigh 3/4."""
    narrow = published.startswith("narrow")
    theirs = narrow_vgg(published.endswith("_bn")) if narrow else stirred(published)
    weights = theirs.state_dict()
    model = build_case(case, in_channels=channels, pretrained=saved(weights, tmp_path))
    first, *others = pairs
    expected = weights[pairs[first]][:, [0, 1, 2, 0][:channels]] * 3 / channels
    torch.testing.assert_close(model.state_dict()[first], expected)
    for ours in others:
        assert torch.equal(model.state_dict()[ours], weights[pairs[ours]])
    assert not caplog.records


@pytest.mark.parametrize("case", ["PSPNet", "UNetResnet"])
def test_feature_pretrained_deep_stem(case, tmp_path, caplog):
    """Source of the names: the published file of resnet50 with three convolutions as stem."""
    weights = stir(ResNet("resnet50", deep_stem=True)).state_dict()
    weights |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    stem = ["conv1.0.weight", "conv1.1.weight", "conv1.3.weight", "conv1.4.weight"]
    assert {*stem, "conv1.6.weight", "bn1.weight", "layer1.0.downsample.0.weight"} <= set(weights)
    path = saved({"state_dict": {f"module.{key}": w for key, w in weights.items()}}, tmp_path)
    state = build_case(case, backbone="resnet50", in_channels=4, pretrained=path).state_dict()
    first = weights["conv1.0.weight"][:, [0, 1, 2, 0]] * 3 / 4
    torch.testing.assert_close(state["initial.0.0.weight"], first)
    assert torch.equal(state["initial.0.6.weight"], weights["conv1.6.weight"])
    assert torch.equal(state["initial.1.running_var"], weights["bn1.running_var"])
    assert torch.equal(state["layer4.2.conv3.weight"], weights["layer4.2.conv3.weight"])
    assert not caplog.records


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_feature_first_layer(channels):
    """Source: timm's own adaptation, which SMP's equals."""
    from timm.models import adapt_input_conv

    weight = torch.randn(8, 3, 7, 7)
    adapted = pretrained.adapt_first_layer(weight, channels)
    torch.testing.assert_close(adapted, adapt_input_conv(channels, weight))
    assert torch.equal(pretrained.adapt_first_layer(weight, 3), weight)


def test_feature_pretrained_reports(tmp_path, caplog):
    weights = stirred("resnet18").state_dict()
    del weights["layer1.0.bn1.weight"]
    weights["layer2.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    weights["surplus"] = torch.zeros(1)
    build(pretrained=saved(weights, tmp_path))
    kept, left_over = (record.getMessage() for record in caplog.records)
    assert kept.startswith("2 weights of resnet18 are not in")
    assert kept.endswith("layer1.0.bn1.weight, layer2.0.conv1.weight")
    assert left_over.startswith("2 weights of") and "fc." not in left_over
    assert left_over.endswith("layer2.0.conv1.weight, surplus")


def test_exception_pretrained_file(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_text("not weights")
    with pytest.raises(ValueError, match="is damaged or not a file of weights"):
        build(pretrained=str(path))
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="a list, not a state dict"):
        build(pretrained=str(path))
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"no weights of resnet18: .* found features.0.weight"):
        build(pretrained=str(path))


def test_feature_download(tmp_path, monkeypatch):
    weights = stirred("resnet18").state_dict()
    saved(weights, tmp_path)
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    source = (tmp_path / "weights.pth").rename(tmp_path / f"resnet18-{digest[:8]}.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setitem(pretrained.URLS, "resnet18", source.as_uri())
    for _ in range(2):  # the second time from the folder
        model = build(pretrained=True)
        assert torch.equal(model.initial[0].weight, weights["conv1.weight"])
        source.unlink(missing_ok=True)
    assert (tmp_path / "hub" / "checkpoints" / source.name).exists()


def test_exception_download_hash(tmp_path, monkeypatch):
    source = tmp_path / "resnet18-00000000.pth"
    torch.save(stirred("resnet18").state_dict(), source)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setitem(pretrained.URLS, "resnet18", source.as_uri())
    with pytest.raises(ValueError, match="invalid hash value"):
        build(pretrained=True)
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


@pytest.mark.parametrize("trouble", ["closed", "silent", "no name server"])
def test_exception_no_network(trouble, tmp_path, monkeypatch):
    assert pretrained.ANSWER_WITHIN <= 4
    monkeypatch.setattr(pretrained, "ANSWER_WITHIN", 0.5)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)

    # Both give up by themselves, long after we should have: a failure must not hang.
    gone = threading.Event()

    def look_up_in_vain(*_, **__):
        gone.wait()
        raise socket.gaierror("no name server")

    def give_up():
        gone.set()
        server.close()

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if trouble != "closed":
            server.listen()  # takes the connection and then says nothing
        if trouble == "no name server":
            monkeypatch.setattr(socket, "getaddrinfo", look_up_in_vain)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/resnet18-f37072fd.pth"
        monkeypatch.setitem(pretrained.URLS, "resnet18", url)
        patience = threading.Timer(60, give_up)
        patience.start()
        try:
            with pytest.raises(ValueError) as caught:
                build(pretrained=True)
            assert not gone.is_set()
        finally:
            patience.cancel()
            gone.set()
    message = str(caught.value)
    assert "cannot download the ImageNet weights of resnet18" in message
    assert f"Fetch {url}" in message
    assert str(tmp_path / "checkpoints" / "resnet18-f37072fd.pth") in message
    assert '"pretrained": false' in message
