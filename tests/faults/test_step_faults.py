"""A loss that is not finite, and memory that does not suffice."""

import copy
import itertools
import logging
import signal

import pytest
import torch

from base.bad_steps import MAX_CONSECUTIVE
from base.weighted_losses import WeightedLosses
from models.unet import UNet
from tests.slow import mark_slow
from tests.training_runs import assert_same, assert_same_end, run, small_config, steps_of, trained
from tests.utils.distributed.test_processes import changed_train, train_on
from trainer import Trainer
from utils.checkpoint.save_load import load_checkpoint
from utils.optim.precision import MixedPrecision

PARTS_OF_A_RUN = ("state_dict", "optimizer", "ema", "losses", "scaler")


def config(tmp_path, **trainer):
    """Three epochs of three steps; everything on that a step can change."""
    tree = small_config(tmp_path, epochs=3, ema_decay=0.9, clip_grad_norm=1.0, **trainer)
    tree["loss"] = [{"type": "CrossEntropyLoss2d"}, {"type": "RegionAwareLoss"}]
    return tree


def poison(patched, *steps):
    """Steps whose loss is not a number, once the network has run."""
    terms_of, train_step = WeightedLosses.terms, Trainer.train_step
    step = 0

    def numbered(self, *args):
        nonlocal step
        step = self.step + 1
        return train_step(self, *args)

    def poisoned(self, *args, **kwargs):
        terms = terms_of(self, *args, **kwargs)
        if kwargs.get("learning") and step in steps:
            name = next(iter(terms))
            terms[name] = terms[name] * float("nan")
        return terms

    patched.setattr(Trainer, "train_step", numbered)
    patched.setattr(WeightedLosses, "terms", poisoned)


def learned(checkpoint):
    """A copy of what the steps have changed."""
    return copy.deepcopy({name: plain(checkpoint[name]) for name in PARTS_OF_A_RUN})


def plain(value):
    """Of an ordered dict, as modules give, a dict, as a checkpoint does."""
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def test_exception_a_bad_loss_leaves_the_weights_as_they_were(tmp_path, monkeypatch, capsys):
    states = []
    skip_step = Trainer._skip_step

    def looking(self, message):
        states.append(learned(self.state_dict()))
        skip_step(self, message)

    monkeypatch.setattr(Trainer, "_skip_step", looking)
    poison(monkeypatch, 4)
    code, folder = run(tmp_path, config(tmp_path))
    assert code == 1
    said = capsys.readouterr().err
    assert "error: the loss is nan in epoch 2, step 4 (images: train_0" in said
    assert "; terms: CrossEntropyLoss2d 0 = nan). " in said and "optimizer.args.lr" in said
    assert "; go on with: python train.py --resume" in said
    assert "the loss is nan" in (folder / "log.txt").read_text()
    assert_same(states[0], learned(load_checkpoint(folder / "last.pth")))  # of step 3


def test_feature_a_step_is_left_out(tmp_path, monkeypatch, caplog):
    """Weights, statistics, average and optimizer stay; the step's number and the rate go on."""
    caplog.set_level(logging.WARNING)
    before_and_after = []
    train_step = Trainer.train_step

    def looking(self, *args):
        before = learned(self.state_dict())
        rate = self.optimizer.param_groups[0]["lr"]
        loss, prediction = train_step(self, *args)
        if prediction is None:
            after = learned(self.state_dict())
            assert self.optimizer.param_groups[0]["lr"] != rate
            for state in (before, after):
                for group in state["optimizer"]["param_groups"]:
                    del group["lr"], group["momentum"]  # both are of the schedule
            before_and_after.append((before, after))
        return loss, prediction

    monkeypatch.setattr(Trainer, "train_step", looking)
    poison(monkeypatch, 1, 5)
    folder = trained(tmp_path, config(tmp_path, on_bad_loss="skip"))
    assert len(before_and_after) == 2
    for before, after in before_and_after:
        assert_same(before, after)
    said = [r.getMessage() for r in caplog.records]
    assert sum("the step is skipped" in line for line in said) == 2
    assert sum("1 of 3 steps were skipped" in line for line in said) == 2
    steps = steps_of(folder)
    assert [entry["step"] for entry in steps] == list(range(1, 10))
    assert [entry["loss"] is None for entry in steps] == [n in (1, 5) for n in range(1, 10)]
    assert steps[0]["exact"] == "nan"
    assert not any("lr_scheduler.step()" in line for line in said)


def test_feature_the_loss_of_the_epoch_is_that_of_the_other_steps(tmp_path, monkeypatch):
    poison(monkeypatch, 2)
    figures = {}
    report = Trainer._report
    monkeypatch.setattr(
        Trainer, "_report", lambda self, f, e, *rest: figures.update({e: f["loss"]}) or report(
            self, f, e, *rest))  # fmt: skip
    _, folder = run(tmp_path, config(tmp_path, on_bad_loss="skip"))
    steps = steps_of(folder)
    assert figures[1] == pytest.approx((steps[0]["loss"] + steps[2]["loss"]) / 2)


def test_feature_back_to_the_weights_of_the_last_checkpoint(tmp_path, monkeypatch, caplog):
    """The run is the one that would have had the good steps only, with the rates of its own."""
    after = []
    roll_back = Trainer._roll_back

    def looking(self, checkpoint):
        rate = self.optimizer.param_groups[0]["lr"]
        roll_back(self, checkpoint)
        assert self.optimizer.param_groups[0]["lr"] == rate
        after.append(learned(self.state_dict()))

    monkeypatch.setattr(Trainer, "_roll_back", looking)
    poison(monkeypatch, 2, 6)
    caplog.set_level(logging.WARNING)
    folder = trained(tmp_path, config(tmp_path, on_bad_loss="rollback", save_period=1))
    said = [r.getMessage() for r in caplog.records]
    assert any("step 2 (" in line and line.endswith("weights of step 0") for line in said)
    assert any("step 6 (" in line and line.endswith("weights of step 3") for line in said)
    saved = learned(load_checkpoint(folder / "checkpoint-epoch1.pth"))
    for state in (after[1], saved):
        for group in state["optimizer"]["param_groups"]:
            del group["lr"], group["momentum"]
    assert_same(after[1], saved)
    assert load_checkpoint(folder / "last.pth")["step"] == 9


@pytest.mark.parametrize("policy", mark_slow(["rollback", "skip"]))
def test_exception_many_bad_losses_in_a_row(tmp_path, monkeypatch, capsys, policy):
    first = 4
    tree = config(tmp_path, on_bad_loss=policy)
    tree["trainer"]["epochs"] = 6
    with monkeypatch.context() as patched:
        poison(patched, *range(first, first + MAX_CONSECUTIVE - 1))
        assert run(tmp_path, tree)[0] == 0
    poison(monkeypatch, *range(first, 99))
    assert run(tmp_path, tree)[0] == 1
    said = capsys.readouterr().err
    assert f"step {first + MAX_CONSECUTIVE - 1} (" in said
    assert f"{MAX_CONSECUTIVE} losses in a row" in said


@pytest.mark.slow
@pytest.mark.parametrize("policy", mark_slow(["rollback", "skip"]))
def test_feature_stopped_between_bad_losses_and_resumed(tmp_path, monkeypatch, policy):
    poison(monkeypatch, 4, 5, 8)
    (tmp_path / "whole").mkdir()
    whole = trained(tmp_path / "whole", config(tmp_path / "whole", on_bad_loss=policy))
    train_step, count = Trainer.train_step, itertools.count(1)

    def stopping(self, *args):
        if next(count) == 5:
            signal.raise_signal(signal.SIGTERM)
        return train_step(self, *args)

    monkeypatch.setattr(Trainer, "train_step", stopping)
    tree = config(tmp_path, on_bad_loss=policy)
    assert run(tmp_path, tree)[0] == 143
    folder = trained(tmp_path, tree, "--resume", "auto")
    assert_same_end(whole, folder)


# What a test in this file does to the trainer, for processes of torchrun.
PROGRAM = """
import trainer
from utils.distributed.collectives import rank

forward = trainer.Trainer.prepare_batch
def loading(self, batch):
    images, labels = forward(self, batch)
    if self.network.training and rank() == 1 and self.step + 1 == 5:
        images = images * float("nan")
    return images, labels
trainer.Trainer.prepare_batch = loading
"""


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_feature_no_process_takes_a_step_that_is_bad_for_one(tmp_path, policy):
    """The images of the second process only are not numbers."""
    program = changed_train(tmp_path, PROGRAM)
    tree = config(tmp_path, on_bad_loss=policy)
    tree["train_loader"]["args"]["shuffle"] = False
    done, folder = train_on(tmp_path, tree, 2, program=program)
    assert done.returncode == (policy == "raise"), done.stderr
    names = "images: train_000004, train_000006, train_000005, train_000007; terms: "
    assert done.stderr.count(f"the loss is nan in epoch 2, step 5 ({names}") == 1
    checkpoint = load_checkpoint(folder / "last.pth")
    assert checkpoint["step"] == (3 if policy == "raise" else 9)
    assert all(v.isfinite().all() for v in checkpoint["state_dict"].values())  # statistics too


# --------------------------------------------------------------------------------------------------
# Memory


def small_memory(patched, pictures, error=None, at=None, training=True):
    """A network that has no memory for more images than that, once it has moved its statistics.

    Args:
        at: The step from which on it is so.
        training: Whether it is so in training or in validation.
    """
    forward, calls = UNet.forward, itertools.count(1)

    def limited(self, images):
        outputs = forward(self, images)
        if self.training == training and len(images) > pictures and next(calls) > (at or 0):
            torch.rand(3)  # and has drawn random numbers
            raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return outputs

    patched.setattr(UNet, "forward", limited)


CPU_ERROR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"
)


@pytest.mark.parametrize("error", [None, CPU_ERROR])
@pytest.mark.parametrize("pictures", mark_slow([2, 1]))
def test_feature_smaller_parts_of_a_batch(tmp_path, monkeypatch, caplog, pictures, error):
    """The run is, bit for bit, the one with accumulation_steps from the start."""
    folders = []
    for steps in (4 // pictures, 1):
        place = tmp_path / str(steps)
        tree = config(place, accumulation_steps=steps)
        if steps == 1:
            # The first call is the look at model and data before the training, with two images.
            small_memory(monkeypatch, pictures, error, at=int(pictures < 2))
        folder = trained(place, tree)
        folders.append(folder)
    assert_same_end(*folders)
    said = [r.getMessage() for r in caplog.records if "memory" in r.getMessage()]
    assert len(said) == 2 // pictures
    assert "out of memory in epoch 1, step 1: " in said[0]
    assert f"accumulation_steps: {4 // pictures} " in said[-1]


def test_feature_the_parts_stay_small_when_the_run_is_resumed(tmp_path, monkeypatch):
    tree = config(tmp_path)
    with monkeypatch.context() as patched:
        small_memory(patched, 2)
        tree["trainer"]["epochs"] = 1
        assert run(tmp_path, tree)[0] == 0
    sizes = []
    forward = UNet.forward
    monkeypatch.setattr(
        UNet, "forward", lambda self, x: sizes.append(len(x) * self.training) or forward(self, x)
    )
    words = ["--resume", "auto", "-o", "trainer.epochs=2"]
    assert run(tmp_path, tree, *words)[0] == 0
    assert max(sizes[1:]) == 2
    sizes.clear()
    more = [*words[:3], "trainer.epochs=3", "-o", "trainer.accumulation_steps=4"]
    assert run(tmp_path, tree, *more)[0] == 0
    assert max(sizes[1:]) == 1


def test_exception_no_memory_for_one_picture(tmp_path, monkeypatch, capsys):
    """In the first step; or in the look at model and data before it, and nothing is made."""
    with monkeypatch.context() as patched:
        small_memory(patched, 0)
        assert run(tmp_path, config(tmp_path))[0] == 2
    assert "error: out of memory with 2" in capsys.readouterr().err
    assert not (tmp_path / "saved").exists()
    small_memory(monkeypatch, 0, at=1)
    assert run(tmp_path, config(tmp_path))[0] == 1
    said = capsys.readouterr().err
    assert "error: out of memory in epoch 1, step 1, even for one image" in said


def test_exception_no_memory_for_the_update(tmp_path, monkeypatch, capsys):
    """The weights may have changed in part, so the step does not begin again."""
    updates = []

    def full(self, optimizer):
        updates.append(optimizer)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(MixedPrecision, "step", full)
    assert run(tmp_path, config(tmp_path))[0] == 1
    assert "error: out of memory in the update of epoch 1, step 1" in capsys.readouterr().err
    assert len(updates) == 1


def test_exception_other_errors_are_not_taken_for_it(tmp_path, monkeypatch):
    small_memory(monkeypatch, 2, error=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(tmp_path, config(tmp_path))


@pytest.mark.parametrize("pictures", mark_slow([2, 1]))
def test_feature_validation_with_small_memory(tmp_path, monkeypatch, caplog, pictures):
    """As with a smaller batch_size from the start."""
    folders = []
    for limited in (False, True):
        place = tmp_path / str(limited)
        tree = config(place, monitor="min val_loss")
        tree["val_loader"]["args"]["batch_size"] = 4 if limited else pictures
        if limited:
            small_memory(monkeypatch, pictures, training=False)
        folder = trained(place, tree)
        folders.append(folder)
    assert_same_end(*folders)
    said = [r.getMessage() for r in caplog.records if "memory" in r.getMessage()]
    assert len(said) == 2 // pictures
    words = f"validation of epoch 1: out of memory for {2 * pictures} images of 32 x 32"
    assert said[-1].startswith(words)
    assert said[-1].endswith(f"val_loader.args.batch_size: {pictures}")


def test_exception_validation_without_memory_for_one_picture(tmp_path, monkeypatch, capsys):
    """The epoch is not lost: with another setting the run goes on at its validation."""
    tree = config(tmp_path)
    with monkeypatch.context() as patched:
        small_memory(patched, 0, training=False)
        code, folder = run(tmp_path, tree)
    assert code == 1
    said = capsys.readouterr().err
    assert "error: validation of epoch 1: out of memory for one image of 32 x 32" in said
    checkpoint = load_checkpoint(folder / "last.pth")
    assert (checkpoint["epoch"], checkpoint["batch"]) == (0, 3)
    assert run(tmp_path, tree, "--resume", "auto")[0] == 0
    whole = tmp_path / "whole"
    _, other = run(whole, config(whole))
    assert_same_end(folder, other)
