"""Several processes of which one dies; runs resumed by another number of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.base.test_loader_faults import PATIENCE, assert_all_gone, is_there, workers_of
from tests.conftest import ROOT
from tests.processes import free_port
from tests.training_runs import assert_same_end, newest, steps_of, trained
from tests.utils.distributed.test_processes import assert_near, changed_train, config, train_on
from tests.utils.runs.test_run_lock import holder
from utils.checkpoint.save_load import load_checkpoint

pytestmark = pytest.mark.faults


def torchrun(tmp_path, tree, *arguments, where=("--standalone", "--nproc-per-node=2")):
    (tmp_path / "config.json").write_text(json.dumps(tree))
    command = [
        sys.executable, "-m", "torch.distributed.run", *where, str(ROOT / "train.py"),
        "--config", str(tmp_path / "config.json"), "--device", "cpu", *arguments,
    ]  # fmt: skip
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def ranks(process):
    """The processes that train, in the order of their ranks."""
    found = {}
    for pid in workers_of(process):
        environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
        found |= {int(v[5:]): pid for v in environment if v.startswith("RANK=")}
    return [found[rank] for rank in sorted(found)]


def after_epochs(tmp_path, process, count):
    while True:
        paths = list(tmp_path.glob("saved/test/*/last.pth"))
        if paths and load_checkpoint(paths[0])["epoch"] >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


@pytest.mark.parametrize("rank", [0, 1])
def test_exception_one_process_is_killed(tmp_path, rank):
    """All end: the others do not wait for it."""
    process = torchrun(tmp_path, config(tmp_path, epochs=10_000))
    after_epochs(tmp_path, process, 1)
    pids = ranks(process)
    os.kill(pids[rank], signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert "the program failed" not in err  # with a traceback; torchrun has its own
    if rank:
        assert "error: another process has ended; go on with: python train.py --resume" in err
    assert_all_gone(pids)
    assert load_checkpoint(newest(tmp_path) / "last.pth")["epoch"] >= 1


@pytest.mark.parametrize("number", ["SIGKILL", "SIGUSR1"])
def test_feature_without_torchrun_its_processes_end(tmp_path, number):
    """With a checkpoint; they would write beside those of the next start."""
    process = torchrun(tmp_path, config(tmp_path, epochs=10_000))
    after_epochs(tmp_path, process, 1)
    pids = ranks(process)
    process.send_signal(getattr(signal, number))
    process.wait(timeout=PATIENCE)
    assert_all_gone(pids)
    folder = newest(tmp_path)
    assert load_checkpoint(folder / "last.pth")["step"] == len(steps_of(folder))
    process.communicate()


@pytest.mark.parametrize("rank", [0, 1])
def test_feature_a_signal_in_validation_for_one_process(tmp_path, rank):
    """The other may have done its share already, or still be at work: the epoch is not lost."""
    program = changed_train(tmp_path, f"""
from base.validator import Validator
from utils.cli.launcher import launched_rank
score = Validator._score_rows
def slow(self, *args):
    if launched_rank() == {rank}:
        time.sleep(1)
        signal.raise_signal(signal.SIGTERM)
    return score(self, *args)
if "--resume" not in sys.argv:
    Validator._score_rows = slow
""")  # fmt: skip
    tree = config(tmp_path)
    done, folder = train_on(tmp_path, tree, 2, program=program)
    assert done.returncode != 0
    assert "warning: SIGTERM; go on with" in done.stderr
    checkpoint = load_checkpoint(folder / "last.pth")
    assert checkpoint["epoch"] == 0 and checkpoint["batch"] == checkpoint["step"] > 0
    done, folder = train_on(tmp_path, tree, 2, "--resume", "auto", program=program)
    assert done.returncode == 0, done.stderr


def test_exception_one_process_meets_a_broken_file(tmp_path):
    """Its own message is on the terminal, and nothing hangs."""
    program = changed_train(tmp_path, """
from base.base_dataset import DataError
from dataloaders import Shapes
from utils.cli.launcher import launched_rank
load = Shapes.load
def broken(self, index):
    if launched_rank() == 1 and self.reads > 12:
        raise DataError("x.png: is cut off")
    self.reads += 1
    return load(self, index)
Shapes.reads, Shapes.load = 0, broken
""")  # fmt: skip
    done, _ = train_on(tmp_path, config(tmp_path, epochs=10_000), 2, program=program)
    assert done.returncode != 0
    assert done.stderr.count("error: x.png: is cut off") == 1


def test_exception_a_run_folder_that_another_process_uses(tmp_path):
    """The main process is refused it, says so once, and the other does not wait for it."""
    folder = trained(tmp_path, config(tmp_path))
    with holder(folder) as pid:
        done, _ = train_on(tmp_path, config(tmp_path), 2, "--resume", "auto")
    assert done.returncode != 0
    assert done.stderr.count(f"process {pid} ") == 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run of two processes that nothing interrupts."""
    place = tmp_path_factory.mktemp("whole")
    done, folder = train_on(place, config(place, epochs=6, tensorboard=True), 2)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("machines", [1, 2])
def test_feature_torchrun_starts_it_again(tmp_path, whole, machines):
    """With --max-restarts and --resume auto a killed process costs nothing but time.

    Two agents as on two machines: one starts its process again, and so does the other.
    """
    where = ["--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    if machines == 2:
        where = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--max-restarts=2",
                 f"--rdzv-endpoint=127.0.0.1:{free_port()}"]  # fmt: skip
    tree = config(tmp_path, epochs=6, tensorboard=True)
    agents = [torchrun(tmp_path, tree, "--resume", "auto", where=where) for _ in range(machines)]
    after_epochs(tmp_path, agents[0], 1)
    pids = ranks(agents[-1])
    os.kill(pids[-1], signal.SIGKILL)
    for agent in agents:
        _, err = agent.communicate(timeout=PATIENCE)
        assert agent.returncode == 0, err
    assert_same_end(whole, newest(tmp_path))
    assert not any(map(is_there, pids))


@pytest.mark.parametrize("first, then", [(1, 2), (2, 1), (3, 2)])
def test_feature_resumed_by_another_number_of_processes(tmp_path, first, then):
    """Stopped within an epoch: the same batches, the same losses."""
    whole = trained(tmp_path / "whole", config(tmp_path / "whole"))
    program = changed_train(tmp_path, """
import trainer
step = trainer.Trainer.train_step
def stopping(self, *args):
    if self.step == 3:
        signal.raise_signal(signal.SIGTERM)
    return step(self, *args)
if "--resume" not in sys.argv:
    trainer.Trainer.train_step = stopping
""")  # fmt: skip
    tree = config(tmp_path)
    done, folder = train_on(tmp_path, tree, first, program=program)
    assert done.returncode != 0
    assert load_checkpoint(folder / "last.pth")["step"] == 4
    assert load_checkpoint(folder / "last.pth")["batch"] == 1
    done, folder = train_on(tmp_path, tree, then, "--resume", "auto", program=program)
    assert done.returncode == 0, done.stderr
    assert_near(whole, folder)
