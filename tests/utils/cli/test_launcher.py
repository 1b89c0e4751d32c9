"""Several processes without torchrun, and signals before there is anything to save."""

import contextlib
import json
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import time

import pytest

import evaluate
import inference
import train
from tests.conftest import ROOT
from tests.training_runs import newest, run, small_config, steps_of
from tests.utils.distributed.test_processes import config
from utils.checkpoint.save_load import load_checkpoint
from utils.cli.signals import EXIT_CODES

CODES = [("SIGUSR1", 75), ("SIGTERM", 143), ("SIGINT", 130)]
PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from utils.cli.launcher import launch
sys.exit(launch(2, {train!r}, sys.argv[1:]))
"""


def start(tmp_path, tree, *program):
    """Start a program that starts train.py on the CPU."""
    (tmp_path / "config.json").write_text(json.dumps(tree))
    words = [*program, "--config", str(tmp_path / "config.json"), "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, *words], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def launched(tmp_path, tree):
    """Start train.py as two processes, as `n_gpu` does with GPUs."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(root=str(ROOT), train=str(ROOT / "train.py")))
    return start(tmp_path, tree, str(program))


def under_torchrun(tmp_path, tree):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return start(tmp_path, tree, *words, str(ROOT / "train.py"))


@pytest.mark.faults
def test_feature_two_processes_train_what_torchrun_trains(tmp_path):
    for name, start_program in (("own", launched), ("torchrun", under_torchrun)):
        (tmp_path / name).mkdir()
        program = start_program(tmp_path / name, config(tmp_path / name))
        out, err = program.communicate(timeout=300)
        assert program.returncode == 0, err
        assert out.count("epoch 2/2") == 1
    assert steps_of(newest(tmp_path / "own")) == steps_of(newest(tmp_path / "torchrun"))


@pytest.mark.faults
def test_exception_a_mistake_is_the_exit_code(tmp_path):
    tree = config(tmp_path)
    tree["optimizer"]["args"]["lr"] = 1e30  # the loss will not be finite
    program = launched(tmp_path, tree)
    _, err = program.communicate(timeout=300)
    assert program.returncode == 1
    assert err.count("error: the loss is") == 1
    assert "Traceback" not in err


@pytest.mark.faults
@pytest.mark.parametrize("number, code", CODES)
def test_feature_a_signal_for_the_launcher_reaches_all(tmp_path, number, code):
    tree = config(tmp_path, epochs=500)
    program = launched(tmp_path, tree)
    while not list(tmp_path.glob("saved/test/*/last.pth")):
        assert program.poll() is None, program.communicate()
        time.sleep(0.1)
    os.kill(program.pid, getattr(signal, number))
    _, err = program.communicate(timeout=300)
    assert program.returncode == code
    assert f"warning: {number}; go on with: python train.py --resume" in err
    steps = steps_of(newest(tmp_path))
    assert load_checkpoint(newest(tmp_path) / "last.pth")["step"] == len(steps)


@pytest.mark.faults
@pytest.mark.parametrize("number, code", [CODES[0], CODES[2]])
def test_feature_signals_while_the_program_ends(tmp_path, number, code):
    program = start(tmp_path, small_config(tmp_path, epochs=500), str(ROOT / "train.py"))
    while not list(tmp_path.glob("saved/test/*/last.pth")):
        assert program.poll() is None
        time.sleep(0.1)
    while program.poll() is None:
        program.send_signal(getattr(signal, number))
        time.sleep(0.02)
    _, err = program.communicate()
    assert program.returncode == code, err
    assert "Traceback" not in err and err.count("go on with") == 1


@pytest.mark.parametrize("number, code", CODES)
def test_feature_a_signal_before_training(tmp_path, monkeypatch, capfd, number, code):
    """It ends at once, with the processes that load, whatever the interpreter is at."""

    class Taken:
        def __del__(self):  # an exception is lost in here
            signal.raise_signal(getattr(signal, number))

    def building(*arguments):
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()
        Taken()

    monkeypatch.setattr("training.run.build_training", building)
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            run(tmp_path, small_config(tmp_path))
        os._exit(99)
    os.close(theirs)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    assert f"{number} before training began" in capfd.readouterr().err
    assert not (tmp_path / "saved").exists()
    assert select.select([ours], [], [], 30)[0]  # nobody holds the other end any more
    os.close(ours)


def test_feature_the_handlers_are_put_back(tmp_path):
    handlers = [signal.getsignal(number) for number in EXIT_CODES]
    assert run(tmp_path, small_config(tmp_path))[0] == 0
    assert [signal.getsignal(number) for number in EXIT_CODES] == handlers


@pytest.mark.parametrize("program", [train, evaluate, inference])
def test_feature_a_mistake_leaves_the_process_group(program, tmp_path, monkeypatch, capsys):
    """Its threads would abort the end of the interpreter, and the exit code would be another."""
    left = []
    name = "utils.distributed.collectives.destroy_process_group"
    monkeypatch.setattr(name, lambda: left.append(program))
    words = {
        train: ["--config", str(tmp_path / "none.json")],
        evaluate: ["--model", str(tmp_path / "none.pth")],
        inference: ["--model", str(tmp_path / "none.pth"), "--images", str(tmp_path)],
    }
    assert program.main(words[program]) == 2
    assert left == [program]
