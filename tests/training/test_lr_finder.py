"""training/lr_finder.py: the sweep, what it says, and the program."""

import json
import multiprocessing

import cv2
import numpy as np
import pytest
import torch

import train
from base.base_trainer import TrainingError
from base.loader_stream import WorkerError
from tests.slow import mark_slow
from tests.training.test_trainer import small_config
from tests.utils.config.test_check_config import check
from training.lr_finder import HIGHEST, LOWEST, RisingRates, judge, line_to_paste, smooth
from utils.optim.schedule_driver import Schedule

pytest.importorskip("matplotlib")


def rates_of(count):
    return np.geomspace(LOWEST, HIGHEST, count)


def valley(count, *, noise=0.0, seed=0):
    """Falls from 2 to 1 around 1e-3, steepest there, and leaves for good above 0.3."""
    places = np.log10(rates_of(count))
    falls = 1.5 - 0.5 * np.tanh(2 * (places + 3))
    leaves = np.exp(np.clip(6 * (places + 0.5), None, 4))
    return falls + leaves + noise * np.random.default_rng(seed).standard_normal(count)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_feature_the_steepest_descent_is_found(noise):
    # By the formula the slope is steepest at 1e-3, and the sum of both parts lowest near 3e-2.
    curve = judge(rates_of(200), valley(200, noise=noise))
    assert np.log10(curve.steepest) == pytest.approx(-3, abs=0.25)
    places = np.linspace(-6, 1, 7001)
    exact = 1.5 - 0.5 * np.tanh(2 * (places + 3)) + np.exp(np.clip(6 * (places + 0.5), None, 4))
    assert np.log10(curve.tenth) == pytest.approx(places[exact.argmin()] - 1, abs=0.35)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_feature_a_curve_without_descent_suggests_nothing(seed, slope):
    noise = 0.1 * np.random.default_rng(seed).standard_normal(100)
    curve = judge(rates_of(100), 2 + slope * np.linspace(0, 1, 100) + noise)
    assert (curve.steepest, curve.tenth) == (None, None)
    assert curve.marks() == {}


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("count", [60, 100, 300])
def test_feature_what_comes_after_the_curve_has_turned_up_does_not_count(count, noise):
    # Of the straight pieces the fourth falls by far the fastest, but behind a rise.
    places = np.log10([1e-6, 1e-3, 0.056, 0.3, 2, 10])
    losses = np.interp(np.log10(rates_of(count)), places, [1.8, 1.75, 1.65, 2.0, 1.5, 1.7])
    noises = noise * np.random.default_rng(0).standard_normal(count)
    curve = judge(rates_of(count), losses + noises)
    assert 5e-4 < curve.steepest < 0.056
    assert np.log10(curve.tenth) == pytest.approx(np.log10(0.0056), abs=0.3)


@pytest.mark.parametrize("losses", [
    *(np.full(100, level) for level in (0.0, -1.0, 2.5)), np.linspace(1, 3, 100),
    np.linspace(2, 1, 5),
])  # fmt: skip
def test_feature_a_curve_that_is_flat_rises_or_is_cut_off_suggests_nothing(losses):
    assert judge(rates_of(len(losses)), losses).steepest is None


def test_feature_smoothing_is_a_weighted_mean():
    from scipy.ndimage import gaussian_filter1d

    values = np.random.default_rng(0).standard_normal(60)
    theirs = gaussian_filter1d(values, 2.5, truncate=12)
    assert smooth(values, 2.5)[25:35] == pytest.approx(theirs[25:35], abs=1e-9)
    assert smooth(np.full(9, 3.0), 2.0) == pytest.approx(np.full(9, 3.0))


def test_feature_line_to_paste():
    assert line_to_paste(0.02, 0.03, {}) == "optimizer.args.lr=0.02"
    assert line_to_paste(0.2, 0.036, {"lr_scheduler": None}) == "optimizer.args.lr=0.036"
    tree = {"lr_scheduler": {"type": "OneCycleLR", "args": {"max_lr": 0.02}}}
    assert line_to_paste(0.2, 0.1, tree) == "lr_scheduler.args.max_lr=0.2"


def test_feature_rates_rise_by_one_factor_and_keep_their_ratio():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.5, 0.05)]
    optimizer = torch.optim.SGD(groups, lr=0.5)
    moved = Schedule(RisingRates(optimizer, 8))
    used = []
    for _ in range(8):
        used.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        moved.step()
    first, second = zip(*used, strict=True)
    assert first == pytest.approx(rates_of(8))
    assert second == pytest.approx(rates_of(8) / 10)


def find(tmp_path, *arguments, **keys):
    tree = {**small_config(tmp_path, tensorboard=True, log_per_iter=1), **keys}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tree))
    return train.main(["--config", str(path), "--device", "cpu", "--find-lr", *arguments])


def test_smoke_the_program_draws_and_suggests(tmp_path, capsys, monkeypatch):
    def fall(self, images, labels, batch):
        rate = self.optimizer.param_groups[0]["lr"]
        place = np.log10(rate)
        self.optimizer.step()
        self.lr_scheduler.step()
        loss = 1.5 - 0.5 * np.tanh(2 * (place + 3)) + np.exp(6 * (place + 0.5))
        return torch.tensor(loss), labels

    monkeypatch.setattr("trainer.Trainer.train_step", fall)
    assert find(tmp_path, "60") == 0
    words = capsys.readouterr().out
    (folder,) = (tmp_path / "saved" / "test-find-lr").iterdir()
    suggested = float(words.split("Suggested learning rate: ")[1].split(",")[0])
    assert np.log10(suggested) == pytest.approx(-3, abs=0.3)
    assert "A tenth of the learning rate with the lowest loss: " in words
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["config.json", "log.txt", "lr_finder.png", "steps.jsonl"]
    picture = cv2.imread(str(folder / "lr_finder.png"))
    assert picture.shape == (576, 960, 3)
    assert check(small_config(tmp_path))  # the line that it prints is one that -o takes
    assert train.main(["-c", str(tmp_path / "config.json"), "--print-config", "-o",
                       f"optimizer.args.lr={suggested:g}"]) == 0  # fmt: skip
    log_dir = tmp_path / "saved" / "runs" / "test-find-lr" / folder.name
    assert [path.name for path in log_dir.iterdir()]


def test_feature_the_sweep_takes_the_steps_of_the_training(tmp_path, monkeypatch):
    """The first loss is the training's, and the weights after two steps are a plain loop's."""
    from training import lr_finder

    seen = []
    original = lr_finder.RateSweep.train_step

    def watch(self, images, labels, batch):
        if not seen:
            seen.append([p.detach().clone() for p in self.model.parameters()])
        if len(self.points) == 1:
            seen.append([p.detach().clone() for p in self.model.parameters()])
            seen.append([p.grad.clone() for p in self.model.parameters()])
        return original(self, images, labels, batch)

    monkeypatch.setattr(lr_finder.RateSweep, "train_step", watch)
    find(tmp_path, "10", optimizer={"type": "SGD", "args": {"lr": 0.05}})
    before, after, gradients = seen
    for old, new, gradient in zip(before, after, gradients, strict=True):
        torch.testing.assert_close(new, old - LOWEST * gradient, rtol=0, atol=1e-7)


SCHEDULES = [
    None,
    {"type": "OneCycle"},
    {"type": "OneCycleLR"},
    {"type": "CyclicLR", "args": {"base_lr": 0.001, "max_lr": 0.1}},
    {"type": "ReduceLROnPlateau", "warmup_epochs": 1},
    {"type": "Poly", "args": {"warmup_epochs": 1}},
]


@pytest.mark.parametrize("section", mark_slow(SCHEDULES))
def test_feature_the_schedule_is_left_out(tmp_path, monkeypatch, section):
    used = []

    def watch(self, images, labels, batch):
        (group,) = self.optimizer.param_groups
        used.append((group["lr"], group["momentum"]))
        self.optimizer.step()
        self.lr_scheduler.step()
        return torch.tensor(1.0), labels

    monkeypatch.setattr("trainer.Trainer.train_step", watch)
    find(tmp_path, "12", lr_scheduler=section)
    assert [rate for rate, _ in used] == pytest.approx(rates_of(12))
    assert {momentum for _, momentum in used} == {0.9}


def test_exception_a_rate_of_zero(tmp_path, capsys):
    assert find(tmp_path, "20", optimizer={"type": "SGD", "args": {"lr": 0.0}}) == 2
    words = capsys.readouterr().err
    assert "optimizer.args.lr: is 0" in words
    assert "Traceback" not in words
    assert not (tmp_path / "saved").exists()


def test_exception_a_worker_that_ends(tmp_path, monkeypatch, caplog):
    def end(self, images, labels, batch):
        raise WorkerError("a process that loads pictures has ended")

    monkeypatch.setattr("trainer.Trainer.train_step", end)
    assert find(tmp_path, "20") == 1
    assert caplog.messages[-1] == "a process that loads pictures has ended"
    (folder,) = (tmp_path / "saved" / "test-find-lr").iterdir()
    assert "a process that loads pictures has ended" in (folder / "log.txt").read_text()


def test_feature_a_sweep_that_diverges_is_cut_off(tmp_path, monkeypatch, caplog):
    count = []

    def leap(self, images, labels, batch):
        self.optimizer.step()
        self.lr_scheduler.step()
        count.append(1)
        if len(count) == 20:
            raise TrainingError("the loss is nan")  # as the trainer's own step does
        return torch.tensor(1.0), labels

    monkeypatch.setattr("trainer.Trainer.train_step", leap)
    assert find(tmp_path, "50") == 1
    assert len(count) == 20
    assert "the loss does not fall at any learning rate" in caplog.text
    assert "--find-lr 150" in caplog.text


def test_exception_arguments(tmp_path, capsys):
    assert find(tmp_path, "3") == 2
    assert "a curve needs at least 10 steps" in capsys.readouterr().err
    assert train.main(["--find-lr", "--resume", "auto"]) == 2
    assert "leave out --resume" in capsys.readouterr().err
    assert not (tmp_path / "saved").exists()


def test_feature_its_loading_processes_end_with_it(tmp_path):
    before = set(multiprocessing.active_children())
    loader = small_config(tmp_path)["train_loader"]
    loader["args"]["num_workers"] = 1
    assert find(tmp_path, "12", train_loader=loader) in (0, 1)
    assert set(multiprocessing.active_children()) <= before
