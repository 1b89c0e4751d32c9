"""A run that is killed and resumed ends bit for bit as one that was left alone."""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import threading
import time

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import models
import train
from base.base_model import BaseModel
from tests.training_runs import (
    assert_same_end,
    newest,
    run,
    small_config,
    terminate_at_batch,
    trained,
)
from utils.checkpoint.save_load import load_checkpoint
from utils.cli.signals import (
    REQUEUE,
    StopSignals,
    block_signals,
    exit_ignoring_signals,
    ignore_signals_in_worker,
)

pytestmark = pytest.mark.faults

MANY = int(os.environ.get("KILLED_RUNS", "1"))


class Small(BaseModel):
    """A few milliseconds a step, so that a kill hits saving and starting as often as training."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.2)
        )
        self.classifier = nn.Conv2d(8, num_classes, 1)
        self.apply_freezing()

    def forward(self, images):
        return self.classifier(self.features(images))


@pytest.fixture(autouse=True)
def named(monkeypatch):
    monkeypatch.setattr(models, "Small", Small, raising=False)
    monkeypatch.setattr(models, "__all__", [*models.__all__, "Small"])


def config(tmp_path, workers=0, amp=False, epochs=4, **trainer):
    """Augmentation, dropout, a moving average, accumulation; 14 images in batches of 4."""
    trainer = {"accumulation_steps": 2, "ema_decay": 0.9, "save_every_steps": 2, **trainer}
    tree = small_config(tmp_path, tensorboard=True, log_per_iter=1, epochs=epochs, **trainer)
    tree["amp"] = amp
    tree["arch"] = {"type": "Small"}
    tree["train_loader"]["args"] |= {"num_images": 14, "num_workers": workers}
    tree["val_loader"]["args"] |= {"num_workers": workers}
    tree["optimizer"] = {"type": "Adam", "args": {"lr": 0.01}}
    return tree


# A process of its own that has imported everything, and has no threads, makes the children.
FORKS = multiprocessing.get_context("forkserver")
# Optimizers import the last one when they are built, in more time than the training takes.
PRELOADED = ["train", "trainer", "models", "dataloaders", __name__, "torch._dynamo"]
FORKS.set_forkserver_preload(PRELOADED)


def start(tmp_path, tree, *arguments):
    """train.py in a process group of its own."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tree))
    words = ["--config", str(path), "--device", "cpu", *arguments]
    child = FORKS.Process(target=run_child, args=(str(tmp_path / "output.txt"), words))
    child.start()
    return child


def run_child(output, words):
    os.setpgid(0, 0)
    torch.set_num_threads(1)
    models.Small, models.__all__ = Small, [*models.__all__, "Small"]
    # A program that is started by itself forks those that load; they would import everything here.
    multiprocessing.set_start_method("fork", force=True)
    with open(output, "a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        sys.stdout = sys.stderr = file
        try:
            code = train.main(words)
        except SystemExit as ending:  # as an interpreter does it: its frames are gone from here on
            code = ending.code
        exit_ignoring_signals(code)


def ended(child, seconds=60):
    """The exit code of a child, negative for a signal; None if it still runs then."""
    child.join(seconds)
    return child.exitcode


def send(child, number):
    """A signal for the program and the processes that load for it."""
    with contextlib.suppress(ProcessLookupError):
        while os.getpgid(child.pid) != child.pid:
            time.sleep(0.01)
        os.killpg(child.pid, number)


def assert_same_run(one, other):
    """Checkpoint, losses and curves; but for the names of the files that hold the curves."""
    assert_same_end(one, other)
    assert curves(one) == curves(other)


def curves(folder):
    """Every point of every curve, without times; speeds are left out.

    In order of their steps: files of programs that start in the same second have any order.
    """
    events = EventAccumulator(str(folder.parents[1] / "runs" / "test" / folder.name))
    events.Reload()
    return {
        tag: sorted((point.step, point.value) for point in events.Scalars(tag))
        for tag in events.Tags()["scalars"]
        if not tag.endswith(("images_per_second", "data_wait"))
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The same run, left alone, for each setting: its folder and how many seconds it took."""
    runs = {}

    def of(**settings):
        key = str(settings)
        if key not in runs:
            tmp_path = tmp_path_factory.mktemp("undisturbed")
            FORKS.Process().start()  # the server is there from now on
            child, began = start(tmp_path, config(tmp_path, **settings)), time.monotonic()
            assert ended(child, 300) == 0, (tmp_path / "output.txt").read_text()
            runs[key] = newest(tmp_path), time.monotonic() - began
        return runs[key]

    return of


@pytest.mark.parametrize("amp", [False, "bf16"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("seed", range(MANY))
def test_feature_killed_at_any_moment(tmp_path, undisturbed, record_property, workers, amp, seed):
    whole, seconds = undisturbed(workers=workers, amp=amp)
    rng, kills, code = random.Random(seed), 0, None
    tree = config(tmp_path, workers=workers, amp=amp)
    while code is None:
        child = start(tmp_path, tree, "--resume", "auto")
        # After five kills it may go on to its end.
        code = ended(child, rng.uniform(0, seconds) if kills < 5 else 300)
        kills += code is None
        send(child, signal.SIGKILL)
        ended(child)
    text = (tmp_path / "output.txt").read_text()
    assert code == 0, text
    record_property("kills", kills)
    record_property("resumed", text.count("Resuming after epoch"))
    folder = newest(tmp_path)
    assert_same_run(whole, folder)
    assert not list(folder.glob(".*.tmp"))


# 4 steps and 3 groups of validation images an epoch: each loads 7 times.
@pytest.mark.parametrize(
    "moment, workers, step",
    [(1, 0, 1), (4, 2, 4), (5, 0, 4), (7, 1, 4), (10, 0, 7), (25, 2, 16), (26, 0, 16),
     (28, 0, None)],
)  # fmt: skip
def test_feature_a_signal_at_a_moment(tmp_path, undisturbed, monkeypatch, moment, workers, step):
    """First step, last step, validation; resumed with another number of workers."""
    whole, _ = undisturbed(workers=2, amp=False)
    with monkeypatch.context() as patched:
        terminate_at_batch(moment, patched)
        code, folder = run(tmp_path, config(tmp_path, workers=workers))
    assert code == (143 if step else 0)  # in the last validation there is nothing left to resume
    if step:
        assert load_checkpoint(folder / "last.pth")["step"] == step
        others = ["-o", f"train_loader.args.num_workers={2 - workers}"]
        trained(tmp_path, config(tmp_path, workers=workers), "--resume", "auto", *others)
    assert_same_run(whole, folder)


CODES = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": REQUEUE}


@pytest.mark.parametrize("number", CODES)
def test_feature_signals_end_at_a_checkpoint(tmp_path, undisturbed, number):
    settings = {"workers": 2, "epochs": 12}
    whole, _ = undisturbed(**settings)
    child = start(tmp_path, config(tmp_path, **settings))
    while not any(path.stat().st_size for path in tmp_path.glob("saved/test/*/steps.jsonl")):
        time.sleep(0.01)
    send(child, getattr(signal, number))
    time.sleep(0.02)
    send(child, getattr(signal, number))  # a second one changes nothing
    assert ended(child, 10) == CODES[number], (tmp_path / "output.txt").read_text()
    text = (tmp_path / "output.txt").read_text()
    assert f"warning: {number}; go on with: python train.py --resume" in text
    assert "Traceback" not in text
    folder = newest(tmp_path)
    stopped = load_checkpoint(folder / "last.pth")
    assert 0 < stopped["step"] < 48
    assert ended(start(tmp_path, config(tmp_path, **settings), "--resume", "auto"), 300) == 0
    assert_same_run(whole, folder)


@pytest.mark.parametrize("seed", range(MANY))
def test_feature_signals_at_any_moment(tmp_path, undisturbed, seed):
    """Before training, in it, and while the program ends: its own exit code and no traceback."""
    whole, seconds = undisturbed(workers=2, amp=False)
    rng = random.Random(seed)
    number = rng.choice(list(CODES))
    child = start(tmp_path, config(tmp_path, workers=2))
    while not (tmp_path / "output.txt").exists():  # a program of its own from here on
        time.sleep(0.001)
    ended(child, rng.uniform(0.1, seconds))
    for _ in range(2):
        send(child, getattr(signal, number))
        time.sleep(rng.uniform(0, 0.1))
    code = ended(child, 10)
    text = (tmp_path / "output.txt").read_text()
    assert code in (0, CODES[number]), text
    assert "Traceback" not in text
    if code:
        assert f"{number} before training" in text or f"{number}; go on with: python" in text
        assert ended(start(tmp_path, config(tmp_path, workers=2), "--resume", "auto"), 300) == 0
    assert_same_run(whole, newest(tmp_path))


def test_feature_of_two_that_go_on_at_once_one_does(tmp_path):
    folder = trained(tmp_path, config(tmp_path, epochs=1))
    words = ["--resume", "auto", "-o", "trainer.epochs=10000"]
    pair = [start(tmp_path, config(tmp_path, epochs=1), *words) for _ in range(2)]
    until = time.monotonic() + 300
    while all(child.is_alive() for child in pair) and time.monotonic() < until:
        time.sleep(0.01)
    refused, going = sorted(pair, key=lambda child: child.is_alive())
    assert ended(refused) == 2 and going.is_alive()
    text = (tmp_path / "output.txt").read_text()
    assert text.count(f"error: {folder}: process {going.pid} on {socket.gethostname()} is") == 1
    begun = (folder / "steps.jsonl").read_text().count("\n")
    while (folder / "steps.jsonl").read_text().count("\n") < begun + 8:
        time.sleep(0.01)
    send(going, signal.SIGTERM)
    assert ended(going) == 143
    lines = (folder / "steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert load_checkpoint(folder / "last.pth")["step"] == len(lines)


def test_feature_the_first_of_two_signals_counts(tmp_path):
    """Also where both come in the middle of a call: the interpreter goes by their numbers."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException), StopSignals() as stop:
            stop.remember()
            os.write(theirs, b".")
            sum(range(10**8))  # one instruction, for seconds
            os._exit(stop.received)
        os._exit(99)
    os.read(ours, 1)
    time.sleep(0.3)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(child, number)
        time.sleep(0.1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == signal.SIGTERM
    for end in (ours, theirs):
        os.close(end)


def test_feature_signals_of_a_process_that_loads_are_its_own():
    """Those that end it do not end the main one, nine seconds later."""
    program = os.fork()
    if not program:
        with contextlib.suppress(BaseException), StopSignals(grace=0.1) as stop:
            stop.remember()
            loading = os.fork()
            if not loading:
                ignore_signals_in_worker()
                signal.raise_signal(signal.SIGTERM)
                os._exit(0)
            os.waitpid(loading, 0)
            time.sleep(0.5)
            os._exit(stop.received)
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(program, 0)[1]) == 0


def test_feature_a_signal_that_another_thread_gets_is_held_back_too():
    """What is being started is whole before the program ends."""
    ours, theirs = os.pipe()
    program = os.fork()
    if not program:
        with contextlib.suppress(BaseException), StopSignals(said=False):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            with block_signals():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.3)
                os.write(theirs, b"whole")
            time.sleep(10)
        os._exit(99)
    os.close(theirs)
    assert os.waitstatus_to_exitcode(os.waitpid(program, 0)[1]) == 143
    assert os.read(ours, 10) == b"whole"
    os.close(ours)
