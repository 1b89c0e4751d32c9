"""train.py on several processes: what comes out does not depend on the number of processes."""

import json

import numpy as np
import pytest
import torch

import train
from tests.conftest import ROOT
from tests.processes import run_program
from tests.training_runs import newest, small_config, steps_of, trained
from utils.checkpoint.save_load import load_checkpoint


def config(tmp_path, **trainer):
    """Batches of six images; the last one of an epoch has two, which is none for a third process.

    Every loss that sums, every option of a step. The rate is small: with a larger one rounding
    errors grow from step to step, as they do between two GPUs of different kinds.
    """
    options = {"accumulation_steps": 2, "ema_decay": 0.9, "clip_grad_norm": 1.0}
    tree = small_config(tmp_path, **options, **trainer)
    tree["train_loader"]["args"] |= {"num_images": 14, "batch_size": 6}
    tree["val_loader"]["args"] |= {"num_images": 7, "batch_size": 1}
    tree["optimizer"]["args"]["lr"] = 0.005
    tree["loss"] = [
        {"type": "CE_DiceLoss", "args": {"class_weights": "auto"}},
        {"type": "LovaszSoftmax", "weight": 0.5},
        {"type": "RegionAwareLoss"},
    ]
    return tree


def train_on(tmp_path, tree, processes, *arguments, program=ROOT / "train.py", **environment):
    """Run train.py on several processes; return what subprocess does, and the run folder."""
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tree))
    words = ["--config", path, "--device", "cpu", *arguments]
    done = run_program(program, processes, *words, folder=tmp_path, **environment)
    return done, newest(tmp_path)


def assert_near(one, other):
    """Losses and weights of two run folders, but for rounding; returns the second's checkpoint."""
    steps = [[(entry["step"], entry["loss"]) for entry in steps_of(path)] for path in (one, other)]
    assert np.array(steps[1]) == pytest.approx(np.array(steps[0]), rel=1e-5)
    expected, found = (load_checkpoint(path / "last.pth") for path in (one, other))
    assert found["monitor_best"] == pytest.approx(expected["monitor_best"], abs=1e-6)
    for name, tensor in expected["state_dict"].items():
        close = torch.allclose(found["state_dict"][name].float(), tensor.float(), 1e-4, 1e-5)
        assert close, name
    return found


def test_feature_any_number_of_processes_trains_the_same(tmp_path):
    folders = {}
    for processes in (1, 2, 3):
        place = tmp_path / str(processes)
        if processes == 1:
            folders[1] = trained(place, config(place))
        else:
            done, folders[processes] = train_on(place, config(place), processes)
            assert done.returncode == 0, done.stderr
            assert done.stdout.count("epoch 2/2") == 1  # one of them speaks
    weights = load_checkpoint(folders[1] / "last.pth")
    assert [entry["step"] for entry in steps_of(folders[1])] == list(range(1, 7))
    for processes in (2, 3):
        checkpoint = assert_near(folders[1], folders[processes])
        assert checkpoint.keys() == weights.keys()
        # The confusion of the loss is the whole batch's.
        one, other = (c["losses"][2]["confusion"] for c in (weights, checkpoint))
        assert torch.allclose(one, other, atol=1e-5)


def changed_train(folder, changes):
    """A program that is train.py but for some changes; returns its path."""
    lead = f"import signal, sys, time\nsys.path.insert(0, {str(ROOT)!r})\nimport torch, train\n"
    path = folder / "program.py"
    path.write_text(f"{lead}{changes}\nsys.exit(train.main())\n")
    return path


# In 64 bits.
IN_DOUBLE = """
def double(module, inputs):
    return tuple(x.double() if getattr(x, "dtype", None) == torch.float32 else x for x in inputs)
torch.set_default_dtype(torch.float64)
torch.nn.modules.module.register_module_forward_pre_hook(double)
torch.Tensor.float = torch.Tensor.double
"""


@pytest.mark.slow
def test_feature_what_differs_is_rounding(tmp_path):
    """AdamW, whose losses drift apart in 32 bits, gives the same in 64, over four epochs."""
    losses = {}
    for processes in (1, 3):
        place, program = tmp_path / str(processes), changed_train(tmp_path, IN_DOUBLE)
        tree = config(place, epochs=4)
        tree["optimizer"] = {"type": "AdamW", "args": {"lr": 0.005}}
        done, folder = train_on(place, tree, processes, program=program)
        assert done.returncode == 0, done.stderr
        losses[processes] = [float.fromhex(entry["exact"]) for entry in steps_of(folder)]
    assert len(losses[1]) == 12
    assert losses[3] == pytest.approx(losses[1], rel=1e-13)


def test_exception_a_mistake_is_said_once(tmp_path):
    tree = config(tmp_path)
    tree["train_loader"]["args"]["batch_size"] = 5
    tree["trainer"]["accumulation_steps"] = 1
    done, _ = train_on(tmp_path, tree, 2)
    assert done.returncode == 2
    assert done.stderr.count("cannot be divided over 2 processes; use 4 or 6") == 1
    assert not (tmp_path / "saved").exists()


def test_feature_find_lr_is_for_one_process(tmp_path, monkeypatch, capsys):
    for name in ("RANK", "LOCAL_RANK", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config(tmp_path)))
    assert train.main(["--config", str(path), "--device", "cpu", "--find-lr"]) == 2
    assert "--find-lr runs in one process" in capsys.readouterr().err


@pytest.mark.slow
def test_feature_what_each_process_skips_is_named_once(tmp_path):
    """Three of sixty images, on two processes; a fourth is one too many for both together."""
    for broken, code in (((3, 10, 30), 0), ((3, 10, 30, 41), 2)):
        place = tmp_path / str(len(broken))
        program = changed_train(tmp_path, f"""
from base.base_dataset import DataError
from dataloaders import Shapes
load = Shapes.load
def lost(self, index):
    if self.split == "train" and index in {broken}:
        raise DataError(f"{{self.samples[index].image}}: is cut off")
    return load(self, index)
Shapes.load = lost
""")  # fmt: skip
        tree = small_config(place, epochs=1)
        tree["train_loader"]["args"] |= {"num_images": 60, "on_bad_sample": "skip"}
        done, _ = train_on(place, tree, 2, program=program)
        assert done.returncode == code, done.stderr
        named = [line for line in done.stderr.splitlines() if "warning: skipped: " in line]
        if code == 0:
            assert len(named) == len(set(named)) == 3
            assert "train_loader: 3 of 60 images could not be used" in done.stderr
        else:
            assert done.stderr.count("error: 4 of 60 images cannot be used") == 1
