"""Processes that load and die; shared memory that is too small."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.training_runs import small_config

pytestmark = pytest.mark.faults

SHARED = Path("/dev/shm")
# Seconds. What hangs does so for ever; a busy machine takes many times as long as an idle one.
PATIENCE = 300

# train.py, with something that happens in a process that loads the image of an index.
PROGRAM = """
import ctypes, os, sys
sys.path.insert(0, {root!r})
import train
from dataloaders import Shapes
from torch.utils.data import get_worker_info

load = Shapes.load
def faulty(self, place):
    if place == 7 and get_worker_info() is not None:
        {fault}
    return load(self, place)
Shapes.load = faulty
sys.exit(train.main())
"""


def config(tmp_path, **args):
    tree = small_config(tmp_path, epochs=10_000)
    for name in ("train_loader", "val_loader"):
        tree[name]["args"] |= {"num_workers": 2, **args}
    return tree


@contextlib.contextmanager
def started(tmp_path, tree, fault="pass", prefix=()):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(root=str(ROOT), fault=fault))
    (tmp_path / "config.json").write_text(json.dumps(tree))
    words = [sys.executable, str(program), "--config", str(tmp_path / "config.json"),
             "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(
        [*prefix, *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def failed(tmp_path, tree, fault="pass", prefix=()):
    """The error stream of a training that ends with 1."""
    with started(tmp_path, tree, fault, prefix) as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    return err


def after_an_epoch(tmp_path, process):
    while not list(tmp_path.glob("saved/test/*/last.pth")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def workers_of(process):
    """The processes below one, by what the system says."""
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(word) for word in text.split()]


def is_there(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def assert_all_gone(pids):
    """Neither processes nor their shared memory, after a while."""
    end = time.monotonic() + PATIENCE
    while any(map(is_there, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in pids if is_there(pid)]
    assert not [path for pid in pids for path in SHARED.glob(f"torch_{pid}_*")]


def test_exception_a_loader_process_is_killed(tmp_path):
    with started(tmp_path, config(tmp_path)) as process:
        after_an_epoch(tmp_path, process)
        workers = workers_of(process)
        assert len(workers) >= 2
        os.kill(workers[0], signal.SIGKILL)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert "error: a process that loads images was killed" in err
        assert "; go on with: python train.py --resume" in err
        assert "Traceback" not in err
        assert_all_gone([process.pid, *workers])


@pytest.mark.parametrize(
    "fault, how",
    [("ctypes.string_at(0)", "SIGSEGV"), ("os._exit(3)", "exit code 3"), ("os.abort()", "SIGABRT")],
)
def test_exception_a_loader_process_crashes(tmp_path, fault, how):
    err = failed(tmp_path, config(tmp_path), fault)
    assert f"error: a process that loads images has ended with {how}; python check.py" in err
    assert "Traceback" not in err


def test_exception_a_mistake_in_a_dataset_shows_its_place(tmp_path):
    err = failed(tmp_path, config(tmp_path), "raise KeyError('of the dataset')")
    assert "KeyError: 'of the dataset'" in err
    assert str(tmp_path / "program.py") in err


def test_feature_no_process_outlives_one_that_is_killed(tmp_path):
    with started(tmp_path, config(tmp_path)) as process:
        after_an_epoch(tmp_path, process)
        workers = workers_of(process)
        process.kill()
        process.wait()
        assert_all_gone([process.pid, *workers])


@pytest.mark.parametrize("size, batch_size", [(64, 4), (256, 8)])
def test_exception_shared_memory_is_too_small(tmp_path, size, batch_size):
    """At the first batch, and when only a larger one does not fit."""
    space = ["unshare", "--mount", "sh", "-c",
             "mount -t tmpfs -o size=100k tmpfs /dev/shm && exec \"$@\"", "sh"]  # fmt: skip
    if not shutil.which("unshare") or subprocess.run([*space, "true"], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    tree = config(tmp_path, image_size=size, batch_size=batch_size)
    err = failed(tmp_path, tree, prefix=space)
    assert "error: shared memory (/dev/shm) is too small for the batches" in err
    assert "num_workers: 0" in err
    assert "Traceback" not in err
    tree = config(tmp_path, image_size=size, batch_size=batch_size, num_workers=0)
    tree["trainer"]["epochs"] = 1
    with started(tmp_path, tree, prefix=space) as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
