"""Small trainings for several tests."""

from __future__ import annotations

import csv
import itertools
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import train
from base.base_model import BaseModel
from builders.data import build_loader
from builders.sections import SECTIONS
from trainer import TRAINING_METRICS, VALIDATION_METRICS, Trainer
from utils.checkpoint.save_load import load_checkpoint
from utils.config.check import check_config
from utils.config.sections import Config, LossTerm
from utils.losses.cross_entropy import CrossEntropyLoss2d
from utils.runs.logger import RunFolder, RunLog
from utils.samples.normalize import normalize


def small_config(tmp_path: Path, **trainer: Any) -> dict[str, Any]:
    def loader(split, **args):
        return {
            "type": "Shapes",
            "args": {
                "split": split, "num_images": 10, "image_size": 32, "batch_size": 4,
                "num_workers": 0, **args,
            },
        }  # fmt: skip

    return {
        "name": "test",
        "arch": {"type": "UNet", "args": {"base_channels": 2}},
        "train_loader": loader("train", shuffle=True, augment=True, flip=True, rotate=True),
        "val_loader": loader("val", val=True),
        "optimizer": {"type": "SGD", "args": {"lr": 0.05, "momentum": 0.9}},
        "lr_scheduler": {"type": "OneCycle"},
        "loss": "CrossEntropyLoss2d",
        "trainer": {
            "epochs": 2, "save_dir": str(tmp_path / "saved"), "tensorboard": False,
            "log_dir": str(tmp_path / "saved" / "runs"), "save_period": 2, **trainer,
        },
    }  # fmt: skip


def run(tmp_path, tree, *arguments) -> tuple[int, Path]:
    """Runs train.py in this process; returns the exit code and the newest run folder."""
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tree))
    code = train.main(["--config", str(path), "--device", "cpu", *arguments])
    return code, newest(tmp_path)


def trained(tmp_path, tree, *arguments) -> Path:
    """The newest run folder of a run that ends well."""
    code, folder = run(tmp_path, tree, *arguments)
    assert code == 0
    return folder


def steps_of(folder) -> list[dict[str, Any]]:
    """The entries of `steps.jsonl`."""
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def newest(tmp_path) -> Path:
    folders = [p.parent for p in (tmp_path / "saved" / "test").glob("*/config.json")]
    return max(folders, key=lambda p: p.stat().st_mtime_ns, default=tmp_path)


def terminate_at_batch(number: int, patched: pytest.MonkeyPatch) -> None:
    """Let SIGTERM come when so many batches, of training and validation, are on the device."""
    batches = itertools.count(1)

    def normalized(*arguments):
        if next(batches) == number:
            signal.raise_signal(signal.SIGTERM)
        return normalize(*arguments)

    for module in ("trainer", "base.validator"):
        patched.setattr(f"{module}.normalize", normalized)


def assert_same(one: Any, other: Any, path: str = "") -> None:
    """Equal to the last bit."""
    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert list(one) == list(other), path
        for key in one:
            assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{path}.{i}")
    else:
        assert one == other, path


def assert_same_end(one: Path, other: Path) -> None:
    """Last checkpoints, losses and metrics of two run folders, but for config, names of logs."""
    first, second = (load_checkpoint(folder / "last.pth") for folder in (one, other))
    for checkpoint in (first, second):
        del checkpoint["logs"], checkpoint["config"]
    assert_same(first, second)
    assert (one / "steps.jsonl").read_text() == (other / "steps.jsonl").read_text()
    assert metrics_of(one) == metrics_of(other)


def metrics_of(folder: Path) -> list[list[str]]:
    """The rows of `metrics.csv` without its last three columns, the speeds."""
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][-3:] == ["images_per_second", "data_wait", "seconds"]
    return [row[:-3] for row in rows]


class Constant(BaseModel):
    """Logits that are parameters; auxiliary ones in training if asked."""

    def __init__(self, num_classes, auxiliary=0):
        super().__init__(num_classes)
        self.logits = nn.Parameter(torch.arange(float(num_classes)))
        self.auxiliary = auxiliary
        self.apply_freezing()

    def forward(self, images):
        size = (len(images), self.num_classes, *images.shape[2:])
        logits = self.logits.view(1, -1, 1, 1).expand(size)
        if self.training and self.auxiliary:
            return (logits, *[logits * 2] * self.auxiliary)
        return logits


def checked(tree) -> Config:
    return check_config(tree, SECTIONS, "c", VALIDATION_METRICS, TRAINING_METRICS)


def make_trainer(tmp_path, model, losses=None, **trainer) -> Trainer:
    config = checked(small_config(tmp_path, **trainer))
    folder = RunFolder.create(config.trainer.save_dir, config.trainer.log_dir, config.name)
    return Trainer(
        losses=losses or [(CrossEntropyLoss2d(), LossTerm("CrossEntropyLoss2d"))],
        train_loader=build_loader(config, "train_loader", training=True),
        val_loader=build_loader(config, "val_loader"), device=torch.device("cpu"), model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1), lr_scheduler=None, config=config,
        meta={}, folder=folder, log=RunLog(folder, tensorboard=False),
    )  # fmt: skip
