"""Whatever happens while a run is saved, there is a checkpoint to go on from."""

import contextlib
import errno
import itertools
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch

import base.base_trainer
from tests.training_runs import assert_same_end, run, small_config, terminate_at_batch, trained
from trainer import Trainer
from utils.checkpoint.last import load_last, put_back_previous
from utils.checkpoint.save_load import (
    CheckpointError,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
)
from utils.runs.logger import RunLog

# What a save does to the disk, one after the other.
OPERATIONS = [
    (tempfile, "mkstemp"), (os, "fdopen"), (os, "fsync"), (os, "chmod"), (os, "close"),
    (os, "link"), (os, "replace"),
]  # fmt: skip


def state(epoch):
    return {"state_dict": {"w": torch.full((1000,), float(epoch))}, "epoch": epoch}


def save(folder, epoch):
    names = {"copies": ["best_model.pth"], "previous": "previous.pth"}
    save_checkpoint(state(epoch), folder / "last.pth", **names)


class Unlucky:
    """Calls `fault` in place of the operation of a number, writes and flushes among them."""

    def __init__(self, fault, number):
        self.fault, self.number, self.count = fault, number, 0

    def meets(self):
        self.count += 1
        return self.count == self.number

    def of(self, function):
        def operation(*args, **kwargs):
            if self.meets():
                self.fault()
            result = function(*args, **kwargs)
            return UnluckyFile(result, self) if function is FDOPEN else result

        return operation

    def patch(self, patched):
        for module, name in OPERATIONS:
            patched.setattr(module, name, self.of(getattr(module, name)))


FDOPEN = os.fdopen


class UnluckyFile:
    def __init__(self, file, luck):
        self.file, self.luck = file, luck

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        if self.luck.meets():
            self.file.write(bytes(data)[: len(data) // 2])
            self.file.flush()
            self.luck.fault()
        return self.file.write(data)

    def flush(self):
        if self.luck.meets():
            self.luck.fault()
        self.file.flush()


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # the same file may stand under another name, too
    path.write_bytes(content)


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save(folder, 1)
    save(folder, 2)
    return folder


def save_and_die(folder, number):
    """A process saves and dies at the operation of a number; whether it came to its end before."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException), pytest.MonkeyPatch.context() as patched:
            Unlucky(lambda: os._exit(9), number).patch(patched)
            save(folder, 3)
            os._exit(0)
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 0


@pytest.mark.slow
def test_feature_death_at_every_operation(tmp_path):
    """At each write, flush, fsync, link and rename: a checkpoint that verifies; all cleaned up."""
    folder, found = tmp_path / "run", set()
    for number in itertools.count(1):
        fresh(folder)
        survived = save_and_die(folder, number)
        for name in ("last.pth", "previous.pth", "best_model.pth"):
            load_checkpoint(folder / name)
        found.add(load_checkpoint(folder / "last.pth")["epoch"])
        remove_leftovers(folder)
        assert sorted(os.listdir(folder)) == ["best_model.pth", "last.pth", "previous.pth"]
        save(folder, 4)
        assert sorted(os.listdir(folder)) == ["best_model.pth", "last.pth", "previous.pth"]
        assert load_checkpoint(folder / "last.pth")["epoch"] == 4
        if survived:
            break
    assert found == {2, 3}
    assert number > 20  # so many places to die at


def test_exception_every_operation_that_fails(tmp_path):
    folder = tmp_path / "run"

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    for number in itertools.count(1):
        fresh(folder)
        before = (folder / "last.pth").read_bytes()
        with pytest.MonkeyPatch.context() as patched:
            luck = Unlucky(full, number)
            luck.patch(patched)
            try:
                save(folder, 3)
            except OSError as error:
                assert error.errno == errno.ENOSPC
        if luck.count < number:
            break
        content = (folder / "last.pth").read_bytes()
        # A link that cannot be made is a copy; after the last renaming the new one stands.
        assert content == before or load_checkpoint(folder / "last.pth")["epoch"] == 3
        assert sorted(os.listdir(folder)) == ["best_model.pth", "last.pth", "previous.pth"]
        for name in os.listdir(folder):
            load_checkpoint(folder / name)
    assert number > 20


def test_feature_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, capsys):
    fresh(tmp_path / "run")
    path = tmp_path / "run" / "last.pth"
    flip_a_byte(path)
    assert load_last(path).epoch == 1
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {path}: is damaged")
    assert said.endswith(f"; going on from {path.with_name('previous.pth')}\n")
    flip_a_byte(path.with_name("previous.pth"))
    with pytest.raises(CheckpointError, match=r"last.pth: is damaged.*previous.pth: is damaged"):
        load_last(path)
    path.with_name("previous.pth").unlink()
    with pytest.raises(CheckpointError, match="is damaged"):
        load_last(path)


@pytest.mark.slow
def test_feature_death_after_a_damaged_checkpoint(tmp_path):
    """The one that the run goes on from is not replaced by the damaged one."""
    folder = tmp_path / "run"
    for number in itertools.count(1):
        flip_a_byte(fresh(folder) / "last.pth")
        put_back_previous(folder)
        survived = save_and_die(folder, number)
        assert load_last(folder / "last.pth").epoch in (1, 3)
        assert load_checkpoint(folder / "previous.pth")["epoch"] == 1
        if survived:
            break
    assert number > 20


@pytest.mark.slow
def test_feature_a_run_goes_on_from_the_one_before(tmp_path, monkeypatch, capsys):
    """A byte of last.pth has changed on the disk: the run ends as it would have."""
    whole = stopped_and_resumed(tmp_path / "whole", monkeypatch, damaged=False)
    assert "is damaged" not in capsys.readouterr().err
    folder = stopped_and_resumed(tmp_path / "damaged", monkeypatch, damaged=True)
    assert "is damaged" in capsys.readouterr().err
    assert_same_end(whole, folder)


def stopped_and_resumed(tmp_path, monkeypatch, *, damaged):
    """The folder of a run that is stopped in its second epoch."""
    tree = small_config(tmp_path, epochs=3, save_every_steps=2, tensorboard=True)
    with monkeypatch.context() as patched:
        terminate_at_batch(8, patched)
        code, folder = run(tmp_path, tree)
    assert code == 143
    if damaged:
        flip_a_byte(folder / "last.pth")
    with monkeypatch.context() as patched:
        patched.setattr(base.base_trainer, "save_checkpoint", save_and_look)
        assert run(tmp_path, tree, "--resume", "auto")[0] == 0
    return folder


def save_and_look(checkpoint, path, **options):
    save_checkpoint(checkpoint, path, **options)
    load_checkpoint(path.with_name("previous.pth"))


@contextlib.contextmanager
def small_disk(path, size="1500k"):
    """A file system of its own; needs the rights of the administrator."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_exception_the_disk_is_full(tmp_path, capsys):
    with small_disk(tmp_path / "disk") as disk:
        tree = small_config(tmp_path, epochs=50, save_period=1)
        tree["trainer"]["save_dir"] = str(disk)
        code, _ = run(tmp_path, tree)
        said = capsys.readouterr().err
        (folder,) = (disk / "test").iterdir()
        assert code == 1
        words = "last.pth cannot be written: No space left on device; it takes "
        assert f"error: {folder}/{words}" in said
        assert " are free; the last.pth before it is whole; go on with: python train.py" in said
        epochs = load_checkpoint(folder / "last.pth")["epoch"]
        assert 1 <= epochs < 50
        assert not list(folder.glob(".*.tmp"))
        # With room again the run goes on.
        for path in folder.glob("checkpoint-epoch*.pth"):
            path.unlink()
        words = ["-o", "trainer.save_period=1000", "-o", f"trainer.epochs={epochs + 2}"]
        assert run(tmp_path, tree, "--resume", str(folder), *words)[0] == 0
        assert load_checkpoint(folder / "last.pth")["epoch"] == epochs + 2


def test_exception_no_room_is_found_before_a_folder(tmp_path, capsys):
    with small_disk(tmp_path / "disk", "20k") as disk:
        tree = small_config(tmp_path)
        tree["trainer"]["save_dir"] = str(disk / "saved")
        tree["arch"]["args"]["base_channels"] = 8
        assert run(tmp_path, tree)[0] == 2
        said = capsys.readouterr().err
        assert "error: trainer.save_dir: a checkpoint of this model takes " in said
        assert not list(disk.iterdir())


def test_exception_a_disk_that_becomes_read_only(tmp_path, capsys, monkeypatch):
    with small_disk(tmp_path / "disk", "20m") as disk:
        tree = small_config(tmp_path, epochs=4)
        tree["trainer"]["save_dir"] = str(disk)

        def refuse(*args, **kwargs):
            raise OSError(errno.EROFS, "Read-only file system")

        with monkeypatch.context() as patched:
            at_epoch(patched, 3, lambda: patched.setattr(tempfile, "mkstemp", refuse))
            assert run(tmp_path, tree)[0] == 1
        said = capsys.readouterr().err
        assert "last.pth cannot be written: Read-only file system; the last.pth before it" in said
        (folder,) = (disk / "test").iterdir()
        assert load_checkpoint(folder / "last.pth")["epoch"] == 2
        # Where nothing can be written it does not even begin.
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert run(tmp_path, tree, "--resume", "auto")[0] == 2
        said = capsys.readouterr().err
        assert "error: trainer.save_dir: cannot be written to" in said
        assert run(tmp_path, tree)[0] == 2
        assert "error: trainer.save_dir: cannot make a folder in" in capsys.readouterr().err


def test_exception_a_folder_that_vanishes(tmp_path, capsys, monkeypatch):
    at_epoch(monkeypatch, 2, lambda: shutil.rmtree(tmp_path / "saved"))
    assert run(tmp_path, small_config(tmp_path))[0] == 1
    said = capsys.readouterr().err
    assert "last.pth cannot be written: its folder is gone; there is no checkpoint to go" in said


def at_epoch(monkeypatch, number, event):
    """Something happens when an epoch begins."""
    train_epoch = Trainer.train_epoch

    def beginning(self, epoch):
        if epoch == number:
            event()
        return train_epoch(self, epoch)

    monkeypatch.setattr(Trainer, "train_epoch", beginning)


@pytest.mark.parametrize("log", ["log.txt", "steps.jsonl", "metrics.csv", "TensorBoard"])
def test_feature_a_log_that_cannot_be_written_ends_nothing(tmp_path, monkeypatch, caplog, log):
    tree = small_config(tmp_path, epochs=3, tensorboard=True, log_per_iter=1)
    caplog.set_level(logging.WARNING)

    class Full:
        def __init__(self, name):
            self.name = name

        def write(self, text=""):
            raise OSError(errno.ENOSPC, "No space left on device")

        flush = close = write

    def fill(self, folder, **kwargs):
        create(self, folder, **kwargs)
        if log == "log.txt":
            self._handler.stream = Full(log)
        elif log == "steps.jsonl":
            self._steps = Full(log)
        elif log == "metrics.csv":
            self._metrics = Full(log)
        else:
            events = self._writer.file_writer.event_writer._async_writer._writer
            events._writer.write = Full("").write

    create = RunLog.__init__
    monkeypatch.setattr(RunLog, "__init__", fill)
    folder = trained(tmp_path, tree)
    warned = [r.getMessage() for r in caplog.records if "cannot be written" in r.getMessage()]
    assert len(warned) == 1
    assert log in warned[0] and "No space left on device" in warned[0]
    assert load_checkpoint(Path(folder, "last.pth"))["epoch"] == 3
