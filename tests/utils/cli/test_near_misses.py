"""utils/cli/near_misses.py, utils/config/keys.py: mistyped commands get the words to type."""

import argparse
import json

import pytest

import check
import convert
import evaluate
import inference
import train
from builders.sections import SECTIONS
from tests.conftest import run_code
from tests.utils.config.test_check_config import minimal
from utils.cli.command_line import Parser, add_overrides
from utils.config.keys import OTHER_NAMES, USUAL_PATHS, WORDS, names_in, paths_of
from utils.config.known_keys import light_names, names_by_path

PROGRAMS = {
    "train.py": train.parse_arguments, "check.py": check.parse_arguments,
    "evaluate.py": evaluate.parse_arguments, "inference.py": inference.parse_arguments,
    "convert.py": convert.parse_arguments,
}  # fmt: skip


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """What a program answers to a command line, in a folder with a config."""
    tree = minimal()
    tree["optimizer"]["args"]["momentum"] = 0.9
    tree["train_loader"]["args"].update(crop_size=32, flip=True)
    (tmp_path / "config.json").write_text(json.dumps(tree))
    monkeypatch.chdir(tmp_path)

    def run(line):
        program, *words = line.split()
        with pytest.raises(SystemExit) as end:
            PROGRAMS[program](words)
        assert end.value.code == 2
        return capsys.readouterr().err.partition("error: ")[2]

    return run


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # Keys of the config, each with its path and the value that was typed.
        ("train.py --epochs 5", "-o trainer.epochs=5"),
        ("train.py --epochs=5", "-o trainer.epochs=5"),
        ("train.py --lr 0.01", "-o optimizer.args.lr=0.01"),
        ("train.py --learning-rate 0.01", "-o optimizer.args.lr=0.01"),
        ("train.py --batch-size 8", "-o train_loader.args.batch_size=8 or -o val_loader.args.b"),
        ("train.py --batch_size 8", "-o train_loader.args.batch_size=8"),
        ("train.py --momentum .8", "-o optimizer.args.momentum=.8"),
        ("train.py --seed 3", "-o seed=3"),
        ("train.py --backbone resnet50", "-o arch.args.backbone=resnet50"),
        ("train.py --loss DiceLoss", "-o loss=DiceLoss"),
        ("train.py --model PSPNet", "-o arch.type=PSPNet"),
        ("train.py --betas 0.9 0.99", "-o 'optimizer.args.betas=[0.9, 0.99]'"),
        ("train.py --fp16", "-o amp=auto"),
        ("train.py --no-flip", "-o train_loader.args.flip=false"),
        ("train.py --flip", "-o train_loader.args.flip=true"),
        ("train.py --epochs", "-o trainer.epochs=VALUE"),
        ("train.py --epohcs 5", "did you mean -o trainer.epochs=5?"),
        ("train.py --name a b", "b: belongs to no option"),
        ("check.py --epochs 5", "-o trainer.epochs=5"),
        ("evaluate.py --batch-size 8", "write -o val_loader.args.batch_size=8"),
        # What one dash makes of them: `-c rop_size`, `-l`, `-o ptimizer...`.
        ("train.py -lr 0.1", "-o optimizer.args.lr=0.1"),
        ("train.py -crop_size 32", "-o train_loader.args.crop_size=32"),
        ("train.py -config c.json", "write --config c.json"),
        ("inference.py -overlay", "write --overlay"),
        ("inference.py -modle b.pth", "did you mean --model b.pth?"),
        # Devices.
        ("train.py --gpu 0", "--device 0"),
        ("train.py --gpus 2", "-o n_gpu=2"),
        ("train.py --gpus 0,1", "--device 0,1"),
        ("train.py --gpu_ids 0 1", "--device 0,1"),
        ("train.py --cpu", "--device cpu"),
        ("train.py --cuda", "--device cuda"),
        ("inference.py --gpus 2", "torchrun --nproc-per-node=2"),
        # Weights.
        ("train.py --weights a.pth", "-o init_from=a.pth to start from its weights, or --resume a"),
        ("inference.py --weights a.pth", "write --model a.pth"),
        ("inference.py --checkpoint a.pth", "write --model a.pth"),
        ("evaluate.py --ckpt a.pth", "write --model a.pth"),
        # Options of other programs, and mistyped ones.
        ("inference.py --input a b", "write --images a b"),
        ("inference.py --source a", "write --images a"),
        ("inference.py --out a", "write --output a"),
        ("inference.py --modle a.pth", "did you mean --model a.pth?"),  # nearer to --mode
        ("inference.py --epochs 5", "choose from --model, --images"),
        ("train.py --resum auto", "did you mean --resume auto?"),
        ("train.py --print_config", "write --print-config"),
        ("train.py --zzz 1", "-o KEY.PATH=VALUE"),
        ("check.py --num_workers 2", "write --workers 2"),
        ("convert.py coco in.json --out x", "write --output x"),
        ("convert.py labelme in -o x --clases a b", "did you mean --classes a b?"),
        # Words that belong to no option.
        ("train.py config.json", "write --config config.json"),
        ("train.py last.pth", "--resume last.pth"),
        ("train.py trainer.epochs=5", "write -o trainer.epochs=5"),
        ("train.py -o trainer.epochs 5", "write -o trainer.epochs=5"),
        ("train.py cuda", "--device cuda"),
        ("check.py --no-step config.json", "write --config config.json"),
        ("inference.py best_model.pth folder", "write --model best_model.pth"),
        ("inference.py best_model.pth folder", "write --images folder"),
        ("evaluate.py best_model.pth", "write --model best_model.pth"),
        ("convert.py labelme in more -o x", "more: belongs to no option"),
        # Commands.
        ("convert.py lableme in -o x", " labelme\n"),
        ("convert.py colors in", " colours\n"),
        ("convert.py in.json -o x", " coco in.json\n"),
        ("convert.py --output x coco in.json", " coco --output x ..."),
    ],
)
def test_exception_the_words_to_type(said, line, expected):
    message = said(line)
    assert expected in message
    assert "required" not in message


def test_exception_everything_at_once(said):
    message = said("train.py --epochs 5 config.json --gpu 0")
    lines = [line.split(":")[0].strip() for line in message.splitlines()[1:]]
    assert lines == ["--epochs 5", "config.json", "--gpu 0"]


@pytest.mark.parametrize(
    "line",
    [
        "train.py -c a.json -o trainer.epochs=5 -o a=b --find-lr --device 0,1",
        "train.py -ca.json --find-lr 20 -oa=-1 -d cpu",
        "check.py --sheet --no-step -c a.json",
        "evaluate.py -m a.pth -mo whole --find-threshold --json -",
        "inference.py -m a.pth -i a b 'c d' -e png -mo whole --overlay",
        "convert.py split a --val .2 --ignore-index 255 -1 -o x",
        "convert.py coco --classes a b -o x -- in.json",
    ],
)
def test_feature_good_command_lines_pass(line):
    program, *words = line.split()
    assert PROGRAMS[program](words)


def test_exception_a_long_word_is_cut(said):
    message = said("train.py --epochs " + "9" * 5000)
    assert len(message) < 1000


def test_feature_the_config_that_is_named_counts(said, tmp_path):
    tree = minimal()
    tree["trainer"]["val_per_epochs"] = 3
    tree["arch"]["args"]["depth_of_mine"] = 3
    (tmp_path / "other.json").write_text(json.dumps(tree))
    line = "train.py --val-interval 2 --config other.json --crop_size 3"
    message = said(line)
    assert "-o trainer.val_per_epochs=2" in message
    (tmp_path / "other.json").write_text("{")
    assert "-o train_loader.args.crop_size=3 or -o val_loader.args.crop_size=3" in said(line)


def test_feature_usual_paths_are_paths():
    """What the command line knows without torch is what the classes take."""
    tree = minimal()
    tree["arch"]["type"] = "DeepLab"
    tree["optimizer"]["type"] = "AdamW"
    tree["train_loader"]["type"] = tree["val_loader"]["type"] = "Folder"
    taken = names_by_path(tree, SECTIONS)
    for path, names in USUAL_PATHS.items():
        assert set(names) - {"momentum", "nesterov"} <= set(taken[path]), path
    tree["optimizer"]["type"] = "SGD"
    assert {"momentum", "nesterov"} <= set(names_by_path(tree, SECTIONS)["optimizer.args"])
    for path, names in light_names().items():
        assert set(names) <= {*taken[path], "lr_scheduler", "test_loader"}, path


def test_feature_other_names_lead_to_keys():
    keys = {key for names in (USUAL_PATHS, light_names()) for at in names.values() for key in at}
    assert {name.split(".")[0] for name in OTHER_NAMES.values()} <= keys
    for path in WORDS.values():
        assert path.split(".")[0] in keys or path in keys, path


def test_feature_paths_of():
    names = names_in({"a": 1, "optimizer": {"type": "x", "k": 1, "args": {"lr": 1}}, "trainer": 5})
    assert paths_of("LR", names) == paths_of("learning-rate", names) == ["optimizer.args.lr"]
    assert paths_of("k", names) == ["optimizer.k"]
    assert paths_of("a", names) == ["a"]
    assert paths_of("b", names) == paths_of("type", names) == []


def test_feature_a_mistyped_option_does_not_load_torch(tmp_path):
    code = (
        "import sys, train\n"
        "try: train.parse_arguments(['--epochs', '5'])\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    ran = run_code(code)
    assert ran.returncode == 0
    assert "-o trainer.epochs=5" in ran.stderr


def test_feature_a_parser_without_options_of_ours(capsys):
    parser = Parser("x")
    add_overrides(parser, ["loss"])
    assert parser.parse_args(["-o", "loss=a"]) == argparse.Namespace(overrides=["loss=a"])
    with pytest.raises(SystemExit):
        parser.parse_args(["--epochs", "5"])
    assert "trainer.epochs" not in capsys.readouterr().err
