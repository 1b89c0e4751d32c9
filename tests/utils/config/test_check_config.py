"""utils/config/file.py and utils/config/check.py: parsing, checking, building."""

import copy
import json
import re
import subprocess
import sys
import time
from typing import Any

import pytest
import torch

import check as check_program
import models
import train
from base.base_model import BaseModel
from builders.optimization import build_optimizer
from builders.sections import SECTIONS
from evaluation.data import choose_section, read_tree
from tests.conftest import ROOT
from trainer import TRAINING_METRICS, VALIDATION_METRICS
from utils.config.build import build, split_args, with_defaults
from utils.config.check import check_config, check_sections
from utils.config.errors import ConfigError, suggest
from utils.config.file import apply_overrides, parse_config
from utils.config.sections import Component
from utils.config.signatures import plain_hint


def minimal() -> dict[str, Any]:
    return {
        "name": "test",
        "arch": {"type": "UNet", "args": {"base_channels": 4}},
        "train_loader": {"type": "Shapes", "args": {"batch_size": 4}},
        "val_loader": {"type": "Shapes", "args": {"batch_size": 4, "split": "val"}},
        "optimizer": {"type": "SGD", "args": {"lr": 0.1}},
        "loss": "CrossEntropyLoss2d",
        "trainer": {"epochs": 1},
    }


def check(tree):
    return check_config(tree, SECTIONS, "config.json", VALIDATION_METRICS, TRAINING_METRICS)


def problems_of(tree) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(tree)
    return caught.value.problems


def parse_text(tmp_path, text, name="c.json"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return parse_config(path)


# --- parsing


def test_feature_comments_and_trailing_commas(tmp_path):
    text = '{"a": 1, // one\n /* two */ "b": ["x // no comment", 1e-4,],}'
    assert parse_text(tmp_path, text) == {"a": 1, "b": ["x // no comment", 1e-4]}


def test_feature_yaml_is_the_same_tree(tmp_path):
    yaml = "a: 1\nlr: 1e-4\non: yes\nlist: [1, 2.5, null, true]\nnested: {b: 'x'}\n"
    expected = {
        "a": 1,
        "lr": 1e-4,
        "on": "yes",
        "list": [1, 2.5, None, True],
        "nested": {"b": "x"},
    }
    assert parse_text(tmp_path, yaml, "c.yaml") == expected
    assert parse_text(tmp_path, json.dumps(expected), "c.json") == expected


def test_feature_byte_order_mark_is_passed_over(tmp_path):
    assert parse_text(tmp_path, b"\xef\xbb\xbf{}") == {}


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ('{"a": 1\n "b": 2}', "c.json", "line 2"),
        ('{"a": {"b": 1, "b": 2}}', "c.json", "a.b: stands twice"),
        ('{"a": [1, NaN]}', "c.json", "a.1: nan is not a usable number"),
        ('{"a": -Infinity}', "c.json", "a: -inf is not a usable number"),
        ('{"a": 1e999}', "c.json", "not a usable number"),
        (r'{"a": "b\u0000c"}', "c.json", "a: 'b\\x00c' holds characters that are none"),
        ("", "c.json", "is empty"),
        ("[1]", "c.json", "at the top, not [1]"),
        ("[" * 20000, "c.json", "nested too deeply"),
        ('{"a":' * 3000 + "1" + "}" * 3000, "c.json", "nested too deeply"),
        (b"\xff\xfe\x00", "c.json", "not UTF-8"),
        (b"\x00" * 70000, "c.json", "at most"),
        ("a: 1\na: 2\n", "c.yaml", "found duplicate key"),
        ("a: &x [1]\nb: *x\n", "c.yaml", "aliases"),
        ("a: [1\nb: 2", "c.yaml", "line 2"),
        ("a: .nan", "c.yaml", "a: nan is not a usable number"),
        ("a: 2020-01-01", "c.yaml", "expected plain data, not date"),
        ("a: !!python/object/apply:os.system ['true']", "c.yaml", "line 1"),
        ("[" * 20000, "c.yaml", "nested too deeply"),
        ("- " * 20000, "c.yaml", "nested too deeply"),
    ],
)
def test_exception_unreadable_files(tmp_path, text, name, words):
    with pytest.raises(ConfigError, match="c\\.") as caught:
        parse_text(tmp_path, text, name)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400


def test_exception_missing_file_suggests_a_neighbour(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"no such file; did you mean 'config\.json'"):
        parse_config(tmp_path / "confg.json")
    with pytest.raises(ConfigError, match="is a folder"):
        parse_config(tmp_path)


def test_feature_overrides():
    tree = {"a": {"b": 1}, "list": [{"w": 1}, {"w": 2}]}
    result = apply_overrides(tree, ["a.b=2e-3", "a.c=word", "list.1.w=null", "new.x=[1, 2]"])
    assert result == {
        "a": {"b": 2e-3, "c": "word"},
        "list": [{"w": 1}, {"w": None}],
        "new": {"x": [1, 2]},
    }
    assert tree == {"a": {"b": 1}, "list": [{"w": 1}, {"w": 2}]}


@pytest.mark.parametrize("override", ["a", "=1", "a..b=1", "a.b.c=1", "list.7=1", "list.x.w=1"])
def test_exception_overrides(override):
    with pytest.raises(ConfigError):
        apply_overrides({"a": {"b": 1}, "list": [1]}, [override])


# --- checking


def test_smoke_minimal_config_is_complete():
    config = check(minimal())
    assert config.arch == Component("UNet", {"base_channels": 4})
    assert config.trainer.save_dir == "saved/"
    assert config.ignore_index == 255
    shown = with_defaults(config, SECTIONS)
    assert shown["train_loader"]["args"]["image_size"] == 96
    assert check(json.loads(json.dumps(shown))).trainer == config.trainer


def test_exception_all_problems_at_once():
    tree = minimal()
    tree["arch"]["type"] = "Unett"
    tree["train_loader"]["args"]["crop_sise"] = 32
    del tree["trainer"]["epochs"]
    assert problems_of(tree) == [
        "arch.type: no model named 'Unett'; did you mean 'UNet'?",
        "train_loader.args.crop_sise: Shapes takes no such argument; did you mean 'crop_size'?",
        "trainer.epochs: required key is missing",
    ]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("train_loader.args.batch_size", 0, "expected `int` >= 1, not 0"),
        ("train_loader.args.batch_size", 2.5, "expected `int`, not 2.5"),
        ("train_loader.args.batch_size", "four", 'expected `int`, not "four"'),
        ("train_loader.args.batch_size", "4.5", 'expected `int`, not "4.5"'),
        ("train_loader.args.batch_size", "0", 'expected `int`, not "0"'),
        ("train_loader.args.shuffle", "maybe", "expected `bool`"),
        ("optimizer.args.lr", "nan", "expected `float`"),
        ("optimizer.args.lr", "9" * 5000, "expected `float`"),
        ("optimizer.lr", 0.1, "no such key; it belongs to optimizer.args.lr"),
        ("train_loader.shuffle", True, "it belongs to train_loader.args.shuffle"),
        ("train_loader.args.learning_rate", 0.1, "it belongs to optimizer.args.lr"),
        ("wd", 0.1, "it belongs to optimizer.args.weight_decay"),
        ("crop_size", 8, "belongs to train_loader.args.crop_size or val_loader.args.crop_size"),
        ("num_epochs", 5, None),
        ("trainer.seed", 5, "no such key; it belongs to the top (seed)"),
        ("trainer.patience", 5, "no such key; it is called 'early_stop' here"),
        ("trainer.save_perod", 5, "did you mean 'save_period'?"),
        ("trainre", {}, "did you mean 'trainer'?"),
        ("__class__", 1, "no such key"),
        ("train_loader.args.batch_size", True, "expected `int`, not true"),
        ("train_loader.args.crop_size", 0, "expected `int` >= 1, not 0"),
        ("train_loader.args.crop_size", -5, ">= 1"),
        ("train_loader.args.num_workers", -1, ">= 0"),
        ("train_loader.args.val_split", 1.0, "< 1"),
        ("train_loader.args.split", "vall", "\"vall\" is not a choice; did you mean 'val'?"),
        ("trainer.epochs", 0, ">= 1"),
        ("trainer.save_period", 0, ">= 1"),
        ("trainer.monitor", "max mIoU", "did you mean 'Mean_IoU'?"),
        ("trainer.monitor", "Mean_IoU", 'expected "max Mean_IoU"'),
        ("trainer.monitor", "max loss", "no metric named 'loss'"),
        ("trainer.epohcs", 1, "did you mean 'epochs'?"),
        ("trainer", [], "expected keys and values"),
        ("optimizer.args.lr", -0.1, "Invalid learning rate"),
        ("optimizer.args.lr", "fast", "expected `float`"),
        ("optimizer.args.momentum", -1, "momentum"),
        ("optimizer.args.params", [], "the program sets this itself"),
        ("optimizer.type", "LBFGS", "cannot be used: it evaluates the loss several times"),
        ("optimizer.type", "sgd", "did you mean 'SGD'?"),
        ("optimizer.differential_lr", 1, "expected `bool`"),
        ("arch.args.num_classes", 3, "the program sets this itself"),
        ("arch.args.base_channels", 0, ">="),
        ("arch", "UNet", "expected {"),
        ("arch.type", None, "expected `str`, not null"),
        ("arch.typ", "UNet", "no such key"),
        ("loss", "CrossEntropy", "did you mean 'CrossEntropyLoss2d'?"),
        ("loss", [], "the list is empty"),
        ("loss", [{"type": "CrossEntropyLoss2d", "weight": -1}], "loss.0.weight"),
        ("loss", {"type": "CrossEntropyLoss2d", "args": {"class_weights": [-1.0]}}, ">= 0"),
        ("loss", {"type": "CrossEntropyLoss2d", "args": {"ignore_index": 1}}, "the program sets"),
        ("lr_scheduler", {"type": "Poli"}, "did you mean 'Poly'?"),
        ("lr_scheduler", {"type": "OneCycle", "args": {"phase1": 2}}, "phase1"),
        ("seed", -1, ">= 0"),
        ("seed", 2**64, "<="),
        ("n_gpu", "all", "expected `int`"),
        ("ignore_index", 99999, "<="),
        ("name", "../up", "name of a folder"),
        ("name", "", "name of a folder"),
        ("name", "x" * 201, "is too long for the name of a folder"),
        ("naem", "x", "no such key"),
        ("val_loader", None, "or give train_loader.args.val_split"),
    ],
)
def test_exception_one_wrong_value(path, value, words):
    tree = minimal()
    *parents, last = path.split(".")
    node = tree
    for key in parents:
        node = node[key]
    node[last] = value
    if words is None:  # the right key is there, too
        assert check(tree).warnings
        return
    problems = problems_of(tree)
    assert len(problems) == 1, problems
    assert words in problems[0]
    assert problems[0].startswith(path.split(".")[0])


def test_exception_required_keys():
    assert problems_of({}) == [
        f"{key}: required key is missing"
        for key in ("name", "arch", "train_loader", "optimizer", "loss", "trainer")
    ]


def test_feature_arguments_have_the_type_that_the_hint_says():
    tree = minimal()
    tree["optimizer"] = {"type": "Adam", "args": {"lr": 1, "betas": [0.5, 0.9]}}
    tree["train_loader"] = {
        "type": "Folder",
        "args": {"data_dir": "x", "classes": 1, "palette": [[1, 2, 3]], "batch_size": 2},
    }
    config = check(tree)
    assert config.optimizer.args == {"lr": 1.0, "betas": (0.5, 0.9)}
    assert type(config.optimizer.args["lr"]) is float
    assert config.train_loader.args["palette"] == [(1, 2, 3)]
    assert config.tree["optimizer"]["args"]["betas"] == [0.5, 0.9]


def test_feature_optional_parts():
    tree = minimal()
    tree["val_loader"] = None
    tree["trainer"]["val"] = False
    tree["lr_scheduler"] = None
    config = check(tree)
    assert config.val_loader is None
    assert config.lr_scheduler is None
    tree["trainer"].pop("val")
    tree["train_loader"]["args"]["val_split"] = 0.25
    assert check(tree).trainer.val


def test_feature_sum_of_losses():
    tree = minimal()
    tree["loss"] = ["CrossEntropyLoss2d", {"type": "CrossEntropyLoss2d", "weight": 0.5}]
    assert [term.weight for term in check(tree).loss] == [1.0, 0.5]


def test_feature_ancestor_keys_without_meaning_warn():
    tree = minimal()
    tree["arch"]["args"].update(backbone="resnet50", freeze_backbone=False)
    tree["train_loader"]["args"]["return_id"] = False
    tree["trainer"]["verbosity"] = 2
    config = check(tree)
    assert config.arch.args == {"base_channels": 4}
    assert {w.split(":")[0] for w in config.warnings} == {
        "arch.args.backbone",
        "arch.args.freeze_backbone",
        "train_loader.args.return_id",
        "trainer.verbosity",
    }


@pytest.mark.parametrize(
    ("path", "value", "read"),
    [
        ("trainer.val", "True", True),
        ("trainer.val", "yes", True),
        ("trainer.tensorboard", "false", False),
        ("trainer.epochs", "8", 8),
        ("trainer.ema_decay", "null", None),
        ("optimizer.args.lr", "1e-4", 1e-4),
        ("optimizer.args.momentum", ".9", 0.9),
        ("optimizer.args.nesterov", "False", False),
        ("train_loader.args.shuffle", "True", True),
        ("train_loader.args.batch_size", "4", 4),
        ("train_loader.args.crop_size", "None", None),
        ("train_loader.args.val_split", "None", None),
        ("amp", "True", True),
        ("amp", "auto", "auto"),
        ("init_from", "None", None),
        ("init_from", "none", "none"),  # may be a file
        ("seed", "3", 3),
        ("threshold", "0.5", 0.5),
        ("name", "True", "True"),
        ("lr_scheduler", "None", None),
    ],
)
def test_feature_text_that_spells_a_value(path, value, read):
    tree = minimal()
    *parents, last = path.split(".")
    node = tree
    for key in parents:
        node = node[key]
    node[last] = value
    config = check(tree)
    found = config
    for key in parents:
        found = found[key] if isinstance(found, dict) else getattr(found, key)
    found = found[last] if isinstance(found, dict) else getattr(found, last)
    assert found == read and type(found) is type(read)
    shown = [w for w in config.warnings if w.startswith(f"{path}: ")]
    assert len(shown) == (value != read)
    assert all(f"{json.dumps(value)} is text; read as {json.dumps(read)}" in w for w in shown)
    assert config.tree == tree  # what a run stores, and a resumed one is compared with


def test_feature_text_in_lists_and_other_types():
    tree = minimal()
    tree["optimizer"] = {"type": "Adam", "args": {"betas": ["0.5", "0.9"], "amsgrad": "True"}}
    tree["arch"] = {"type": "PSPNet", "args": {"backbone": "resnet18", "pretrained": "False"}}
    config = check(tree)
    assert config.optimizer.args == {"betas": (0.5, 0.9), "amsgrad": True}
    assert config.arch.args["pretrained"] is False  # a path, if it were left as it is
    assert len(config.warnings) == 3


@pytest.mark.parametrize(
    "name", ["DeepLab", "PSPNet", "UperNet", "GCN", "UNetResnet", "SegResNet", "DeepLab_DUC_HDC"]
)
def test_feature_resnet_is_resnet101(name):
    tree = {**minimal(), "arch": {"type": name, "args": {"backbone": "resnet"}}}
    config = check(tree)
    assert config.arch.args["backbone"] == "resnet101"
    assert 'arch.args.backbone: "resnet" is resnet101 here' in config.warnings
    assert config.tree == tree


def test_feature_keys_of_ones_own():
    tree = minimal()
    tree |= {"data": {}, "lr_step": 3}  # not far from `nodata` and `log_step`
    tree |= {"description": "mine", "wandb": {"project": "x"}, "_comment": "x", "epochs": 3}
    tree["trainer"]["my_hook"] = True
    assert set(check(tree).warnings) == {
        "data: has no meaning here",
        "lr_step: has no meaning here",
        "description: has no meaning here",
        "wandb: has no meaning here",
        "_comment: has no meaning here",
        "epochs: has no meaning here; what counts is trainer.epochs",
        "trainer.my_hook: has no meaning here",
    }
    # In the args of a class nothing is one's own.
    tree["train_loader"]["args"]["my_hook"] = True
    assert "train_loader.args.my_hook: Shapes takes no such argument" in problems_of(tree)[0]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("epochs=5", "epochs: no such key; write -o trainer.epochs=5"),
        ("lr=0.1", "lr: no such key; write -o optimizer.args.lr=0.1"),
        ("optimizer.lr=0.1", "write -o optimizer.args.lr=0.1"),
        ("batch_size=4", "-o train_loader.args.batch_size=4 or -o val_loader.args.batch_size=4"),
        ("trainer.seed=4", "write -o seed=4"),
        ("epohcs=5", "epohcs: no such key; did you mean -o trainer.epochs=5?"),
        ("my_own=5", "my_own: no such key"),
        ("trainer.my_own=5", "trainer.my_own: no such key"),
        ("crop_size=" + "x" * 900, "crop_size=..."),
    ],
)
def test_exception_overrides_of_keys_without_their_path(tmp_path, capsys, override, expected):
    (tmp_path / "c.json").write_text(json.dumps(minimal()))
    for main in (train.main, check_program.main):
        assert main(["-c", str(tmp_path / "c.json"), "-o", override]) == 2
        message = capsys.readouterr().err
        assert expected in message
        assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("early_stp", "trainer.early_stop"),
        ("acumulation_steps", "trainer.accumulation_steps"),
        ("save_dirr", "trainer.save_dir"),
        ("momentun", "optimizer.args.momentum"),
        ("crop_sise", "train_loader.args.crop_size or val_loader.args.crop_size"),
        ("flpi", "train_loader.args.flip or val_loader.args.flip"),
        ("patince", "trainer.early_stop"),
        ("trainer.deterministc", "deterministic"),
    ],
)
def test_exception_mistyped_keys_of_another_section(key, meant):
    tree = minimal()
    tree["optimizer"] = {"type": "SGD", "args": {"lr": 0.1}}
    tree["trainer"].pop("save_dir", None)
    section, _, name = key.rpartition(".")
    (tree[section] if section else tree)[name] = 1
    assert problems_of(tree) == [f"{key}: no such key; did you mean {meant}?"]


def test_feature_mistyped_key_of_another_section_that_is_set():
    tree = {**minimal(), "epohcs": 3}
    assert check(tree).warnings == ("epohcs: has no meaning here; what counts is trainer.epochs",)


def test_exception_overrides_of_evaluate_without_their_path():
    for override, expected in {
        "batch_size=4": "-o val_loader.args.batch_size=4 or -o train_loader.args.batch_size=4",
        "epochs=4": "has no effect here",
    }.items():
        with pytest.raises(ConfigError, match=expected):
            read_tree(minimal(), "a.pth", None, [override])


def test_feature_no_val_split_in_words():
    tree = minimal()
    tree["train_loader"]["args"]["val_split"] = "None"
    del tree["val_loader"]
    assert problems_of(tree)[0].startswith("val_loader: required")
    for absent in ({}, {"val_loader": "None"}):
        with pytest.raises(ConfigError, match="no val_split"):
            choose_section(tree | absent, "val", "c.json")


def test_feature_one_section_alone():
    tree = {**minimal(), "arch": {"type": "UNet", "args": {"in_channels": "4"}}, "loss": "Gone"}
    before = copy.deepcopy(tree)
    keys = ("arch", "val_loader", "ignore_index", "lr_scheduler")
    values, warnings = check_sections(tree, keys, SECTIONS, "c.json")
    assert list(values) == list(keys)
    assert values["arch"] == Component("UNet", {"in_channels": 4})
    assert values["val_loader"].args["split"] == "val"
    assert (values["ignore_index"], values["lr_scheduler"]) == (255, None)
    assert [warning.partition(":")[0] for warning in warnings] == ["arch.args.in_channels"]
    assert tree == before


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        ("arch", {"type": "UNet", "args": {"epochs": 1}}, "arch.args.epochs"),
        ("arch", {"type": "UNett"}, "arch.type"),
        ("arch", None, "arch"),
        ("ignore_index", 2**20, "ignore_index"),
        ("optimizer", {"type": "SGD", "args": {"lr": -1}}, "optimizer.args"),
    ],
)
def test_exception_one_section_alone(key, value, path):
    with pytest.raises(ConfigError) as caught:
        check_sections({**minimal(), key: value}, [key], SECTIONS, "c.json")
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: ")
    with pytest.raises(ConfigError, match="train_loader: required"):
        check_sections({}, ["train_loader"], SECTIONS, "c.json")


def test_feature_a_check_leaves_the_config_as_it_is():
    tree = minimal()
    tree["arch"]["args"] |= {"num_classes": 3, "freeze_bn": "False"}
    tree["loss"] = [{"type": "FocalLoss", "args": {"alpha": [1, 2], "nothing": 1}}]
    tree |= {"val_loader": "None", "own": {"a": [1]}}
    before = copy.deepcopy(tree)
    problems_of(tree)
    assert tree == before


def test_feature_every_config_file_is_valid():
    files = [*sorted((ROOT / "configs").rglob("*.json")), ROOT / "config.json"]
    assert len(files) == 9
    for file in files:
        config = check(parse_config(file))
        assert config.warnings == (), file


def test_feature_examples_of_the_training_guide_are_valid(tmp_path):
    blocks = re.findall(r"```javascript\n(.*?)```", (ROOT / "docs/training.md").read_text(), re.S)
    assert len(blocks) >= 4
    for block in blocks:
        tree = {**minimal(), "trainer": {"epochs": 80}, **parse_text(tmp_path, block)}
        assert check(tree).warnings == ()


def test_feature_ancestor_block_is_valid(tmp_path):
    # The layout of the ancestor's documented block: a comment behind every key, odd spacing.
    config = check(parse_config(ROOT / "tests" / "ancestor_config.jsonc"))
    assert config.arch.type == "PSPNet"
    assert config.optimizer.differential_lr
    assert config.trainer.val_per_epochs == 5
    assert config.warnings == ()


def test_feature_real_ancestor_block_is_valid(real_data):
    check(parse_config(real_data.parent / "compat" / "config_block.jsonc"))


# --- building


def test_feature_build_is_the_constructor():
    model = build(models, Component("UNet", {"base_channels": 4}), BaseModel, "arch", num_classes=3)
    assert isinstance(model, models.UNet)
    assert model.num_classes == 3


def test_exception_build():
    with pytest.raises(ConfigError, match="arch"):
        build(models, Component("Nothing"), BaseModel, "arch", num_classes=3)
    with pytest.raises(ConfigError, match="at least 1"):
        build(models, Component("UNet", {"in_channels": 0}), BaseModel, "arch", num_classes=3)
    with pytest.raises(ConfigError, match="there is no"):
        build(models, Component("torch"), BaseModel, "arch", num_classes=3)


def test_feature_loader_arguments_have_one_owner():
    # A name that two owners share would reach both.
    from base.base_dataloader import LoaderOptions
    from utils.config.signatures import signature_of
    from utils.transforms.augmentation import Augmentation

    for name in SECTIONS["train_loader"].names():
        owners = [getattr(SECTIONS["train_loader"].namespace, name), Augmentation, LoaderOptions]
        names = [key for owner in owners for key in signature_of(owner)]
        assert len(names) == len(set(names)), name
    own, augmentation, options = split_args(
        {"split": "val", "flip": True, "batch_size": 2}, *owners
    )
    assert (own, augmentation, options) == ({"split": "val"}, {"flip": True}, {"batch_size": 2})


def test_feature_differential_rates():
    tree = minimal()
    tree["arch"] = {"type": "PSPNet", "args": {"backbone": "resnet18", "pretrained": False}}
    tree["optimizer"] = {"type": "SGD", "args": {"lr": 0.5}, "differential_lr": True}
    config = check(tree)
    model = build(models, config.arch, BaseModel, "arch", num_classes=3)
    groups = build_optimizer(config, model).param_groups
    assert [group["lr"] for group in groups] == [0.5, 0.05]
    sets = [{id(p) for p in group["params"]} for group in groups]
    assert sets[0] == {id(p) for p in model.get_decoder_params()}
    assert sets[1] == {id(p) for p in model.get_backbone_params()}


def test_feature_every_optimizer_of_torch():
    names = SECTIONS["optimizer"].names()
    assert {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam"} <= set(names)
    assert not {"LBFGS", "SparseAdam", "Optimizer"} & set(names)
    for name in names:
        tree = minimal()
        tree["optimizer"] = {"type": name}
        assert check(tree).optimizer.type == name


def test_feature_plain_hints():
    assert plain_hint(float | torch.Tensor) is float
    assert plain_hint(torch.Tensor) is Any
    assert plain_hint(tuple[float | torch.Tensor, float]) == tuple[float, float]
    assert plain_hint(int | None) == int | None


def test_feature_suggestions():
    assert suggest("pspnet", ["PSPNet", "UNet"]) == "; did you mean 'PSPNet'?"
    assert suggest("zzz", ["a"]) == ""
    assert suggest("zzz", ["a", "b"], listing=True) == "; choose from a, b"


# --- the program


def run_train(*arguments, cwd):
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return result, time.monotonic() - started


def test_exception_program_ends_with_one_message(tmp_path):
    (tmp_path / "bad.json").write_text('{"name": "x", "name": "y"}')
    result, _ = run_train("--config", "bad.json", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "error: bad.json: name: stands twice; keep one\n"
    tree = minimal()
    tree["trainer"] = {"epochs": 0}
    tree["train_loader"]["args"]["batch_size"] = 0
    (tmp_path / "wrong.json").write_text(json.dumps(tree))
    result, _ = run_train("-c", "wrong.json", cwd=tmp_path)
    assert result.returncode == 2
    assert "wrong.json has 2 problems" in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.json", "wrong.json"]


def test_feature_former_names_of_arguments_still_count():
    tree = minimal()
    tree["loss"] = {"type": "CrossEntropyLoss2d", "args": {"weight": [1, 2]}}
    config = check(tree)
    assert config.loss[0].args == {"class_weights": [1.0, 2.0]}
    assert "loss.args.weight: is called class_weights now" in config.warnings
    tree["loss"]["args"]["class_weights"] = "auto"
    assert any("weight: is the former name of class_weights" in t for t in problems_of(tree))
    del tree["loss"]["args"]["weight"]
    assert check(tree).loss[0].args == {"class_weights": "auto"}
