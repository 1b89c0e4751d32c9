"""Lines of progress where there is no terminal, with a clock that the test moves."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import utils.progress
from audit.scan import scan
from base.label_counts import count_labels
from builders.training import TrainingComponents
from conversion.parallel import run_each
from inspection.look import look
from prediction.predictor.network import Predictor
from tests.prediction.predictor.test_network import Net, predictor, random_image
from tests.training_runs import Constant, make_trainer
from training.lr_finder import RateSweep
from utils.cli.choices import MODES
from utils.progress import Progress, complain, duration_text, rate_text, track


class Clock:
    """Seconds that pass only when the test says so, or by each look."""

    def __init__(self, per_look=0.0):
        self.now = 1000.0
        self.per_look = per_look

    def __call__(self):
        self.now += self.per_look
        return self.now


@pytest.fixture
def clock(monkeypatch):
    one = Clock()
    monkeypatch.setattr(utils.progress, "clock", one)
    return one


@pytest.fixture
def always(monkeypatch):
    """A line at every update."""
    monkeypatch.setattr(utils.progress, "INTERVAL", 0.0)


@pytest.fixture
def lines(caplog, monkeypatch):
    """The lines so far, of a program whose standard error is no terminal."""
    monkeypatch.setattr("sys.stderr", io.StringIO())
    return lambda: [r.getMessage() for r in caplog.records if r.name == "utils.progress"]


def never():
    raise AssertionError("the loss is read though no line is due")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_feature_a_line_at_most_a_minute(clock, lines):
    with Progress(total=450, unit="step", label="epoch 3/80") as bar:
        for second in range(1, 176):
            clock.now += 1
            due = second in (60, 120)
            bar.update(images=4, detail=(lambda: "loss 0.412") if due else never)
    # 60 steps and 240 images in 60 s; 390 steps left
    assert lines() == [
        "epoch 3/80: step 60/450, loss 0.412, 4.0 images/s, 6 min left",
        "epoch 3/80: step 120/450, loss 0.412, 4.0 images/s, 6 min left",
    ]


def test_feature_work_that_ends_sooner_says_nothing(clock, lines):
    with Progress(total=50, unit="step") as bar:
        for _ in range(50):
            clock.now += 1
            bar.update(detail=never)
    assert not lines()


def test_feature_what_was_done_before_is_no_work_of_this_run(clock, lines):
    with Progress(total=1000, unit="pair", label="reading", initial=900) as bar:
        clock.now += 60
        bar.update(30)
    # 30 in 60 s, 70 left: 140 s
    assert lines() == ["reading: pair 930/1000, 0.5 pairs/s, 2 min left"]


def test_feature_how_far_an_item_is(clock, lines):
    with Progress(total=4, unit="image") as bar:
        bar.begin("one.tif")
        clock.now += 60
        bar.inside(120, 900, 0.25)  # a sixteenth of all
        bar.inside(130, 900, 0.26)
        clock.now += 60
        bar.inside(900, 900, 1.0)  # is said with the next update
        bar.update()
        bar.begin("two\n.tif")
        clock.now += 60
        bar.inside(1, 2, 0.5)
    assert lines() == [
        "image 1/4 (one.tif: pass 120/900), 15 min left",
        "image 1/4, 0.0083 images/s, 6 min left",
        "image 2/4 (two�.tif: pass 1/2), 0.0083 images/s, 5 min left",
    ]


def test_feature_what_several_processes_do_at_once(clock, lines):
    with Progress(total=8, unit="image") as bar:
        bar.begin("a", items=4)
        clock.now += 60
        bar.inside(1, 2, 0.5)  # two of eight
    assert lines() == ["image 1/8 (a: pass 1/2), 3 min left"]


def test_feature_items_are_handed_on(clock, lines):
    clock.per_look = 40.0
    assert list(track("abc", total=3, unit="batch", label="x", images=lambda _: 2)) == [*"abc"]
    assert lines()[0].startswith("x: batch 2/3, ")
    assert len(lines()) == 1


def test_feature_a_bar_on_a_terminal_and_no_lines(clock, always, lines, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with Progress(total=3, unit="image", label="val") as bar:
        bar.begin("a")
        clock.now += 2
        bar.inside(1, 6, 0.1)
        bar.update(detail=never)
    text = stream.getvalue()
    assert "val: " in text
    assert "pass 1/6" in text
    assert not lines()


def test_feature_only_the_main_process_speaks(clock, always, lines, monkeypatch):
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    for name in ("WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(name, "2")
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with Progress(total=3, unit="image") as bar:
        bar.begin("a")
        bar.inside(1, 6, 0.1)
        bar.update(detail=never)
    assert (lines(), stream.getvalue()) == ([], "")


def test_feature_complaints_are_plain_text(capsys):
    complain("a\x1b[2Jb")
    assert capsys.readouterr().err == "a�[2Jb\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (40.2, "40 s"), (59.4, "59 s"), (59.6, "1 min"), (229, "4 min"),
     (3599, "1 h 0 min"), (7500, "2 h 5 min"), (172_799, "2 d 0 h"), (273_600, "3 d 4 h")],
)  # fmt: skip
def test_feature_durations(seconds, text):
    assert duration_text(seconds) == text


def test_feature_rates():
    assert rate_text(35.08, "image") == "35.1 images/s"
    assert rate_text(0.0617, "file") == "0.062 files/s"


# --------------------------------------------------------------------------------------------------
# Where it is used


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("flip", ["none", "horizontal", "all8"])
def test_feature_every_forward_pass_of_an_image_is_counted(mode, flip):
    model, seen = Net().eval(), []
    one = predictor(model, mode, flip=flip)
    plain = one.predict_logits(random_image(37, 53))
    passes = len(model.sizes)
    with one.watched_by(lambda *numbers: seen.append(numbers)):
        assert torch.equal(one.predict_logits(random_image(37, 53)), plain)
    assert [done for done, _, _ in seen] == [*range(1, passes + 1)]
    assert {total for _, total, _ in seen} == {passes}
    pixels = np.cumsum(model.seen[passes:])
    assert [share for _, _, share in seen] == pytest.approx(pixels / pixels[-1])
    before = len(seen)
    one.predict_logits(random_image(37, 53))
    assert len(seen) == before


def test_feature_tiles_for_want_of_memory_are_counted(monkeypatch):
    model, seen = Net().eval(), []
    forward = model.forward

    def fails(images):
        if images[0, 0].numel() > 200 * 200:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(images)

    model.forward = fails
    one = Predictor(model, (0.5,) * 3, (0.5,) * 3, "cpu", mode="whole")
    with one.watched_by(lambda *numbers: seen.append(numbers)):
        one.predict(random_image(300, 300))
    assert len(seen) == len(model.sizes) > 1
    assert seen[-1] == (len(seen), len(seen), 1.0)


def test_feature_lines_within_an_epoch_and_a_validation(tmp_path, always, lines):
    trainer = make_trainer(tmp_path, Constant(6), epochs=3)
    steps = len(trainer.train_loader)
    trainer.train_epoch(1)
    found = lines()
    assert len(found) == steps
    for step, line in enumerate(found, 1):
        rest = r"loss \d\.\d{3}, [\d.]+ images/s, \d+ (s|min) left"
        assert re.fullmatch(rf"epoch 1/3: step {step}/{steps}, {rest}", line), line
    trainer.validate(1)
    assert re.match(r"validation of epoch 1: batch 1/\d+, [\d.]+ images/s, ", lines()[steps])
    log = (trainer.folder.path / "log.txt").read_text()
    assert all(line in log for line in lines())


def test_feature_lines_of_a_rate_search(tmp_path, always, lines):
    trainer = make_trainer(tmp_path, Constant(6))
    components = TrainingComponents(
        model=trainer.model, losses=trainer.losses.losses, optimizer=trainer.optimizer,
        lr_scheduler=None, train_loader=trainer.train_loader, val_loader=None, meta={},
        find_unused_parameters=False, device=trainer.device,
    )  # fmt: skip
    run = {"config": trainer.config, "folder": trainer.folder, "log": trainer.log}
    RateSweep(components, steps=5, **run).sweep()
    found = [line.partition(", ")[0] for line in lines()]
    assert found[:2] == ["rate search: step 1/5", "rate search: step 2/5"]


@pytest.mark.parametrize(
    ("work", "begins"),
    [
        (count_labels, "class weights: mask"),
        (lambda loader: scan([loader.source], 255, 1, Path("cache")), "reading: pair"),
        (lambda loader: look("train", "x", loader), "looking at the masks of train: mask"),
    ],
)
def test_feature_lines_while_files_are_read(folder, always, lines, work, begins):
    loader = make_trainer(folder, Constant(6)).train_loader
    work(loader)
    assert lines()[0].startswith(f"{begins} 1/{loader.num_samples}, ")


def test_feature_lines_while_files_are_converted(always, lines):
    run_each(str, {"a": 1, "b": 2})
    assert [line.partition(", ")[0] for line in lines()] == ["file 1/2", "file 2/2"]
