"""The contract that every model keeps."""

import copy
import functools
import inspect
import typing
from typing import Annotated, Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim

import models
from base.base_model import BaseModel
from tests.slow import mark_slow
from utils.config.types import Choices
from utils.random_state import seed_everything

K = 3

# What is tested: `Class` or `Class/variant`, with arguments that make it small.
CASES: dict[str, dict[str, Any]] = {
    "DeepLab": {"backbone": "resnet18", "pretrained": False},
    "DeepLab/mobilenet_v2": {"backbone": "mobilenet_v2", "pretrained": False},
    "DeepLabV3": {"backbone": "resnet18", "pretrained": False},
    "DeepLab_DUC_HDC": {"backbone": "resnet18", "pretrained": False},
    "ENet": {},
    "FCN": {"backbone": "resnet18", "pretrained": False},
    "FCN8": {"base_channels": 4, "hidden_channels": 8, "pretrained": False},
    "GCN": {"backbone": "resnet50", "pretrained": False},
    "GCN/deconv": {"backbone": "resnet18", "pretrained": False, "use_deconv": True},
    "PSPDenseNet": {"backbone": "densenet121", "pretrained": False, "stem": "plain"},
    "PSPNet": {"backbone": "resnet18", "pretrained": False},
    "PSPNet/timm": {"backbone": "timm/test_convnext", "pretrained": False},
    "SegNet": {"base_channels": 4, "pretrained": False},
    "SegResNet": {"backbone": "resnet18", "pretrained": False},
    "SMP": {"encoder_name": "tu-mobilenetv3_small_050", "encoder_weights": None},
    "SMP/DPT": {
        "architecture": "DPT",
        "encoder_name": "tu-vit_tiny_patch16_224",
        "encoder_weights": None,
        "options": {"decoder_intermediate_channels": [16] * 4, "decoder_fusion_channels": 16},
    },
    "SMP/PAN": {"architecture": "PAN", "encoder_name": "resnet18", "encoder_weights": None},
    "SMP/Segformer": {
        "architecture": "Segformer",
        "encoder_name": "mit_b0",
        "encoder_weights": None,
        "options": {"decoder_segmentation_channels": 32},
    },
    "SMP/UPerNet": {
        "architecture": "UPerNet",
        "encoder_name": "tu-swin_tiny_patch4_window7_224",
        "encoder_weights": None,
        "options": {"decoder_channels": 32, "depths": [1, 1, 1, 1]},
    },
    "UNet": {"base_channels": 4},
    "UNetResnet": {"backbone": "resnet18", "pretrained": False},
    "UperNet": {"backbone": "resnet18", "fpn_out": 8, "pretrained": False},
    "UperNet/timm": {"backbone": "timm/test_convnext", "fpn_out": 40, "pretrained": False},
}
# Values of arguments that the tests cannot make up.
OTHER_VALUES: dict[tuple[str, str], Any] = {
    ("SMP", "encoder_name"): "tu-mobilenetv3_small_075",
    ("SMP", "options"): {"decoder_channels": [64, 32, 16, 8, 4]},
}
WEIGHTS = ("pretrained", "encoder_weights")  # files; tests/models/test_pretrained.py has them
# Attention over windows or tokens reshapes maps, and libraries do it their way.
RESHAPES = {"SMP/Segformer", "SMP/UPerNet"}
ONE_SIZE = {"SMP/UPerNet"}  # Swin's windows keep the tracer busy for minutes where sizes are free
# Every part of these is in a smaller case too: `make test` leaves them to `make test-all`.
LARGE = {
    *("DeepLab", "DeepLabV3", "DeepLab_DUC_HDC", "GCN", "PSPDenseNet", "PSPNet", "SegResNet"),
    *("SMP", "SMP/DPT", "SMP/PAN", "SMP/UPerNet", "UNetResnet", "UperNet"),
}


def as_params(cases):
    """Return the cases for `parametrize`, the large ones marked slow."""
    return mark_slow(cases, LARGE)


# Of the scope of the module, so that all tests of a model run after one another and share it.
every_model = pytest.mark.parametrize("case", as_params(CASES), scope="module")


def class_of(case):
    return getattr(models, case.partition("/")[0])


def parameters_of(case):
    return dict(inspect.signature(class_of(case)).parameters)


def build(case, **args):
    return class_of(case)(**{"num_classes": K, **CASES[case], **args})


@functools.lru_cache(maxsize=2)
def shared(case):
    """Return the model in eval mode, for tests that leave it as it is."""
    torch.manual_seed(0)
    return build(case).eval()


def copied(case):
    """Return a model in training mode; a copy is quicker than drawing the weights again."""
    return copy.deepcopy(shared(case)).train()


def as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def total_of(outputs):
    """A scalar that every logit enters with a weight of its own."""
    flat = torch.cat([logits.flatten() for logits in as_tuple(outputs)])
    return flat @ torch.randn_like(flat)


def norms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def has_backbone(case):
    return "freeze_backbone" in parameters_of(case)


# The contract


def test_cardinality_cases():
    assert {case.partition("/")[0] for case in CASES} == set(models.__all__)


@every_model
def test_smoke_signature(case):
    parameters = parameters_of(case)
    assert issubclass(class_of(case), BaseModel)
    assert {"num_classes", "in_channels", "freeze_bn"} <= set(parameters)
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    assert not set(class_of(case).legacy_args) & set(parameters)


def another_value(case, argument):
    """A value unlike the one that `build` uses, found from the type of the argument."""
    if (case, argument) in OTHER_VALUES:
        return OTHER_VALUES[case, argument]
    now = CASES[case].get(argument, parameters_of(case)[argument].default)
    if argument == "num_classes":
        return K + 1
    kind = typing.get_type_hints(class_of(case).__init__, include_extras=True)[argument]
    choices = ()
    if typing.get_origin(kind) is Annotated:
        kind, extra = typing.get_args(kind)
        choices = extra.names if isinstance(extra, Choices) else ()
    if typing.get_origin(kind) is typing.Literal:
        choices = typing.get_args(kind)
    if choices:
        return next(value for value in choices if value != now)
    if kind is bool:
        return not now
    if kind is int:
        return now + 2
    raise AssertionError(f"{case}, {argument}: add a value of type {kind} to OTHER_VALUES")


def structure(model):
    return [
        [(key, tuple(value.shape)) for key, value in model.state_dict().items()],
        [parameter.requires_grad for parameter in model.parameters()],
        [norm.training for norm in norms(model.train())],
    ]


def behaviour(model):
    images = torch.linspace(-1, 1, 2 * model.in_channels * 64 * 64)
    images = images.view(2, model.in_channels, 64, 64)
    with torch.no_grad():
        logits = model.eval()(images)
        outputs = as_tuple(model.train()(images))
    return [[tuple(output.shape) for output in outputs], logits.sum().item()]


@pytest.mark.parametrize("case", as_params(c for c in CASES if "/" not in c), scope="module")
def test_smoke_every_argument_has_an_effect(case):
    usual = structure(copied(case)), behaviour(copied(case))
    for argument in set(parameters_of(case)) - set(WEIGHTS):
        if argument == "freeze_bn" and not norms(shared(case)):
            continue  # nothing to freeze
        torch.manual_seed(0)
        changed = build(case, **{argument: another_value(case, argument)})
        assert structure(changed) != usual[0] or behaviour(changed) != usual[1], argument


@every_model
def test_exception_pretrained(case):
    if "pretrained" in parameters_of(case):
        with pytest.raises(ValueError, match=r"pretrained: cannot open nowhere\.pth"):
            build(case, pretrained="nowhere.pth")


@every_model
def test_cardinality_logits(case):
    model = shared(case)
    sizes = {(64, 48), (33, 47), (8, 40), (7, 5), (model.min_size, model.min_size)}
    for batch, size in enumerate(sorted(sizes)):
        shape = (1 + batch % 2, *(max(side, model.min_size) for side in size))
        with torch.no_grad():
            logits = model(torch.randn(shape[0], 3, *shape[1:]))
        assert logits.shape == (shape[0], K, *shape[1:])
        assert logits.isfinite().all()


@every_model
def test_cardinality_training(case):
    model = copied(case)
    for size in ((32, 40), (33, 47)):
        for logits in as_tuple(model(torch.randn(2, 3, *size))):
            assert logits.shape == (2, K, *size)


@every_model
def test_exception_images(case):
    model = shared(case)
    below = model.min_size - 1
    with pytest.raises(ValueError, match=f"at least {model.min_size}x{model.min_size} pixels"):
        model(torch.randn(1, 3, model.min_size, below))
    with pytest.raises(ValueError, match=r"takes images \(B, 3, H, W\), got \(1, 4, 64, 64\)"):
        model(torch.randn(1, 4, 64, 64))
    with pytest.raises(ValueError, match=r"got \(3, 64, 64\)"):
        model(torch.randn(3, 64, 64))


@every_model
def test_exception_counts(case):
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        build(case, num_classes=0)
    with pytest.raises(ValueError, match="in_channels must be at least 1, got 0"):
        build(case, in_channels=0)


@every_model
def test_exception_batch_of_one(case):
    """A single image either trains or is refused with the way out, and trains when frozen."""
    size = shared(case).min_size
    images = torch.randn(1, 3, size, size)
    try:
        copied(case)(images)
    except ValueError as error:
        assert "batch_size of at least 2" in str(error) and "freeze_bn=true" in str(error)
    build(case, freeze_bn=True).train()(images)


@every_model
@pytest.mark.parametrize("channels", [1, 13])
def test_smoke_in_channels(case, channels):
    model = build(case, in_channels=channels).eval()
    assert model(torch.randn(1, channels, 32, 32)).shape == (1, K, 32, 32)


@every_model
def test_gradient_every_trainable_parameter(case):
    model = copied(case)
    total_of(model(torch.randn(2, 3, 64, 64))).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            # A bias in front of a BatchNorm is taken away again, so its gradient is 0.
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.any() or key.endswith("bias"), key


@every_model
def test_feature_evaluation_repeats(case):
    model = shared(case)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images), model(images))


@every_model
def test_feature_batch_does_not_matter(case):
    model = shared(case)
    images = torch.randn(3, 3, 32, 40)
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in images])
        together = model(images)
    rounding = 1e-5 * max(1.0, together.abs().max().item())
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=rounding)


@every_model
def test_feature_channels_last(case):
    model = copied(case).eval()
    images = torch.randn(2, 3, 33, 40)
    with torch.no_grad():
        expected = model(images)
        model = model.to(memory_format=torch.channels_last)
        logits = model(images.to(memory_format=torch.channels_last))
    rounding = 1e-5 * max(1.0, expected.abs().max().item())
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=rounding)


@every_model
def test_feature_state_dict_round_trip(case, tmp_path):
    model, other = copied(case), copied(case)
    model(torch.randn(2, 3, 32, 32))
    for value in other.state_dict().values():
        value.zero_()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.eval()(images), other.eval()(images))


@every_model
def test_feature_seed_decides(case):
    expected = torch.cat([p.flatten() for p in shared(case).parameters()])
    for seed in (0, 1):
        torch.manual_seed(seed)
        weights = torch.cat([p.flatten() for p in build(case).parameters()])
        assert torch.equal(weights, expected) == (seed == 0)


@every_model
def test_feature_first_loss(case):
    """Source: a model that knows nothing gives every class 1 / K, so the loss is log(K)."""
    labels = torch.randint(K, (2, 64, 64))
    logits = as_tuple(copied(case)(torch.randn(2, 3, 64, 64)))[0]
    assert F.cross_entropy(logits, labels).item() == pytest.approx(1.0986, abs=0.2)


@every_model
def test_cardinality_parameter_groups(case):
    model = shared(case)
    backbone, decoder = model.get_backbone_params(), model.get_decoder_params()
    both = [id(parameter) for parameter in backbone + decoder]
    assert sorted(both) == sorted(id(parameter) for parameter in model.parameters())
    assert len(both) == len(set(both))
    assert decoder and bool(backbone) == has_backbone(case)
    total, trainable = model.num_parameters()
    assert total == sum(parameter.numel() for parameter in backbone + decoder)
    assert trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    # SMP's networks, and GCN's of older checkpoints, have parts that nothing uses.
    assert trainable == total or case.startswith(("SMP", "GCN"))


@every_model
def test_feature_freeze_bn(case):
    model = build(case, freeze_bn=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for _ in range(2):  # as built, and after the loop's own switch
        assert model.training and not any(norm.training for norm in norms(model))
        outputs = model(torch.randn(2, 3, 32, 32))
        model.eval().train()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    total_of(outputs).backward()
    used = [norm.weight for norm in norms(model) if norm.weight.requires_grad]
    assert all(weight.grad is not None for weight in used)


@every_model
def test_gradient_freeze_backbone(case):
    if not has_backbone(case):
        return
    model = build(case, freeze_backbone=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    total_of(model.eval().train()(torch.randn(2, 3, 64, 64))).backward()
    assert all(parameter.grad is None for parameter in model.get_backbone_params())
    decoder = [p for p in model.get_decoder_params() if p.requires_grad]
    assert decoder and all(parameter.grad is not None for parameter in decoder)
    inside = {id(m) for module in model.backbone_modules() for m in module.modules()}
    prefixes = tuple(f"{key}." for key, module in model.named_modules() if id(module) in inside)
    for key, value in model.state_dict().items():
        if key.startswith(prefixes):
            assert torch.equal(value, before[key]), key
    assert all(norm.training for norm in norms(model) if id(norm) not in inside)
    assert model.num_parameters()[1] == sum(parameter.numel() for parameter in decoder)


@every_model
def test_feature_classifier_modules(case):
    """Source: the same model with one class more. What differs is the classifier."""
    model, other = shared(case), build(case, num_classes=K + 1)
    differing = {
        key
        for (key, ours), theirs in zip(model.named_parameters(), other.parameters(), strict=True)
        if ours.shape != theirs.shape
    }
    inside = {id(p) for module in model.classifier_modules() for p in module.parameters()}
    named = {key for key, p in model.named_parameters() if id(p) in inside}
    assert differing and differing <= named
    prefixes = {key.rpartition(".")[0] for key in differing}
    assert {key.rpartition(".")[0] for key in named} == prefixes


@pytest.mark.slow
@every_model
def test_feature_compile_whole(case):
    """The graph is one piece; the compiler's own code generation is not what is tested here."""
    model = copied(case).eval()
    images = torch.randn(1, 3, 64, 96)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), model(images))


def assert_channels_last(model):
    """No convolution gets its input in another layout than the images came in."""
    model = model.eval().to(memory_format=torch.channels_last)
    seen, flipped = [], []

    def look(module, inputs, name):
        features = inputs[0]
        if features.dim() == 4 and min(features.shape[1:]) > 1:  # else the two are the same
            seen.append(name)
            if not features.is_contiguous(memory_format=torch.channels_last):
                flipped.append(name)

    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
            module.register_forward_pre_hook(functools.partial(look, name=name))
    with torch.no_grad():
        model(torch.randn(2, 3, 96, 64).to(memory_format=torch.channels_last))
    assert seen and not flipped


@every_model
def test_feature_channels_last_throughout(case):
    if case in RESHAPES:
        pytest.skip("not a convolutional trunk")
    assert_channels_last(copied(case))


@pytest.mark.skipif(
    tuple(int(n) for n in torch.__version__.split(".")[:2]) < (2, 14),
    reason="older exports fix whether the traced size is odd",
)
@pytest.mark.slow
@every_model
def test_feature_export_takes_every_size(case):
    """Source: the model itself, at sizes unlike the traced one."""
    model = copied(case).eval()
    free = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    sizes = [(1, 3, 64, 96), (3, 3, 33, 47), (2, 3, 128, 40)]
    if case in ONE_SIZE:
        free, sizes = {}, [(2, 3, 64, 96)]
    images = torch.randn(2, 3, 64, 96)
    exported = torch.export.export(model, (images,), dynamic_shapes=(free,)).module()
    for size in sizes:
        images = torch.randn(size)
        with torch.no_grad():
            torch.testing.assert_close(exported(images), model(images), rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@every_model
def test_feature_gpu_deterministic(case):
    """No kernel that torch refuses in deterministic mode, and twice the same gradients."""
    seed_everything(0, deterministic=True)
    try:
        model = copied(case).cuda().to(memory_format=torch.channels_last).eval()
        images = torch.randn(2, 3, 97, 64, device="cuda").to(memory_format=torch.channels_last)
        found = []
        for _ in range(2):
            model.zero_grad(set_to_none=True)
            logits = model(images)
            logits.square().mean().backward()
            gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
            found.append((logits.detach(), torch.cat(gradients)))
        assert torch.equal(found[0][0], found[1][0])
        assert torch.equal(found[0][1], found[1][1])
    finally:
        torch.use_deterministic_algorithms(False)


def test_feature_freeze_bn_after_conversion():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(build("UNet", freeze_bn=True)).train()
    converted = [m for m in model.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert converted and not any(module.training for module in converted)


def test_exception_no_backbone():
    class Plain(BaseModel):
        def __init__(self):
            super().__init__(K, freeze_backbone=True)
            self.apply_freezing()

    with pytest.raises(ValueError, match="Plain has no backbone to freeze"):
        Plain()
