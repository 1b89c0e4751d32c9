"""The contract that every model keeps, and the parts that models are made of."""

import hashlib
import inspect
import logging
import socket
import time
import typing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.export import Dim

import models
from base.base_model import BaseModel
from models import pretrained
from models.pooling import adaptive_average_pool
from models.resnet import VARIANTS, ResNet, ResNetName

K = 3

# Arguments that make a model small enough to test; a model without an entry needs none.
CHEAP: dict[str, dict[str, Any]] = {
    "PSPNet": {"backbone": "resnet18", "pretrained": False},
    "UNet": {"base_channels": 4},
}
every_model = pytest.mark.parametrize("name", models.__all__)


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def parameters_of(name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(models, name)).parameters)


def build(name: str, **args: Any) -> Any:
    return getattr(models, name)(**{"num_classes": K, **CHEAP.get(name, {}), **args})


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def total_of(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A scalar that every logit enters with a weight of its own."""
    flat = torch.cat([logits.flatten() for logits in as_tuple(outputs)])
    return flat @ torch.randn_like(flat)


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def has_backbone(name: str) -> bool:
    return "freeze_backbone" in parameters_of(name)


# The contract


def test_cardinality_table() -> None:
    assert set(CHEAP) <= set(models.__all__)
    for name in set(models.__all__) - set(CHEAP):
        getattr(models, name)(K)


@every_model
def test_smoke_signature(name: str) -> None:
    parameters = parameters_of(name)
    assert issubclass(getattr(models, name), BaseModel)
    assert {"num_classes", "in_channels", "freeze_bn"} <= set(parameters)
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    assert not set(getattr(models, name).legacy_args) & set(parameters)


def another_value(name: str, argument: str, weights: Path) -> Any:
    """A value unlike the one that `build` uses, found from the type of the argument."""
    now = CHEAP.get(name, {}).get(argument, parameters_of(name)[argument].default)
    kind = typing.get_type_hints(getattr(models, name).__init__)[argument]
    if argument == "pretrained":
        return str(weights)
    if argument == "num_classes":
        return K + 1
    if kind is bool:
        return not now
    if kind is int:
        return now + 2
    if typing.get_origin(kind) is typing.Literal:
        return next(value for value in typing.get_args(kind) if value != now)
    raise AssertionError(f"{name}.{argument}: teach this test a value of type {kind}")


def fingerprint(model: BaseModel) -> list[Any]:
    model.train()
    outputs = as_tuple(model(torch.ones(2, model.in_channels, 32, 32)))
    return [
        [(key, tuple(value.shape)) for key, value in model.state_dict().items()],
        [parameter.requires_grad for parameter in model.parameters()],
        [norm.training for norm in norms(model)],
        [tuple(logits.shape) for logits in outputs],
        next(model.parameters()).sum().item(),
    ]


@pytest.mark.parametrize(
    ("name", "argument"), [(name, a) for name in models.__all__ for a in parameters_of(name)]
)
def test_smoke_every_argument_has_an_effect(name: str, argument: str, tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "weights.pth")
    value = another_value(name, argument, tmp_path / "weights.pth")
    torch.manual_seed(0)
    usual = fingerprint(build(name))
    torch.manual_seed(0)
    assert fingerprint(build(name, **{argument: value})) != usual


@every_model
@pytest.mark.parametrize("size", [(64, 48), (33, 47), (8, 40), (7, 5), "smallest"])
def test_cardinality_logits(name: str, size: tuple[int, int] | str) -> None:
    model = build(name).eval()
    height, width = (model.min_size,) * 2 if isinstance(size, str) else size
    height, width = max(height, model.min_size), max(width, model.min_size)
    with torch.no_grad():
        for batch in (1, 2):
            logits = model(torch.randn(batch, 3, height, width))
            assert logits.shape == (batch, K, height, width)
            assert logits.isfinite().all()


@every_model
@pytest.mark.parametrize("size", [(32, 40), (33, 47)])
def test_cardinality_training(name: str, size: tuple[int, int]) -> None:
    for logits in as_tuple(build(name).train()(torch.randn(2, 3, *size))):
        assert logits.shape == (2, K, *size)


@every_model
def test_exception_images(name: str) -> None:
    model = build(name).eval()
    below = model.min_size - 1
    with pytest.raises(ValueError, match=f"at least {model.min_size}x{model.min_size} pixels"):
        model(torch.randn(1, 3, model.min_size, below))
    with pytest.raises(ValueError, match=r"takes images \(B, 3, H, W\), got \(1, 4, 64, 64\)"):
        model(torch.randn(1, 4, 64, 64))
    with pytest.raises(ValueError, match=r"got \(3, 64, 64\)"):
        model(torch.randn(3, 64, 64))


@every_model
def test_exception_counts(name: str) -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        build(name, num_classes=0)
    with pytest.raises(ValueError, match="in_channels must be at least 1, got 0"):
        build(name, in_channels=0)


@every_model
def test_exception_batch_of_one(name: str) -> None:
    """A single image either trains or is refused with the way out, and trains when frozen."""
    size = build(name).min_size
    images = torch.randn(1, 3, size, size)
    try:
        build(name).train()(images)
    except ValueError as error:
        assert "batch_size of at least 2" in str(error) and "freeze_bn=true" in str(error)
    build(name, freeze_bn=True).train()(images)


@pytest.mark.parametrize(("name", "size"), [("PSPNet", 64), ("UNet", 16)])
def test_exception_single_value(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="one value per channel"):
        build(name).train()(torch.randn(1, 3, size, size))
    build("UNet").train()(torch.randn(1, 3, 16, 17))  # two values are enough


@every_model
@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_smoke_in_channels(name: str, channels: int) -> None:
    model = build(name, in_channels=channels).eval()
    assert model(torch.randn(1, channels, 32, 32)).shape == (1, K, 32, 32)


@every_model
def test_gradient_every_trainable_parameter(name: str) -> None:
    model = build(name).train()
    total_of(model(torch.randn(2, 3, 64, 64))).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all() and parameter.grad.any(), key


@every_model
def test_feature_evaluation_repeats(name: str) -> None:
    model = build(name).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images), model(images))


@every_model
def test_feature_batch_does_not_matter(name: str) -> None:
    model = build(name).eval()
    images = torch.randn(3, 3, 32, 40)
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in images])
        torch.testing.assert_close(model(images), alone, rtol=1e-4, atol=1e-5)


@every_model
def test_feature_channels_last(name: str) -> None:
    model = build(name).eval()
    images = torch.randn(2, 3, 33, 40)
    with torch.no_grad():
        expected = model(images)
        model = model.to(memory_format=torch.channels_last)
        logits = model(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@every_model
def test_feature_state_dict_round_trip(name: str, tmp_path: Path) -> None:
    model, other = build(name), build(name)
    model.train()(torch.randn(2, 3, 32, 32))
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.eval()(images), other.eval()(images))


@every_model
def test_feature_seed_decides(name: str) -> None:
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(torch.cat([p.flatten() for p in build(name).parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@every_model
def test_feature_first_loss(name: str) -> None:
    """Source: a model that knows nothing gives every class 1 / K, so the loss is log(K)."""
    labels = torch.randint(K, (2, 64, 64))
    logits = as_tuple(build(name).train()(torch.randn(2, 3, 64, 64)))[0]
    assert F.cross_entropy(logits, labels).item() == pytest.approx(1.0986, abs=0.1)


@every_model
def test_cardinality_parameter_groups(name: str) -> None:
    model = build(name)
    backbone, decoder = model.get_backbone_params(), model.get_decoder_params()
    both = [id(parameter) for parameter in backbone + decoder]
    assert sorted(both) == sorted(id(parameter) for parameter in model.parameters())
    assert len(both) == len(set(both))
    assert decoder and bool(backbone) == has_backbone(name)
    total, trainable = model.num_parameters()
    assert total == sum(parameter.numel() for parameter in backbone + decoder)
    assert trainable == total


@every_model
def test_feature_freeze_bn(name: str) -> None:
    model = build(name, freeze_bn=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for _ in range(2):  # as built, and after the loop's own switch
        assert model.training and not any(norm.training for norm in norms(model))
        outputs = model(torch.randn(2, 3, 32, 32))
        model.eval().train()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    total_of(outputs).backward()
    assert all(norm.weight.grad is not None for norm in norms(model))


@every_model
def test_gradient_freeze_backbone(name: str) -> None:
    if not has_backbone(name):
        return
    model = build(name, freeze_backbone=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    total_of(model.eval().train()(torch.randn(2, 3, 64, 64))).backward()
    assert all(parameter.grad is None for parameter in model.get_backbone_params())
    assert all(parameter.grad is not None for parameter in model.get_decoder_params())
    inside = {id(m) for module in model.backbone_modules() for m in module.modules()}
    prefixes = tuple(f"{key}." for key, module in model.named_modules() if id(module) in inside)
    for key, value in model.state_dict().items():
        if key.startswith(prefixes):
            assert torch.equal(value, before[key]), key
    assert any(norm.training for norm in norms(model))
    decoder = sum(parameter.numel() for parameter in model.get_decoder_params())
    assert model.num_parameters()[1] == decoder


@pytest.mark.skipif(
    tuple(int(n) for n in torch.__version__.split(".")[:2]) < (2, 14),
    reason="older exports fix whether the traced size is odd",
)
@every_model
def test_feature_export_takes_every_size(name: str) -> None:
    """Source: the model itself, at sizes unlike the traced one."""
    model = build(name).eval()
    free = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    images = torch.randn(2, 3, 64, 96)
    exported = torch.export.export(model, (images,), dynamic_shapes=(free,)).module()
    for size in ((1, 3, 64, 96), (3, 3, 33, 47), (2, 3, 128, 40)):
        images = torch.randn(size)
        with torch.no_grad():
            torch.testing.assert_close(exported(images), model(images), rtol=1e-4, atol=1e-6)


def test_feature_freeze_bn_after_conversion() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(build("UNet", freeze_bn=True)).train()
    converted = [m for m in model.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert converted and not any(module.training for module in converted)


def test_exception_no_backbone() -> None:
    class Plain(BaseModel):
        def __init__(self) -> None:
            super().__init__(K, freeze_backbone=True)
            self.apply_freezing()

    with pytest.raises(ValueError, match="Plain has no backbone to freeze"):
        Plain()


# One model's own


@pytest.mark.parametrize("channels", [0, 7])
def test_exception_unet_base_channels(channels: int) -> None:
    message = f"base_channels must be even and at least 2, got {channels}"
    with pytest.raises(ValueError, match=message):
        build("UNet", base_channels=channels)


def test_exception_pspnet_backbone() -> None:
    with pytest.raises(ValueError, match="no ResNet named 'resnet5': choose one of resnet18"):
        build("PSPNet", backbone="resnet5")


@pytest.mark.parametrize("backbone", list(VARIANTS))
def test_smoke_pspnet_backbones(backbone: str) -> None:
    model = build("PSPNet", backbone=backbone)
    with torch.no_grad():
        logits, auxiliary_logits = model.train()(torch.randn(2, 3, 33, 40))
    assert logits.shape == auxiliary_logits.shape == (2, K, 33, 40)


def test_feature_pspnet_without_auxiliary_head() -> None:
    model = build("PSPNet", use_aux=False).train()
    assert isinstance(model(torch.randn(2, 3, 32, 32)), Tensor)
    assert not any(p.requires_grad for p in model.auxiliary_branch.parameters())
    build("PSPNet").load_state_dict(model.state_dict())


def test_feature_pspnet_parameter_order() -> None:
    """Source: the order in which older optimizer states hold the two groups."""
    model = build("PSPNet")
    name_of = {id(parameter): key.split(".")[0] for key, parameter in model.named_parameters()}
    decoder = dict.fromkeys(name_of[id(p)] for p in model.get_decoder_params())
    backbone = dict.fromkeys(name_of[id(p)] for p in model.get_backbone_params())
    assert list(decoder) == ["master_branch", "auxiliary_branch"]
    assert list(backbone) == ["initial", "layer1", "layer2", "layer3", "layer4"]


# Pooling


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6), (12, 9), (13, 60)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_feature_pooling(size: tuple[int, int], bins: int) -> None:
    """Source: torch's adaptive average pooling, values and gradient."""
    features = torch.randn(2, 4, *size, requires_grad=True)
    pooled, expected = adaptive_average_pool(features, bins), F.adaptive_avg_pool2d(features, bins)
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-6)
    weight = torch.randn_like(pooled)
    gradient = torch.autograd.grad((pooled * weight).sum(), features)
    expected_gradient = torch.autograd.grad((expected * weight).sum(), features)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_feature_pooling_precision(dtype: torch.dtype) -> None:
    """Source: torch's own in double precision; half precision is to round once, at the end."""
    features = torch.rand(1, 2, 11, 23).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        pooled = adaptive_average_pool(features, 3)
    expected = F.adaptive_avg_pool2d(features.double(), 3)
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled, expected.to(dtype), rtol=4 * torch.finfo(dtype).eps, atol=0)


# ResNet


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
def test_feature_basic_block_dilation(backbone: ResNetName) -> None:
    """Source: by hand. A stage's first block has half the dilation, but not in its second conv."""
    trunk: Any = ResNet(backbone)
    for stage, first, others in ((trunk.layer2, 1, 1), (trunk.layer3, 1, 2), (trunk.layer4, 2, 4)):
        for index, block in enumerate(stage):
            assert block.conv1.dilation[0] == (others if index else first)
            assert block.conv2.dilation[0] == others


def test_feature_bottleneck_stages() -> None:
    """Source: torchvision's dilated resnet50, layer2 to layer4, which differ in nothing."""
    trunk = ResNet("resnet50").eval()
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]).eval()
    features = torch.randn(1, 256, 10, 12)
    with torch.no_grad():
        expected = features
        for stage in ("layer2", "layer3", "layer4"):
            getattr(trunk, stage).load_state_dict(getattr(theirs, stage).state_dict())
            features, expected = getattr(trunk, stage)(features), getattr(theirs, stage)(expected)
    assert features.shape == (1, 2048, 5, 6)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


# Pretrained weights


def published(backbone: ResNetName) -> dict[str, Tensor]:
    """Weights under the names that are published, classifier included."""
    if backbone in ("resnet18", "resnet34"):
        weights = torchvision.models.get_model(backbone).state_dict()
    else:
        weights = ResNet(backbone).state_dict()
        weights |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    for key, value in weights.items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return weights


def test_feature_urls() -> None:
    """Source: torchvision's table of weights."""
    for name in ("resnet18", "resnet34"):
        assert pretrained.URLS[name] == torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
    assert set(pretrained.URLS) == set(VARIANTS)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
def test_feature_pretrained_file(
    backbone: ResNetName, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Source: torchvision's ResNet up to layer2; from there on ours is dilated."""
    theirs = torchvision.models.get_model(backbone)
    theirs.load_state_dict(published(backbone))
    theirs.eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = build("PSPNet", backbone=backbone, pretrained=str(tmp_path / "weights.pth")).eval()
    images = torch.randn(1, 3, 40, 32)
    with torch.no_grad():
        stem = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        expected = theirs.layer2(theirs.layer1(stem))
        features = model.layer2(model.layer1(model.initial(images)))
    torch.testing.assert_close(features, expected)
    assert torch.equal(model.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert not caplog.records


def test_feature_pretrained_deep_stem(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Source of the names: the published file of resnet50 with three convolutions as stem."""
    weights = published("resnet50")
    stem = ["conv1.0.weight", "conv1.1.weight", "conv1.3.weight", "conv1.4.weight"]
    assert {*stem, "conv1.6.weight", "bn1.weight", "layer1.0.downsample.0.weight"} <= set(weights)
    checkpoint = {"state_dict": {f"module.{key}": value for key, value in weights.items()}}
    torch.save(checkpoint, tmp_path / "weights.pth")
    model = build("PSPNet", backbone="resnet50", pretrained=str(tmp_path / "weights.pth"))
    state = model.state_dict()
    assert torch.equal(state["initial.0.6.weight"], weights["conv1.6.weight"])
    assert torch.equal(state["initial.1.running_var"], weights["bn1.running_var"])
    assert torch.equal(state["layer4.2.conv3.weight"], weights["layer4.2.conv3.weight"])
    assert not caplog.records


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_feature_first_layer(channels: int) -> None:
    """Source: by hand. A grey image gives the same, however many channels repeat it."""
    weight, grey = torch.randn(8, 3, 7, 7), torch.randn(1, 1, 20, 20)
    adapted = pretrained.adapt_first_layer(weight, channels)
    expected = F.conv2d(grey.repeat(1, 3, 1, 1), weight)
    result = F.conv2d(grey.repeat(1, channels, 1, 1), adapted)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(pretrained.adapt_first_layer(weight, 3), weight)


def test_smoke_pretrained_in_channels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = published("resnet18")
    torch.save(weights, tmp_path / "weights.pth")
    model = build("PSPNet", in_channels=4, pretrained=str(tmp_path / "weights.pth"))
    first = model.initial[0].weight
    torch.testing.assert_close(first[:, 3], weights["conv1.weight"].sum(dim=1) / 4)
    assert not caplog.records


def test_feature_pretrained_reports(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = published("resnet18")
    del weights["layer1.0.bn1.weight"]
    weights["layer2.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    weights["surplus"] = torch.zeros(1)
    torch.save(weights, tmp_path / "weights.pth")
    with caplog.at_level(logging.WARNING):
        build("PSPNet", pretrained=str(tmp_path / "weights.pth"))
    kept, left_over = (record.getMessage() for record in caplog.records)
    assert kept.startswith("2 weights of resnet18 are not in")
    assert kept.endswith("layer1.0.bn1.weight, layer2.0.conv1.weight")
    assert left_over.startswith("2 weights of") and "fc." not in left_over
    assert left_over.endswith("layer2.0.conv1.weight, surplus")


def test_exception_pretrained_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(ValueError, match=r"cannot open .*weights.pth: No such file"):
        build("PSPNet", pretrained=str(path))
    path.write_text("not weights")
    with pytest.raises(ValueError, match="is damaged or not a file of weights"):
        build("PSPNet", pretrained=str(path))
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds a list, not a state dict"):
        build("PSPNet", pretrained=str(path))
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"no weights of resnet18: .* found features.0.weight"):
        build("PSPNet", pretrained=str(path))


def test_feature_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = published("resnet18")
    torch.save(weights, tmp_path / "weights.pth")
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    source = (tmp_path / "weights.pth").rename(tmp_path / f"resnet18-{digest[:8]}.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setitem(pretrained.URLS, "resnet18", source.as_uri())
    for _ in range(2):  # the second time from the folder
        model = build("PSPNet", pretrained=True)
        assert torch.equal(model.initial[0].weight, weights["conv1.weight"])
        source.unlink(missing_ok=True)
    assert (tmp_path / "hub" / "checkpoints" / source.name).exists()


def test_exception_download_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "resnet18-00000000.pth"
    torch.save(published("resnet18"), source)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setitem(pretrained.URLS, "resnet18", source.as_uri())
    with pytest.raises(ValueError, match="invalid hash value"):
        build("PSPNet", pretrained=True)
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


@pytest.mark.parametrize("trouble", ["closed", "silent", "no name server"])
def test_exception_no_network(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pretrained.ANSWER_WITHIN <= 4
    monkeypatch.setattr(pretrained, "ANSWER_WITHIN", 0.5)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)

    def look_up_in_vain(*_: Any, **__: Any) -> None:
        time.sleep(1.5)
        raise socket.gaierror("no name server")

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if trouble != "closed":
            server.listen()  # takes the connection and then says nothing
        if trouble == "no name server":
            monkeypatch.setattr(socket, "getaddrinfo", look_up_in_vain)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/resnet18-f37072fd.pth"
        monkeypatch.setitem(pretrained.URLS, "resnet18", url)
        start = time.monotonic()
        with pytest.raises(ValueError) as caught:
            build("PSPNet", pretrained=True)
        assert time.monotonic() - start < 5
    message = str(caught.value)
    assert "cannot download the ImageNet weights of resnet18" in message
    assert f"Fetch {url}" in message
    assert str(tmp_path / "checkpoints" / "resnet18-f37072fd.pth") in message
    assert '"pretrained": false' in message
