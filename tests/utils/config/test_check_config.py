"""utils/config/check.py: a whole config, or some of its sections, held against the classes."""

import copy
import json
import re
import subprocess
import sys
from typing import Any

import pytest
from torch import nn

import check as check_program
import train
from builders.sections import SECTIONS
from evaluation.data import choose_section, read_tree
from tests.conftest import ROOT
from tests.utils.config.test_file import parse_text
from trainer import TRAINING_METRICS, VALIDATION_METRICS
from utils import losses
from utils.config.build import with_defaults
from utils.config.check import check_config, check_sections
from utils.config.errors import ConfigError
from utils.config.file import parse_config
from utils.config.sections import Component


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


def with_value(path, value) -> dict[str, Any]:
    """The minimal config with another value."""
    tree = node = minimal()
    *parents, last = path.split(".")
    for key in parents:
        node = node[key]
    node[last] = value
    return tree


def check(tree):
    return check_config(tree, SECTIONS, "config.json", VALIDATION_METRICS, TRAINING_METRICS)


def problems_of(tree) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(tree)
    return caught.value.problems


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


def test_exception_a_loss_of_another_base(monkeypatch):
    monkeypatch.setattr("utils.losses.__all__", [*losses.__all__, "Plain"])
    monkeypatch.setattr("utils.losses.Plain", type("Plain", (nn.Module,), {}), raising=False)
    assert problems_of({**minimal(), "loss": "Plain"}) == [
        "loss.type: Plain does not derive from SegmentationLoss; see CONTRIBUTING.md"
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
        ("train_loader.args.num_workers", -1, ">= 0"),
        ("train_loader.args.val_split", 1.0, "< 1"),
        ("train_loader.args.split", "vall", "\"vall\" is not a choice; did you mean 'val'?"),
        ("trainer.epochs", 0, ">= 1"),
        ("trainer.save_period", 0, ">= 1"),
        ("trainer.monitor", "max mIoU", "did you mean 'Mean_IoU'?"),
        ("trainer.monitor", "Mean_IoU", 'expected "max Mean_IoU"'),
        ("trainer.monitor", "max loss", "no metric named 'loss'"),
        ("trainer", [], "expected keys and values"),
        ("trainer.loggers", ["wand"], "\"wand\" is not a choice; did you mean 'wandb'?"),
        ("trainer.loggers", ["wandb"], "takes over what TensorBoard writes"),
        ("trainer.loggers", "mlflow", "expected `array`"),
        ("trainer.wnadb", {}, "did you mean 'wandb'?"),
        ("trainer.wandb", ["x"], "expected keys and values"),
        ("trainer.wandb", {"groop": "a"}, "wandb.groop: no such key; did you mean 'group'?"),
        ("trainer.wandb", {"mode": "off"}, '"off" is not a choice'),
        ("trainer.mlflow", {"tracking_uri": "./mlruns"}, "tracking_uri: './mlruns' is no address"),
        ("trainer.mlflow", {"tracking_url": "x"}, "did you mean 'tracking_uri'?"),
        ("optimizer.args.lr", -0.1, "Invalid learning rate"),
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
        ("name", "x" * 201, "is too long for the name of a folder"),
        ("naem", "x", "no such key"),
        ("val_loader", None, "or give train_loader.args.val_split"),
    ],
)
def test_exception_one_wrong_value(path, value, words):
    tree = with_value(path, value)
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
    tree = {**minimal(), "val_loader": None, "lr_scheduler": None}
    tree["trainer"]["val"] = False
    tree["loss"] = ["CrossEntropyLoss2d", {"type": "CrossEntropyLoss2d", "weight": 0.5}]
    config = check(tree)
    assert config.val_loader is config.lr_scheduler is None
    assert [term.weight for term in config.loss] == [1.0, 0.5]
    tree["trainer"].pop("val")
    tree["train_loader"]["args"]["val_split"] = 0.25
    assert check(tree).trainer.val


def test_feature_ancestor_keys_without_meaning_warn():
    tree = minimal()
    tree["arch"]["args"].update(backbone="resnet50", freeze_backbone=False)
    tree["train_loader"]["args"]["return_id"] = False
    tree["trainer"]["verbosity"] = 2
    config = check(tree)
    assert config.arch.args == {"base_channels": 4}
    assert {w.split(":")[0] for w in config.warnings} == {
        "arch.args.backbone", "arch.args.freeze_backbone", "train_loader.args.return_id",
        "trainer.verbosity",
    }  # fmt: skip


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
    tree = with_value(path, value)
    found = config = check(tree)
    for key in path.split("."):
        found = found[key] if isinstance(found, dict) else getattr(found, key)
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
    tree |= {"description": "mine", "wandb": {"project": "x"}, "_comment": "x"}
    tree |= {"epochs": 3, "epohcs": 3}
    tree["trainer"]["my_hook"] = True
    wrong = ("epochs", "epohcs")
    own = ("data", "lr_step", "description", "wandb", "_comment", "trainer.my_hook")
    assert set(check(tree).warnings) == {
        *(f"{key}: has no meaning here; what counts is trainer.epochs" for key in wrong),
        *(f"{key}: has no meaning here" for key in own),
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
    # As pytorch-segmentation documents it: a comment behind every key, odd spacing.
    config = check(parse_config(ROOT / "tests" / "ancestor_config.jsonc"))
    assert config.arch.type == "PSPNet"
    assert config.optimizer.differential_lr
    assert config.trainer.val_per_epochs == 5
    assert config.warnings == ()


def test_feature_real_ancestor_block_is_valid(real_data):
    check(parse_config(real_data.parent / "compat" / "config_block.jsonc"))


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


def test_exception_program_ends_with_one_message(tmp_path):
    (tmp_path / "bad.json").write_text('{"name": "x", "name": "y"}')
    command = [sys.executable, ROOT / "train.py", "--config", "bad.json"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert result.stderr.startswith("error: bad.json: name: ")
    assert result.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["bad.json"]


def test_exception_the_message_counts_the_problems(tmp_path, capsys):
    tree = {**minimal(), "trainer": {"epochs": 0}}
    tree["train_loader"]["args"]["batch_size"] = 0
    (tmp_path / "wrong.json").write_text(json.dumps(tree))
    assert train.main(["-c", str(tmp_path / "wrong.json")]) == 2
    error = capsys.readouterr().err
    assert "wrong.json has 2 problems" in error and "Traceback" not in error
    assert [p.name for p in tmp_path.iterdir()] == ["wrong.json"]
