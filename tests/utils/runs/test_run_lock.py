"""One program at a time writes into a run folder."""

import contextlib
import errno
import os
import shutil
import signal
import socket
import time

import pytest

import train
from tests.training_runs import newest, run, small_config, trained
from trainer import Trainer
from utils.checkpoint.save_load import copy_of, load_checkpoint
from utils.runs import run_lock
from utils.runs.run_lock import LOCK_FILE, RunLock


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(run_lock, "SECONDS_BETWEEN", 0.01)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a run of two epochs."""
    place = tmp_path_factory.mktemp("made")
    folder = trained(place, small_config(place, epochs=2))
    return folder


@pytest.fixture
def finished(made, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(made, tmp_path / "saved" / "test" / "1")


@contextlib.contextmanager
def holder(folder, child_of_its_own=False):
    """A process that holds a run folder; yields its id."""
    ready, told = os.pipe()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            lock = RunLock()
            lock.take(folder)
            if child_of_its_own and not os.fork():
                time.sleep(5)
                os._exit(0)
            os.write(told, b".")
            signal.pause()
        os._exit(1)
    os.close(told)
    try:
        assert os.read(ready, 1) == b"."
        yield pid
    finally:
        os.close(ready)
        kill(pid)


def kill(pid):
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def is_held(folder):
    """Whether another process is refused the folder."""
    pid = os.fork()
    if not pid:
        try:
            RunLock().take(folder)
        except ValueError:
            os._exit(1)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def content(folder):
    """Names, inodes and bytes of everything but the lock file."""
    return {
        path.name: (path.stat().st_ino, path.read_bytes())
        for path in folder.iterdir()
        if path.name != LOCK_FILE
    }


def test_exception_a_run_folder_that_another_process_uses(finished, capsys):
    """Refused before anything in it changes, also by one that hangs; free once that is killed."""
    folder = finished
    (folder / ".last.pth.x.tmp").write_text("of the program that holds it")
    before = content(folder)
    words = ["-d", "cpu", "-o", "trainer.epochs=3", "--resume"]
    with holder(folder) as pid:
        for path in (folder, folder / "best_model.pth"):
            assert train.main([*words, str(path)]) == 2
            error = capsys.readouterr().err
            assert error.startswith(f"error: {folder}: process {pid} on {socket.gethostname()} is")
            assert f"`kill {pid}`" in error and "without --resume" in error
            assert error.count("\n") == 1
        os.kill(pid, signal.SIGSTOP)
        assert train.main([*words, str(folder)]) == 2
        assert f"process {pid} " in capsys.readouterr().err
        assert content(folder) == before
        kill(pid)
        assert train.main([*words, str(folder)]) == 0
    assert load_checkpoint(folder / "last.pth")["epoch"] == 3


def test_feature_a_run_holds_its_folder_to_the_end(tmp_path, monkeypatch):
    """A new one and a resumed one; the lock file names the process meanwhile."""
    seen = []

    def looking(self, epoch):
        folder = newest(tmp_path)
        # In another process: this one would release the lock when it closes the file.
        pid = os.fork()
        if not pid:
            words = (folder / LOCK_FILE).read_text().split()
            os._exit(words[:4] != ["process", str(os.getppid()), "machine", socket.gethostname()])
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        seen.append(is_held(folder))
        return train_epoch(self, epoch)

    train_epoch = Trainer.train_epoch
    monkeypatch.setattr(Trainer, "train_epoch", looking)
    tree = small_config(tmp_path, epochs=1)
    code, folder = run(tmp_path, tree)
    assert (code, seen) == (0, [True])
    assert train.main(["-d", "cpu", "-r", str(folder), "-o", "trainer.epochs=2"]) == 0
    assert seen == [True, True]
    assert (folder / LOCK_FILE).read_text() == ""
    # A start that fails lets go, too.
    assert train.main(["-d", "cpu", "-r", str(folder), "-o", "arch.args.base_channels=4"]) == 2
    assert not is_held(folder)


def test_feature_a_killed_process_lets_go_though_its_children_live(tmp_path):
    with holder(tmp_path, child_of_its_own=True) as pid:
        assert is_held(tmp_path)
        kill(pid)
        assert not is_held(tmp_path)


def test_exception_one_process_that_takes_it_twice(tmp_path):
    """POSIX locks do not keep a process from itself; closing the file would release the first."""
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with RunLock() as lock:
        lock.take(tmp_path / "run")
        with pytest.raises(ValueError, match=f"process {os.getpid()} "):
            RunLock().take(tmp_path / "link")
        assert is_held(tmp_path / "run")
    with RunLock() as lock:
        lock.take(tmp_path / "run")


def test_exception_a_file_system_without_locks(finished, monkeypatch, capsys):
    """One warning, and the training goes on."""

    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    words = ["-d", "cpu", "-r", str(finished)]
    with monkeypatch.context() as patched:
        patched.setattr(run_lock.fcntl, "lockf", refuse)
        assert train.main(words) == 0
    error = capsys.readouterr().err
    assert error.count(f"warning: {finished} cannot be locked (No locks available)") == 1
    monkeypatch.setattr(run_lock, "fcntl", None)
    assert train.main(words) == 0
    assert capsys.readouterr().err.count(f"warning: {finished} cannot be locked (") == 1


def test_exception_no_file_in_the_place_of_the_lock(tmp_path):
    """Nothing is followed or overwritten, and nothing waits for the other end of a pipe."""
    victim = tmp_path / "victim"
    victim.write_text("kept")
    path = tmp_path / LOCK_FILE
    for make in (lambda: path.symlink_to(victim), lambda: os.mkfifo(path), path.mkdir):
        make()
        with pytest.raises(OSError, match=LOCK_FILE):
            RunLock().take(tmp_path)
        path.rmdir() if path.is_dir() else path.unlink()
    assert victim.read_text() == "kept"


@pytest.mark.parametrize(
    "text",
    [
        "", "process -1\nmachine {host}\n", "process 1 2\nmachine {host}\n", "\0\xff" * 600,
        "process 1\nmachine \x1b[2J\n", "process 4194999\nmachine {host}\nsince 2026-01-01\n",
    ],
)  # fmt: skip
def test_exception_what_a_lock_file_says_is_not_taken_for_granted(tmp_path, text):
    """Of a process that died, or of nobody: no process is named that one would kill for it."""
    with holder(tmp_path):
        (tmp_path / LOCK_FILE).write_text(text.format(host=socket.gethostname()))
        with pytest.raises(ValueError, match="another process is using") as caught:
            RunLock().take(tmp_path)
    assert "kill" not in str(caught.value)


def test_exception_a_process_of_another_machine(tmp_path):
    """There no process can be looked for, and a file server may keep a dead machine's lock."""
    with holder(tmp_path):
        (tmp_path / LOCK_FILE).write_text("process 77\nmachine node7.lan\nsince 2026-01-01\n")
        with pytest.raises(ValueError, match="process 77 on node7.lan") as caught:
            RunLock().take(tmp_path)
    assert "`kill 77` on node7.lan" in str(caught.value)
    assert f"remove {tmp_path / LOCK_FILE}" in str(caught.value)


def test_feature_a_checkpoint_that_changed_before_the_lock_was_taken(finished, monkeypatch, capsys):
    """Another program saved and ended in between: its checkpoint is the one to go on from."""
    folder, times = finished, []

    def replacing(self, path, **options):
        times.append(path)
        if len(times) == 1:
            copy_of(folder / "previous.pth", folder / "last.pth")  # of epoch 1
        take(self, path, **options)

    take = RunLock.take
    monkeypatch.setattr(RunLock, "take", replacing)
    assert train.main(["-d", "cpu", "-r", str(folder)]) == 0
    assert times == [folder, folder]
    out = capsys.readouterr().out
    assert "last.pth has changed since it was read" in out
    assert out.count("Resuming after epoch 1.") == 1
    assert load_checkpoint(folder / "last.pth")["epoch"] == 2
