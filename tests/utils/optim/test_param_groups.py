"""Groups of parameters: complete, disjoint, as the config asks; and every optimizer of torch."""

import inspect
import logging

import pytest
import torch
from torch import nn

import models
from builders.optimization import build_optimizer
from builders.sections import SECTIONS
from tests.models.test_models import CASES, as_params
from tests.utils.config.test_check_config import check, minimal, problems_of
from utils.config.errors import ConfigError
from utils.optim.param_groups import (
    backbone_layers,
    check_state,
    decays,
    describe_groups,
    parameter_groups,
    state_size,
)
from utils.optim.schedule_from_config import build_schedule

# The smallest case of each class, and those that order their layers in ways of their own.
NAMES = ["SMP/DPT", "SMP/Segformer", "SMP/UPerNet", "UperNet/timm", *models.__all__]


def model_of(case, **args):
    return getattr(models, case.split("/")[0])(3, **{**CASES[case], **args})


def optimizer_of(model, kind="SGD", args=None, **keys):
    tree = {**minimal(), "optimizer": {"type": kind, "args": args or {"lr": 0.5}, **keys}}
    return build_optimizer(check(tree), model)


def ids(parameters):
    return [id(p) for p in parameters]


@pytest.mark.parametrize("case", as_params(NAMES))
def test_feature_every_parameter_is_in_one_group(case):
    model = model_of(case)
    backbone = model.backbone_modules()
    trainable = sorted(ids(p for p in model.parameters() if p.requires_grad))
    choices = [{}, {"no_decay": True}]
    if backbone:
        choices += [
            {"backbone_rate": 0.1},
            {"backbone_rate": 0.3, "layer_decay": 0.75, "no_decay": True},
        ]
    for keys in choices:
        groups = parameter_groups(model, backbone, 1.0, **keys)
        assert sorted(id(p) for group in groups for p in group["params"]) == trainable
        settings = [(g.get("lr", 1.0), g.get("weight_decay", 1.0)) for g in groups]
        assert len(set(settings)) == len(settings)


@pytest.mark.parametrize("differential", [False, True])
@pytest.mark.parametrize("case", ["PSPNet", "UNet"])
def test_feature_groups_without_new_keys_are_those_of_before(case, differential):
    model = model_of(case)
    groups = optimizer_of(model, differential_lr=differential).param_groups
    backbone = ids(model.get_backbone_params())
    expected = [(0.5, ids(model.parameters()))]
    if differential and backbone:
        expected = [(0.5, ids(model.get_decoder_params())), (0.05, backbone)]
    assert [(g["lr"], ids(g["params"])) for g in groups] == expected
    assert all("name" not in group for group in groups)


def test_feature_backbone_rate():
    model = model_of("PSPNet")
    for keys in ({}, {"differential_lr": True}):
        groups = optimizer_of(model, backbone_rate=0.2, **keys).param_groups
        assert [g["lr"] for g in groups] == [0.5, 0.1]
        assert ids(groups[1]["params"]) == ids(model.get_backbone_params())
    frozen = model_of("PSPNet", freeze_backbone=True)
    groups = optimizer_of(frozen, backbone_rate=0.2, layer_decay=0.5).param_groups
    assert [g["lr"] for g in groups] == [0.5]


@pytest.mark.parametrize("case", ["PSPNet", "SMP/DPT", "UperNet/timm"])
def test_feature_no_decay_follows_the_kind_of_module(case):
    """Held against a list of module classes, where the program looks at shapes and names."""
    model = model_of(case)
    args = {"lr": 0.5, "weight_decay": 0.1}
    groups = optimizer_of(model, args=args, no_decay_norms_biases=True).param_groups
    weights = (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)
    layers = [m for m in model.modules() if isinstance(m, weights)]
    expected = {id(m.weight) for m in layers if m.weight.requires_grad}
    decayed = {id(p) for g in groups if g["weight_decay"] == 0.1 for p in g["params"]}
    assert decayed == expected
    assert {g["weight_decay"] for g in groups} == {0.1, 0.0}


def test_feature_tables_and_tokens_do_not_decay():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
            self.places = nn.Embedding(5, 4)
            self.attention = nn.MultiheadAttention(4, 2)

    block = Block()
    found = {
        name: decays(module, name.split(".")[-1], parameter)
        for path, module in block.named_modules()
        for short, parameter in module.named_parameters(recurse=False)
        for name in [f"{path}.{short}".strip(".")]
    }
    decayed = {name for name, decayed in found.items() if decayed}
    assert decayed == {"attention.in_proj_weight", "attention.out_proj.weight"}


def test_feature_layer_decay_by_hand():
    model = model_of("PSPNet")  # resnet18: a stem and eight blocks
    groups = optimizer_of(model, layer_decay=0.5).param_groups
    assert [g["lr"] for g in groups] == [0.5 * 0.5**n for n in range(10)]
    assert ids(groups[1]["params"]) == ids(model.layer4[1].parameters())
    assert ids(groups[9]["params"]) == ids(model.initial.parameters())
    assert groups[0]["name"] == "decoder"
    assert groups[9]["name"] == "backbone layer 0"


@pytest.mark.parametrize(
    ("case", "name"), [("UperNet/timm", "test_convnext"), ("SMP/DPT", "vit_tiny_patch16_224")]
)
def test_feature_layers_of_timm_are_timms(case, name):
    """Against timm's own groups for layer-wise decay, built from the whole network."""
    import timm
    from timm.optim import param_groups_layer_decay

    whole = timm.create_model(name)
    names = {id(p): key.replace(".", "_") for key, p in whole.named_parameters()}
    theirs = {}
    for group in param_groups_layer_decay(whole, layer_decay=0.5):
        theirs |= {names[id(p)]: group["lr_scale"] for p in group["params"]}
    model = model_of(case)
    own = {id(p): key for key, p in model.named_parameters()}
    for group in parameter_groups(model, model.backbone_modules(), 1.0, layer_decay=0.5)[1:]:
        for parameter in group["params"]:
            key = own[id(parameter)].replace(".", "_")
            key = key.removeprefix("backbone_network_").removeprefix("network_encoder_model_")
            assert group["lr"] == theirs[key], key


@pytest.mark.parametrize(
    "case", as_params(c for c in NAMES if "timm" not in c and "SMP/U" not in c)
)
def test_feature_layers_follow_the_forward_pass(case):
    """Against the order in which the modules are called."""
    model = model_of(case).eval()
    layers = backbone_layers(model.backbone_modules())
    number = {id(p): i for i, layer in enumerate(layers) for p in layer}
    called = []

    def note(module, _):
        called.extend(number[id(p)] for p in module.parameters(recurse=False) if id(p) in number)

    for module in model.modules():
        if type(module).__name__ != "VisionTransformer":  # its tokens come after the patches
            module.register_forward_pre_hook(note)
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    assert called == sorted(called)
    assert set(called) == set(range(len(layers)))


def test_cardinality_layers():
    counts = {case: len(backbone_layers(model_of(case).backbone_modules())) for case in
              ("UNet", "PSPNet", "SegNet", "SMP/Segformer", "DeepLab/mobilenet_v2")}  # fmt: skip
    # None; stem and 8 blocks; 5 stages; 4 embeddings and 8 blocks; stem and 17 blocks.
    expected = {"UNet": 0, "PSPNet": 9, "SegNet": 5, "SMP/Segformer": 12}
    assert counts == {**expected, "DeepLab/mobilenet_v2": 18}


def test_exception_backbones_that_cannot_follow():
    for key in ("backbone_rate", "layer_decay"):
        with pytest.raises(ConfigError, match=rf"optimizer\.{key}: UNet has no backbone; remove"):
            optimizer_of(model_of("UNet"), **{key: 0.5})
    model = model_of("SegNet")
    model.backbone_modules = lambda: [model.stage1_encoder]
    with pytest.raises(ConfigError, match="optimizer.layer_decay: .* use backbone_rate"):
        optimizer_of(model, layer_decay=0.5)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("backbone_rate", 0, "> 0"),
        ("layer_decay", 1.5, "<= 1"),
        ("layer_decay", 0, "> 0"),
        ("no_decay_norms_biases", 1, "expected `bool`"),
        ("no_decay_norm_biases", True, "no such key; did you mean 'no_decay_norms_biases'"),
    ],
)
def test_exception_wrong_keys(key, value, words):
    tree = minimal()
    tree["optimizer"][key] = value
    (problem,) = problems_of(tree)
    assert problem.startswith(f"optimizer.{key}: ")
    assert words in problem


def test_exception_no_decay_where_nothing_decays(caplog):
    tree = {**minimal(), "optimizer": {"type": "Rprop", "no_decay_norms_biases": True}}
    (problem,) = problems_of(tree)
    assert "Rprop has no weight decay" in problem
    optimizer_of(model_of("UNet"), no_decay_norms_biases=True)
    assert "no_decay_norms_biases: has no effect, as weight_decay is 0" in caplog.text


def test_smoke_describe_groups(caplog):
    caplog.set_level(logging.INFO)
    args = {"lr": 0.5, "weight_decay": 0.1}
    groups = optimizer_of(model_of("PSPNet"), args=args, backbone_rate=0.1,
                          no_decay_norms_biases=True).param_groups  # fmt: skip
    lines = describe_groups(groups).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "  0  decoder", "  1  decoder, no decay", "  2  backbone", "  3  backbone, no decay",
    ]  # fmt: skip
    assert ": rate 0.05, weight decay 0, " in lines[3]


@pytest.mark.parametrize("kind", ["OneCycle", "OneCycleLR", "Poly"])
def test_feature_the_rates_that_are_listed_are_those_of_the_config(kind):
    tree = {**minimal(), "lr_scheduler": {"type": kind, "warmup_epochs": 1}}
    tree["trainer"]["epochs"] = 4
    tree["optimizer"] = {"type": "SGD", "args": {"lr": 0.5, "momentum": 0.9},
                         "layer_decay": 0.9, "backbone_rate": 0.2}  # fmt: skip
    optimizer = build_optimizer(check(tree), model_of("PSPNet"))
    before = describe_groups(optimizer.param_groups)
    build_schedule(check(tree), optimizer, 5)
    assert describe_groups(optimizer.param_groups) == before
    first, second = before.splitlines()[:2]
    assert ": rate 0.5, " in first
    assert ": rate 0.09, " in second


# --- every optimizer of torch


def test_cardinality_optimizers():
    classes = {n for n in torch.optim.__all__ if inspect.isclass(getattr(torch.optim, n))}
    unusable = {"Optimizer", "LBFGS", "SparseAdam", "Muon"}
    assert set(SECTIONS["optimizer"].names()) == classes - unusable


@pytest.mark.parametrize("name", SECTIONS["optimizer"].names())
def test_smoke_every_optimizer_steps(name):
    torch.manual_seed(0)  # of some weights a step is too small to be seen
    model = model_of("FCN8")
    optimizer = optimizer_of(model, name, {"lr": 0.01}, backbone_rate=0.1, layer_decay=0.9)
    before = [p.clone() for p in model.parameters()]
    model(torch.randn(1, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam", "Muon"])
def test_exception_optimizers_that_cannot_train_a_model_here(name):
    (problem,) = problems_of({**minimal(), "optimizer": {"type": name}})
    assert problem.startswith(f"optimizer.type: {name} cannot be used: it ")


@pytest.mark.parametrize(
    ("kind", "args", "copies"),
    [
        ("AdamW", {"lr": 0.1}, 2), ("Adam", {"lr": 0.1, "amsgrad": True}, 3),
        ("SGD", {"lr": 0.1, "momentum": 0.9}, 1), ("SGD", {"lr": 0.1}, 0),
        ("LBFGS", {"lr": 0.1}, 0),
    ],
)  # fmt: skip
def test_feature_the_size_of_a_state_is_known_before_it_is_there(kind, args, copies):
    model = nn.Sequential(nn.Conv2d(3, 50, 3), nn.Linear(70, 80))
    optimizer = getattr(torch.optim, kind)(model.parameters(), **args)
    expected = copies * sum(p.nbytes for p in model.parameters())
    assert state_size(optimizer) == pytest.approx(expected, rel=0.01)
    assert not optimizer.state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("exp_avg"), "has no exp_avg"),
        (lambda state: state.update(step="x"), "has no step"),
        (lambda state: state.update(exp_avg_sq=torch.zeros(2)), r"exp_avg_sq .* is \(2,\), not"),
    ],
)
def test_exception_a_state_that_is_none(change, words):
    parameter = nn.Parameter(torch.zeros(3, 4))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    check_state(optimizer)  # of no step
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    check_state(optimizer)
    change(optimizer.state[parameter])
    with pytest.raises(ValueError, match=words):
        check_state(optimizer)


@pytest.mark.parametrize("kind", SECTIONS["optimizer"].names())
def test_feature_the_state_of_every_optimizer_is_taken(kind):
    cls = SECTIONS["optimizer"].find(kind)
    parameter = nn.Parameter(torch.randn(3, 4))
    optimizer = cls([parameter], lr=0.1)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    other = cls([parameter], lr=0.1)
    other.load_state_dict(optimizer.state_dict())
    check_state(other)
