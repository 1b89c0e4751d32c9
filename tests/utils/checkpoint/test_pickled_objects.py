"""Whole models and objects beside weights: the owner is told what to type, and nothing is run."""

import argparse
import pathlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from builders.init_from import load_start
from utils.checkpoint.pickled_objects import how_to_save_weights_alone
from utils.checkpoint.save_load import CheckpointError

WEIGHTS = nn.Linear(2, 2).state_dict()
ARGS = argparse.Namespace(lr=0.1)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (nn.Linear(2, 2), ["torch.nn.modules.linear.Linear", "torch.save(model.state_dict(), "]),
        (nn.DataParallel(nn.Linear(2, 2)), ["DataParallel", "torch.save(model.state_dict(), "]),
        ({"epoch": 3, "model": nn.Linear(2, 2)}, ['torch.save(c["model"].state_dict(), ']),
        ({"epoch": 3, "state_dict": WEIGHTS, "args": ARGS},
         ["argparse.Namespace", '"args"', 'torch.save({"state_dict": c["state_dict"]}, ']),
        ({"args": ARGS, "model": WEIGHTS}, ['torch.save({"state_dict": c["model"]}, ']),
        ({"model_state_dict": WEIGHTS, "path": pathlib.PurePosixPath("a")},
         ["pathlib", 'torch.save({"state_dict": c["model_state_dict"]}, ']),
        ({"state_dict": WEIGHTS, "all": [ARGS]}, ['torch.save({"state_dict": c["state_dict"]}, ']),
    ],
)  # fmt: skip
def test_exception_the_lines_to_type(
    tmp_path: Path, content: Any, facts: list[str], legacy: bool
) -> None:
    path = tmp_path / "old.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError) as caught:
        load_start(path)
    message = str(caught.value)
    assert message.startswith(f"init_from: {path}: contains more than tensors")
    assert "\n" not in message and '"weights.pth")' in message
    for fact in facts:
        assert fact in message


def test_feature_the_lines_work(tmp_path: Path) -> None:
    """What is typed, by the owner, gives a file that is read."""
    path = tmp_path / "weights.pth"
    model, c = nn.Linear(2, 2), {"state_dict": WEIGHTS, "args": ARGS}
    torch.save(model.state_dict(), path)
    assert set(load_start(path).weights) == {"weight", "bias"}
    torch.save({"state_dict": c["state_dict"]}, path)
    assert set(load_start(path).weights) == {"weight", "bias"}


@pytest.mark.parametrize("name", ["a\nb", "x" * 99, "a b", "$(reboot)"])
def test_exception_names_of_a_stranger(tmp_path: Path, name: str) -> None:
    data = pickle.dumps({name: ARGS, "state_dict": 1}, protocol=2)
    (tmp_path / "a.pth").write_bytes(data)
    text = how_to_save_weights_alone(str(tmp_path / "a.pth"))
    assert "Namespace" in text and name not in text
    crooked = data.replace(b"cargparse\nNamespace\n", b"carg\x1bparse\nNamespace\n")
    (tmp_path / "a.pth").write_bytes(crooked)
    assert how_to_save_weights_alone(str(tmp_path / "a.pth")) == ""


@pytest.mark.parametrize("data", [b"", b"PK", b"\x80\x02", b"\x80\x04\x8c\xff", b"no pickle" * 99])
def test_exception_no_pickle(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(data)
    assert how_to_save_weights_alone(str(tmp_path / "a.pth")) == ""
