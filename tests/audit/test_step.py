"""The trial step: the real model, losses and optimizer, measured and left alone."""

import json
import subprocess
import sys

import pytest
import torch

import check
from audit.step import MAX_SECONDS, try_step
from builders.data import build_loaders
from builders.training import build_training
from tests import audit_sets
from tests.conftest import ROOT
from utils.config.file import parse_config


@pytest.fixture
def tree(tmp_path):
    audit_sets.make_clean(tmp_path)
    return parse_config(tmp_path / "config.json")


def config_of(tmp_path, tree):
    (tmp_path / "config.json").write_text(json.dumps(tree))
    return check.read_config(check.parse_arguments(["-c", str(tmp_path / "config.json")]))


def take_step(tmp_path, tree):
    return try_step(config_of(tmp_path, tree), torch.device("cpu"), 0)


def test_feature_shapes_and_parameters_are_those_of_the_training(tmp_path, tree):
    tree["arch"]["args"]["base_channels"] = 4
    step, findings = take_step(tmp_path, tree)
    assert findings == []
    config = config_of(tmp_path, tree)
    parts = build_training(config, build_loaders(config), torch.device("cpu"))
    assert step.parameters == sum(p.numel() for p in parts.model.parameters())
    assert (step.images, step.labels) == ([4, 3, 32, 32], [4, 32, 32])
    assert step.logits == [4, 3, 32, 32] and step.steps == 3
    assert 0 < step.step_seconds < MAX_SECONDS and step.load_seconds > 0
    assert step.epoch_seconds == pytest.approx(3 * (step.step_seconds + step.load_seconds))
    assert step.training_seconds == step.epoch_seconds


@pytest.mark.slow
def test_feature_groups_and_rates_are_the_optimizers(tmp_path, tree):
    tree["arch"] = {"type": "FCN", "args": {"backbone": "resnet18", "pretrained": False,
                                            "freeze_backbone": True}}  # fmt: skip
    tree["optimizer"] = {"type": "SGD", "differential_lr": True, "args": {"lr": 0.5}}
    tree["lr_scheduler"] = {"type": "OneCycle"}
    step, findings = take_step(tmp_path, tree)
    assert findings == []
    (group,) = step.groups  # the frozen backbone has none
    assert group.rate == 0.5 and group.parameters + step.frozen == step.parameters
    assert step.frozen > 0 and step.forgotten == 0
    tree["arch"]["args"]["freeze_backbone"] = False
    step, _ = take_step(tmp_path, tree)
    assert [group.rate for group in step.groups] == [0.5, pytest.approx(0.05)]
    assert step.frozen == 0


def test_feature_a_loss_that_is_not_finite_is_a_finding(tmp_path, tree):
    audit_sets.loss(tmp_path, tree)
    step, (finding,) = take_step(tmp_path, tree)
    assert step is None and finding.kind == "loss" and "the loss is nan" in finding.message


def test_feature_out_of_memory_is_a_finding(tmp_path, tree, monkeypatch):
    from trainer import Trainer

    def train_batch(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. And so on")

    monkeypatch.setattr(Trainer, "train_batch", train_batch)
    step, (finding,) = take_step(tmp_path, tree)
    assert step is None and finding.kind == "memory"
    assert "smaller batch_size" in finding.fix


HOLD = """
import time, torch
from audit.step import _PeakMemory
size = 64 * 2**20
with _PeakMemory(torch.device("cpu")) as memory:
    held = torch.ones(size // 4)
    ends = time.monotonic() + 60  # a busy machine may let the watcher wait
    while memory.peak < 0.9 * size and time.monotonic() < ends:
        time.sleep(0.01)
    del held
print(memory.peak / size)
"""


def test_feature_the_peak_of_memory_is_seen():
    """Independent: the size of what is held for a moment, by a process that gives nothing back."""
    done = subprocess.run(
        [sys.executable, "-c", HOLD], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 0.9 < float(done.stdout) < 1.5


def test_feature_nothing_is_written(tmp_path, tree):
    before = sorted(tmp_path.rglob("*"))
    take_step(tmp_path, tree)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.gpu
def test_feature_memory_of_a_gpu(tmp_path, tree):
    tree["n_gpu"] = 1
    step, findings = try_step(config_of(tmp_path, tree), torch.device("cuda"), 1)
    assert findings == [] and step.memory_bytes > 4 * step.parameters
    assert "max_memory_allocated" in step.memory_kind
