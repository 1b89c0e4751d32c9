"""ImageNet weights: finding, downloading, adapting, loading, and every way this can fail."""

import hashlib
import logging
import socket
import threading

import pytest
import torch
import torchvision

import models
from models import pretrained
from models.resnet import RESNETS, ResNet


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def build(**args):
    return models.PSPNet(3, **{"backbone": "resnet18", **args})


def published(backbone):
    """Weights under the names that are published, classifier included."""
    if backbone in ("resnet18", "resnet34"):
        weights = torchvision.models.get_model(backbone).state_dict()
    else:
        weights = ResNet(backbone.removesuffix("s"), deep_stem=True).state_dict()
        weights |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    for key, value in weights.items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return weights


def test_feature_urls():
    """Source: torchvision's table of weights."""
    for name in RESNETS:
        url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
        assert pretrained.weights_url(name) == url
    for name in RESNETS[2:]:
        assert "_v1s-" in pretrained.weights_url(f"{name}s")  # s: three convolutions first


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
def test_feature_pretrained_file(backbone, tmp_path, caplog):
    """Source: torchvision's ResNet up to layer2; from there on ours is dilated."""
    theirs = torchvision.models.get_model(backbone)
    theirs.load_state_dict(published(backbone))
    theirs.eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = build(backbone=backbone, pretrained=str(tmp_path / "weights.pth")).eval()
    images = torch.randn(1, 3, 40, 32)
    with torch.no_grad():
        stem = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        expected = theirs.layer2(theirs.layer1(stem))
        features = model.layer2(model.layer1(model.initial(images)))
    torch.testing.assert_close(features, expected)
    assert torch.equal(model.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert not caplog.records


def test_feature_pretrained_deep_stem(tmp_path, caplog):
    """Source of the names: the published file of resnet50 with three convolutions as stem."""
    weights = published("resnet50s")
    stem = ["conv1.0.weight", "conv1.1.weight", "conv1.3.weight", "conv1.4.weight"]
    assert {*stem, "conv1.6.weight", "bn1.weight", "layer1.0.downsample.0.weight"} <= set(weights)
    checkpoint = {"state_dict": {f"module.{key}": value for key, value in weights.items()}}
    torch.save(checkpoint, tmp_path / "weights.pth")
    model = build(backbone="resnet50", pretrained=str(tmp_path / "weights.pth"))
    state = model.state_dict()
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


def test_smoke_pretrained_in_channels(tmp_path, caplog):
    weights = published("resnet18")
    torch.save(weights, tmp_path / "weights.pth")
    model = build(in_channels=4, pretrained=str(tmp_path / "weights.pth"))
    first = model.initial[0].weight
    torch.testing.assert_close(first, weights["conv1.weight"][:, [0, 1, 2, 0]] * 3 / 4)
    assert not caplog.records


def test_feature_pretrained_reports(tmp_path, caplog):
    weights = published("resnet18")
    del weights["layer1.0.bn1.weight"]
    weights["layer2.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    weights["surplus"] = torch.zeros(1)
    torch.save(weights, tmp_path / "weights.pth")
    with caplog.at_level(logging.WARNING):
        build(pretrained=str(tmp_path / "weights.pth"))
    kept, left_over = (record.getMessage() for record in caplog.records)
    assert kept.startswith("2 weights of resnet18 are not in")
    assert kept.endswith("layer1.0.bn1.weight, layer2.0.conv1.weight")
    assert left_over.startswith("2 weights of") and "fc." not in left_over
    assert left_over.endswith("layer2.0.conv1.weight, surplus")


def test_exception_pretrained_file(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(ValueError, match=r"cannot open .*weights.pth: No such file"):
        build(pretrained=str(path))
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
    weights = published("resnet18")
    torch.save(weights, tmp_path / "weights.pth")
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
    torch.save(published("resnet18"), source)
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
