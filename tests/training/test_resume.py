"""Runs that go on from a checkpoint, and end as if nothing had happened."""

import json
import os
import random
import signal

import numpy as np
import pytest
import torch

import train
from tests.slow import mark_slow
from tests.training_runs import (
    Constant,
    assert_same,
    make_trainer,
    newest,
    run,
    small_config,
    trained,
)
from trainer import Trainer
from utils.checkpoint.last import load_last
from utils.checkpoint.save_load import load_checkpoint


class Killed(Exception):
    """Ends a run wherever it is."""


def config_to_resume(tmp_path):
    """Dropout and an auxiliary head, so that the global random state matters."""
    tree = small_config(tmp_path, epochs=3)
    args = {"backbone": "timm/test_resnet", "pretrained": False}
    tree["arch"] = {"type": "PSPNet", "args": args}
    tree["train_loader"]["args"].update(num_images=6, batch_size=4)
    tree["val_loader"]["args"].update(num_images=2)
    tree["optimizer"]["differential_lr"] = True
    return tree


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    return run(folder, config_to_resume(folder))[1]


@pytest.mark.parametrize(
    "how, killed_in", mark_slow([("auto", 1), ("auto", 2), ("path", 2), ("path", 3)])
)
def test_feature_a_resumed_run_ends_the_same(tmp_path, monkeypatch, whole, killed_in, how):
    tree = config_to_resume(tmp_path)
    with monkeypatch.context() as patch:
        train_epoch = Trainer.train_epoch

        def killed(self, epoch):
            figures = train_epoch(self, epoch)
            if epoch == killed_in:
                raise Killed
            return figures

        patch.setattr(Trainer, "train_epoch", killed)
        with pytest.raises(Killed):
            run(tmp_path, tree)
    folder = newest(tmp_path)
    torch.manual_seed(999)  # another process would start elsewhere
    workers = ["-o", "train_loader.args.num_workers=1"]
    if killed_in == 1:  # nothing was saved yet: auto begins anew
        assert not (folder / "last.pth").exists()
        code, folder = run(tmp_path, tree, "--resume", "auto", *workers)
    elif how == "auto":
        code, resumed = run(tmp_path, tree, "--resume", "auto", *workers)
        assert resumed == folder
    else:
        code = train.main(["--resume", str(folder / "last.pth"), "--device", "cpu", *workers])
    assert code == 0
    for name in ("last.pth", "best_model.pth"):
        one, other = load_checkpoint(whole / name), load_checkpoint(folder / name)
        for checkpoint in (one, other):
            del checkpoint["config"]
        assert_same(one, other)


def test_feature_random_generators_go_on_where_the_checkpoint_left_them(tmp_path):
    """Steps seed torch's themselves, but a dataset or an operation may draw from any of them."""

    def drawn():
        return random.random(), np.random.rand(), torch.rand(1).item()

    trainer = make_trainer(tmp_path, Constant(6))
    trainer.meta = {"threshold": None}
    trainer.save_last()
    expected = drawn()
    checkpoint = load_last(trainer.folder.path / "last.pth")
    make_trainer(tmp_path, Constant(6)).load_state_dict(checkpoint, steps_per_epoch=3)
    assert drawn() == expected


def test_feature_resume_auto_without_a_run_starts_one_and_after_its_end_none(tmp_path, capsys):
    tree = small_config(tmp_path)
    folder = trained(tmp_path, tree, "--resume", "auto")
    assert "no earlier run" in capsys.readouterr().out
    before = load_checkpoint(folder / "last.pth")
    assert trained(tmp_path, tree, "--resume", "auto") == folder
    assert_same(before, load_checkpoint(folder / "last.pth"))


def test_exception_resume_with_a_changed_config(tmp_path, capsys):
    tree = small_config(tmp_path)
    _, folder = run(tmp_path, tree)
    tree["optimizer"]["args"]["lr"] = 1.0
    tree["trainer"]["epochs"] = 3
    code, _ = run(tmp_path, tree, "--resume", str(folder))
    error = capsys.readouterr().err
    assert code == 2
    assert "optimizer.args.lr: 1.0 here, 0.05 in the run to be resumed" in error
    assert "trainer.epochs: 3 here, 2 in the run to be resumed" in error
    changes = ["-o", "trainer.epochs=3", "-o", "optimizer.args.lr=1.0"]
    assert run(tmp_path, tree, "-r", str(folder), *changes)[0] == 0
    assert load_checkpoint(folder / "last.pth")["epoch"] == 3
    assert json.loads((folder / "config.json").read_text())["trainer"]["epochs"] == 3


def test_exception_resume_from_something_else(tmp_path, capsys):
    assert train.main(["--resume", str(tmp_path / "none.pth")]) == 2
    torch.save({"w": torch.ones(1)}, tmp_path / "bare.pth")
    assert train.main(["--resume", str(tmp_path / "bare.pth")]) == 2
    error = capsys.readouterr().err
    assert "none.pth: no such file" in error
    assert "bare.pth: contains" in error


def test_feature_ancestor_checkpoint_is_resumed(tmp_path, caplog):
    tree = small_config(tmp_path, epochs=3)
    _, folder = run(tmp_path, {**tree, "trainer": {**tree["trainer"], "epochs": 1}})
    ours = load_checkpoint(folder / "last.pth")
    theirs = {
        "arch": "DataParallel", "epoch": 1, "optimizer": ours["optimizer"], "config": tree,
        "state_dict": {f"module.{k}": v for k, v in ours["state_dict"].items()},
        "monitor_best": np.float64(0.9),
    }  # fmt: skip
    (tmp_path / "theirs").mkdir()
    path = tmp_path / "theirs" / "checkpoint-epoch1.pth"
    torch.save(theirs, path)
    assert train.main(["--resume", str(path), "--device", "cpu"]) == 0
    final = load_checkpoint(newest(tmp_path) / "last.pth")
    assert (final["epoch"], final["step"], final["monitor_best"]) == (3, 9, 0.9)
    assert final["lr_scheduler"]["last_epoch"] == 9


def test_feature_resume_auto_takes_the_config_of_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tree = small_config(tmp_path, epochs=1)
    (tmp_path / "config.json").write_text(json.dumps(tree))
    assert train.main(["-d", "cpu", "-o", "optimizer.args.lr=0.001"]) == 0
    assert train.main(["-d", "cpu", "--resume", "auto"]) == 0
    assert "Nothing left to train: 1 of 1 epochs" in capsys.readouterr().out
    assert train.main(["-d", "cpu", "--resume", "auto", "-o", "trainer.epochs=2"]) == 0
    config = json.loads((newest(tmp_path) / "config.json").read_text())
    assert (config["optimizer"]["args"]["lr"], config["trainer"]["epochs"]) == (0.001, 2)
    # The epochs that it names are more than those that are done, not than those asked for.
    assert train.main(["-d", "cpu", "--resume", "auto", "-o", "trainer.epochs=1"]) == 0
    assert "-o trainer.epochs=3." in capsys.readouterr().out
    assert train.main(["--resume", str(tmp_path / "saved")]) == 2
    assert f"the latest below it is {newest(tmp_path)}" in capsys.readouterr().err


def test_exception_a_failed_resume_leaves_the_run_alone(tmp_path, capsys):
    _, folder = run(tmp_path, small_config(tmp_path))
    before = (folder / "config.json").read_text()
    code = train.main(["-d", "cpu", "-r", str(folder), "-o", "arch.args.base_channels=4"])
    assert code == 2
    error = capsys.readouterr().err
    assert "does not fit the model of the config" in error
    assert error.count("\n") == 1
    assert (folder / "config.json").read_text() == before
    # A checkpoint that lies elsewhere would begin a new run: not even its folder is made.
    (tmp_path / "else.pth").write_bytes((folder / "last.pth").read_bytes())
    words = ["-r", str(tmp_path / "else.pth"), "-o", "arch.args.base_channels=4"]
    assert train.main(["-d", "cpu", *words]) == 2
    assert list((tmp_path / "saved" / "test").iterdir()) == [folder]


def test_feature_an_interruption_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(self, epoch):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return train_epoch(self, epoch)

    train_epoch = Trainer.train_epoch
    monkeypatch.setattr(Trainer, "train_epoch", interrupted)
    code, folder = run(tmp_path, small_config(tmp_path))
    assert code == 130
    assert f"go on with: python train.py --resume {folder}" in capsys.readouterr().err


def test_feature_a_copied_checkpoint_leaves_the_folder_that_it_lies_in_alone(tmp_path):
    _, first = run(tmp_path, small_config(tmp_path, epochs=1))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.pth").write_bytes((first / "last.pth").read_bytes())
    own = '// a config of the user\n{"name": "test"}\n'
    (elsewhere / "config.json").write_text(own)
    (elsewhere / "log.txt").write_text("")
    arguments = ["--resume", str(elsewhere / "mine.pth"), "--device", "cpu"]
    assert train.main([*arguments, "-o", "trainer.epochs=2"]) == 0
    assert (elsewhere / "config.json").read_text() == own
    assert len(list((tmp_path / "saved" / "test").glob("*/config.json"))) == 2


def test_exception_figures_that_cannot_be_taken_back(tmp_path, capsys, monkeypatch):
    """They would be there twice; as of a file that another user owns."""
    tree = small_config(tmp_path)
    assert run(tmp_path, tree)[0] == 0

    def refuse(path, size):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "truncate", refuse)
    capsys.readouterr()
    code, folder = run(tmp_path, tree, "--resume", "auto", "-o", "trainer.epochs=3")
    assert code == 2
    assert f"{folder / 'metrics.csv'}: cannot be truncated" in capsys.readouterr().err
    (folder / "metrics.csv").unlink()
    assert run(tmp_path, tree, "--resume", "auto", "-o", "trainer.epochs=3")[0] == 2
    assert f"{folder / 'steps.jsonl'}: cannot be truncated" in capsys.readouterr().err
