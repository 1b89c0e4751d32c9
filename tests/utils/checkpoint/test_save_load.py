"""utils/checkpoint/save_load.py: atomic save, verified load."""

import os
import stat

import numpy as np
import pytest
import torch

from utils.checkpoint.save_load import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
    without_prefix,
)
from utils.files.atomic_write import write_text


def example() -> dict:
    return {
        "state_dict": {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.zeros(2)},
        "epoch": 3,
        "monitor_best": 0.5,
        "config": {"name": "x", "list": [1, None, True]},
        "nested": {"tuple": (1, 2.0), "text": "é"},
    }


def test_feature_round_trip_is_exact(tmp_path):
    path = tmp_path / "c.pth"
    save_checkpoint(example(), path)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.pop("state_dict")["a.weight"], example()["state_dict"]["a.weight"])
    expected = example()
    del expected["state_dict"]
    assert loaded == expected
    assert os.listdir(tmp_path) == ["c.pth"]
    # Other programs read it without knowing of the digest.
    assert torch.load(path, weights_only=True)["epoch"] == 3


def test_feature_file_mode_follows_the_umask(tmp_path):
    """Of checkpoints and of all other files."""
    old = os.umask(0o027)
    try:
        save_checkpoint(example(), tmp_path / "c.pth")
        write_text(tmp_path / "a.txt", "1")
    finally:
        os.umask(old)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o640] * 2


def test_feature_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "c.pth"
    save_checkpoint(example(), path)
    before = path.read_bytes()
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:

            def fail(*args):
                raise OSError("disk full")

            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="disk full"):
                save_checkpoint({"state_dict": {}}, path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["c.pth"]


def test_feature_a_checkpoint_survives_a_loss_of_power(tmp_path, monkeypatch):
    """Its content is on the disk before it gets its name, and then the name is."""
    done = []
    fsync, replace = os.fsync, os.replace

    def fsynced(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(*paths):
        done.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", fsynced)
    monkeypatch.setattr(os, "replace", renamed)
    save_checkpoint(example(), tmp_path / "c.pth")
    assert done == ["file", "rename", "folder"]


def test_feature_every_flipped_byte_is_found(tmp_path):
    """And every cut."""
    path = tmp_path / "c.pth"
    save_checkpoint({"state_dict": {"w": torch.arange(4.0)}}, path)
    good = path.read_bytes()
    load_checkpoint(path)
    flipped = (good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :] for at in range(len(good)))
    lengths = [*range(0, len(good) - 200, 101), *range(len(good) - 200, len(good))]
    for bad in (*flipped, *(good[:length] for length in lengths)):
        path.write_bytes(bad)
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


def test_feature_foreign_archive_with_damage(tmp_path):
    path = tmp_path / "c.pth"
    torch.save({"state_dict": {"w": torch.full((1000,), 7.0)}}, path)
    data = bytearray(path.read_bytes())
    data[data.find(np.float32(7.0).tobytes() * 8)] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_feature_ancestor_checkpoint(tmp_path, zipped):
    # As pytorch-segmentation writes it: a parallel wrapper's keys and a NumPy number.
    checkpoint = {
        "arch": "DataParallel", "epoch": 5, "state_dict": {"module.w": torch.ones(2)},
        "monitor_best": np.float64(0.25), "config": {"name": "PSPNet"},
    }  # fmt: skip
    path = tmp_path / "c.pth"
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    loaded = load_checkpoint(path)
    assert list(loaded["state_dict"]) == ["w"]
    assert loaded["monitor_best"] == 0.25
    assert type(loaded["monitor_best"]) is float


def test_feature_numpy_1_spelling(tmp_path):
    # NumPy 1 pickled its numbers under another module name.
    path = tmp_path / "c.pth"
    torch.save({"state_dict": {}, "monitor_best": np.float64(0.5)}, path,
               _use_new_zipfile_serialization=False)  # fmt: skip
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert load_checkpoint(path)["monitor_best"] == 0.5


def test_feature_bare_state_dict(tmp_path):
    path = tmp_path / "c.pth"
    torch.save({"module.w": torch.ones(1), "module.b": torch.ones(1)}, path)
    assert list(load_checkpoint(path)["state_dict"]) == ["w", "b"]
    assert list(without_prefix({"module.a": 1, "b": 2})) == ["module.a", "b"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"not a checkpoint", "is not a checkpoint"),
     (b"PK\x03\x04 half an archive", "cut off")],
)  # fmt: skip
def test_exception_no_checkpoint(tmp_path, content, words):
    path = tmp_path / "c.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_exception_other_files(tmp_path):
    torch.save(torch.ones(1), tmp_path / "t.pth")
    torch.save({"epoch": 1}, tmp_path / "e.pth")
    for name, words in (
        ("none.pth", "no such file"), ("", "is a folder"), ("t.pth", "Tensor"),
        ("e.pth", "no 'state_dict'"),
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match=words):
            load_checkpoint(tmp_path / name)
