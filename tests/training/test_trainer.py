"""base/base_trainer.py, trainer.py and train.py: runs from start to end."""

import io
import itertools
import json
import logging
import re
import traceback
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html
from torch import nn

import models
import train
import trainer as trainer_module
import utils.drawing.visualize
from base.base_trainer import BaseTrainer
from builders.data import build_loader
from builders.preflight import dry_run
from dataloaders.shapes import Shapes
from tests.conftest import ROOT
from tests.training_runs import (
    Constant,
    assert_same,
    checked,
    make_trainer,
    run,
    small_config,
    trained,
)
from trainer import Trainer
from utils.checkpoint.save_load import load_checkpoint
from utils.config.sections import LossTerm
from utils.files.data_file import DataError
from utils.losses.cross_entropy import CrossEntropyLoss2d
from utils.runs.logger import RunFolder, RunLog

# --- the loop alone, with metrics from a list


class Scripted(BaseTrainer):
    """An epoch gives the next number of a list."""

    def __init__(self, tmp_path, values, images=None, **trainer):
        config = checked(small_config(tmp_path, epochs=len(values), **trainer))
        model = nn.Linear(1, 1)
        folder = RunFolder.create(config.trainer.save_dir, config.trainer.log_dir, config.name)
        super().__init__(
            model=model,  # type: ignore[arg-type]
            optimizer=torch.optim.SGD(model.parameters(), lr=1.0), lr_scheduler=None, config=config,
            meta={}, folder=folder, log=RunLog(folder, tensorboard=False), images=images,
        )  # fmt: skip
        self.values = values
        self.validated: list[int] = []

    def train_epoch(self, epoch):
        return {"loss": self.values[epoch - 1], "Mean_IoU": 0.0, "images_per_second": 1.0}

    def validate(self, epoch):
        self.validated.append(epoch)
        value = self.values[epoch - 1]
        return {"val_loss": value, "Mean_IoU": value}

    def log_epoch(self, training, validation):
        pass

    def files(self):
        return sorted(p.name for p in self.folder.path.glob("*.pth"))

    def best_saved(self):
        return load_checkpoint(self.folder.path / "best_model.pth")["epoch"]


def test_feature_best_is_kept_whatever_the_save_period(tmp_path):
    trainer = Scripted(tmp_path, [0.1, 0.5, 0.3, 0.5001, 0.2], save_period=3)
    result = trainer.train()
    assert (result.epoch, result.score, trainer.best_saved()) == (4, 0.5001, 4)
    names = ["best_model.pth", "checkpoint-epoch3.pth", "last.pth", "previous.pth"]
    assert trainer.files() == names
    assert load_checkpoint(trainer.folder.path / "last.pth")["epoch"] == 5


def test_feature_early_stop_counts_epochs(tmp_path):
    for patience, epochs in ((3, 4), (0, 10)):  # 0: it never stops
        trainer = Scripted(tmp_path, [0.5, *[0.1] * 9], early_stop=patience)
        trainer.train()
        assert trainer.epoch == epochs
    trainer = Scripted(tmp_path, [0.5, *[0.1] * 9], early_stop=4, val_per_epochs=2)
    trainer.train()
    assert trainer.epoch == 6  # best at the first validation, epoch 2
    assert trainer.validated == [2, 4, 6]


def test_feature_not_a_number_is_never_the_best(tmp_path):
    trainer = Scripted(tmp_path, [float("nan"), 0.1, float("nan")])
    assert trainer.train().epoch == 2
    trainer = Scripted(tmp_path, [float("nan")] * 5, early_stop=2)
    result = trainer.train()
    assert trainer.epoch == 2
    assert result.score is None
    assert result.checkpoint.name == "last.pth"


def test_feature_the_last_epoch_is_validated(tmp_path):
    trainer = Scripted(tmp_path, [0.1] * 5, val_per_epochs=3)
    trainer.train()
    assert trainer.validated == [3, 5]


def test_feature_monitor_off_and_without_validation(tmp_path):
    trainer = Scripted(tmp_path, [0.1, 0.2], monitor="off", early_stop=1)
    assert trainer.train().score is None
    assert trainer.files() == ["checkpoint-epoch2.pth", "last.pth", "previous.pth"]
    trainer = Scripted(tmp_path, [0.3, 0.2, 0.4], val=False, monitor="min loss")
    assert trainer.train().epoch == trainer.best_saved() == 2
    assert trainer.validated == []


def test_feature_one_line_an_epoch(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    Scripted(tmp_path, [0.25, 0.5]).train()
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("epoch")]
    assert lines == [
        "epoch 1/2  loss 0.2500  val_loss 0.2500  Mean_IoU 0.2500  best 0.2500 (epoch 1)  "
        "1.0 images/s",
        "epoch 2/2  loss 0.5000  val_loss 0.5000  Mean_IoU 0.5000 (+0.2500)  best 0.5000 (epoch 2)"
        "  1.0 images/s",
    ]


# --- whole runs


def test_smoke_a_run_leaves_what_it_promises(tmp_path, capsys):
    folder = trained(tmp_path, small_config(tmp_path, tensorboard=True))
    assert sorted(p.name for p in folder.iterdir()) == [
        "best_model.pth", "checkpoint-epoch2.pth", "config.json", "last.pth", "log.txt",
        "metrics.csv", "previous.pth", "run.lock", "steps.jsonl",
    ]  # fmt: skip
    tree = json.loads((folder / "config.json").read_text())
    assert tree == small_config(tmp_path, tensorboard=True)
    assert "epoch 2/2" in (folder / "log.txt").read_text()
    out = capsys.readouterr().out
    assert f"Best model: {folder}/best_model.pth  Mean_IoU 0." in out
    assert f"  python evaluate.py --model {folder}/best_model.pth\n" in out
    assert f"python inference.py --model {folder}/best_model.pth --images " in out
    assert f"tensorboard --logdir {tmp_path}/saved" in out
    checkpoint = torch.load(folder / "best_model.pth", weights_only=True)
    assert list(checkpoint) == [
        "arch", "epoch", "step", "batch", "progress", "logs", "loggers", "state_dict", "optimizer",
        "lr_scheduler", "monitor_best", "best_epoch", "rng", "config", "meta", "images", "ema",
        "losses", "scaler", "part_size", "bad_losses",
    ]  # fmt: skip
    assert checkpoint["meta"]["classes"][1] == "disk"
    assert checkpoint["config"]["arch"] == {"type": "UNet", "args": {"base_channels": 2}}
    assert not any(key.startswith("module.") for key in checkpoint["state_dict"])


def events_of(folder):
    events = EventAccumulator(str(folder.parents[1] / "runs" / "test" / folder.name))
    return events.Reload()


def test_feature_tensorboard_curves(tmp_path):
    tree = small_config(tmp_path, tensorboard=True, log_per_iter=1)
    _, folder = run(tmp_path, tree)
    events = events_of(folder)
    tags = events.Tags()
    assert {
        "train/loss", "train/Pixel_Accuracy", "train/Mean_IoU", "train/Learning_rate_0",
        "val/loss", "val/Pixel_Accuracy", "val/Mean_IoU", "train/images_per_second",
        "train/data_wait", "train_Class_IoU/ground", "val_Class_IoU/ground",
    } <= set(tags["scalars"])  # fmt: skip
    assert tags["images"] == ["val/inputs_targets_predictions"]
    (config,) = events.Tensors("config/text_summary")
    (text,) = config.tensor_proto.string_val
    page = ElementTree.fromstring(f"<div>{markdown_to_safe_html(text.decode())}</div>")
    assert json.loads(page.findtext("pre/code")) == tree and config.step == 0
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("val/Mean_IoU")] == [3, 6]
    assert all(0 <= event.value <= 1 for event in events.Scalars("train/data_wait"))


def test_feature_tensorboard_shows_the_grid_with_names_and_classes(tmp_path, monkeypatch):
    """The image in the event file is the grid; its names are those of the validation samples."""
    grids = []

    def kept(*arguments):
        grids.append((arguments, utils.drawing.visualize.comparison_grid(*arguments)))
        return grids[-1][1]

    monkeypatch.setattr(trainer_module, "comparison_grid", kept)
    tree = small_config(tmp_path, tensorboard=True, epochs=1)
    _, folder = run(tmp_path, tree)
    tree["trainer"]["epochs"] = 2
    assert run(tmp_path, tree, "--resume", str(folder), "-otrainer.epochs=2")[0] == 0
    events = events_of(folder)
    images = events.Images("val/inputs_targets_predictions")
    assert [image.step for image in images] == [3, 6]
    for image, ((shown, classes, *_), grid) in zip(images, grids, strict=True):
        drawn = np.array(Image.open(io.BytesIO(image.encoded_image_string)))
        assert drawn.tolist() == grid.tolist()
        names = [comparison.name for comparison in shown]
        assert names == ["val_000000", "val_000004", "val_000008"]
        assert list(classes) == list(Shapes.classes)
    # A resumed run says the config that it goes on with.
    texts = events.Tensors("config/text_summary")
    epochs = [re.search(rb'"epochs": (\d+)', t.tensor_proto.string_val[0])[1] for t in texts]
    assert [(t.step, int(n)) for t, n in zip(texts, epochs, strict=True)] == [(0, 1), (3, 2)]


def test_feature_two_runs_of_one_second_get_two_folders(tmp_path):
    folders = [RunFolder.create(str(tmp_path), str(tmp_path / "runs"), "x") for _ in range(5)]
    assert len({f.path for f in folders}) == len({f.tensorboard for f in folders}) == 5


def test_exception_save_dir_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "saved").write_text("a file")
    code, _ = run(tmp_path, small_config(tmp_path))
    assert code == 2
    assert "trainer.save_dir: cannot make a folder" in capsys.readouterr().err


def test_exception_data_errors_come_before_a_folder(tmp_path, capsys):
    tree = small_config(tmp_path)
    tree["train_loader"] = {
        "type": "Folder",
        "args": {"data_dir": str(tmp_path / "none"), "classes": 3, "batch_size": 2},
    }
    assert run(tmp_path, tree)[0] == 2
    assert "train_loader (Folder): " in capsys.readouterr().err
    tree = small_config(tmp_path)
    tree["val_loader"] = {"type": "VOC", "args": {"data_dir": "x", "split": "val", "batch_size": 2}}
    assert run(tmp_path, tree)[0] == 2
    assert run(tmp_path, small_config(tmp_path), "--device", "tpu9")[0] == 2
    assert run(tmp_path, small_config(tmp_path), "--device", "")[0] == 2
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("arch.args.in_channels=4", "arch.args.in_channels: 4, but"),
        ('arch={"type":"PSPNet","args":{"backbone":"resnet18","pretrained":false}}', "batch_size"),
    ],
)
def test_exception_what_does_not_fit_is_found_before_a_folder(tmp_path, capsys, override, words):
    flags = ["-o", override, "-o", "train_loader.args.batch_size=1"]
    assert run(tmp_path, small_config(tmp_path), *flags)[0] == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "saved").exists()


def test_feature_the_rehearsal_leaves_everything_as_it_was():
    tree = small_config(Path("unused"))
    tree["arch"] = {"type": "PSPNet", "args": {"backbone": "resnet18", "pretrained": False}}
    config = checked(tree)
    model = models.PSPNet(6, backbone="resnet18", pretrained=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    loader = build_loader(config, "train_loader", training=True)
    dry_run(model, [CrossEntropyLoss2d()], loader, torch.device("cpu"))
    assert_same(before, dict(model.state_dict()))
    assert torch.equal(state, torch.get_rng_state())


def test_feature_an_ignored_class_and_a_test_loader_warn(tmp_path, caplog):
    tree = small_config(tmp_path, epochs=1)
    tree["test_loader"] = tree["val_loader"]
    assert run(tmp_path, tree, "-o", "ignore_index=3")[0] == 0
    assert "ignore_index: 3 is the class 'triangle'" in caplog.text
    assert "test_loader: training does not use it" in caplog.text


def test_feature_val_split_is_validated(tmp_path):
    tree = small_config(tmp_path, epochs=1)
    del tree["val_loader"]
    tree["train_loader"]["args"]["val_split"] = 0.2
    folder = trained(tmp_path, tree)
    words = "8 training images, 2 steps an epoch, 2 validation images"
    assert words in (folder / "log.txt").read_text()


# --- one step


def test_feature_loss_is_a_weighted_sum_over_losses_and_heads(tmp_path):
    losses = [
        (CrossEntropyLoss2d(), LossTerm("CrossEntropyLoss2d", weight=0.5)),
        (CrossEntropyLoss2d([1.0] * 5 + [3.0]), LossTerm("CrossEntropyLoss2d", weight=2.0)),
    ]
    trainer = make_trainer(tmp_path, Constant(6, auxiliary=2), losses)
    batch = next(iter(trainer.train_loader.epoch(1)))
    images, labels = trainer.prepare_batch(batch)
    outputs = trainer.model(images)
    terms = trainer.losses.terms(outputs, labels)
    expected = [
        loss(logits, labels).item() * term.weight * factor
        for logits, factor in zip(outputs, (1, 0.4, 0.4), strict=True)
        for loss, term in losses
    ]
    assert [term.item() for term in terms.values()] == pytest.approx(expected)
    assert list(terms) == [
        f"CrossEntropyLoss2d {i}{head}"
        for head, i in itertools.product(["", " (auxiliary 1)", " (auxiliary 2)"], [0, 1])
    ]
    value, prediction = trainer.train_step(images, labels, batch)
    assert value.item() == pytest.approx(sum(expected))
    assert torch.equal(prediction, outputs[0].argmax(1))


def test_feature_the_walk_from_main_to_the_model_is_short(tmp_path, monkeypatch):
    """At most seven functions of this repository, the model's own among them."""
    walks = []

    def forward(self, images):
        frames = (f for f in traceback.extract_stack() if "site-p" not in f.filename)
        names = [frame.name for frame in frames if frame.filename.startswith(f"{ROOT}/")]
        walks.append(names[names.index("main") :])
        return unet_forward(self, images)

    unet_forward = models.UNet.forward
    monkeypatch.setattr(models.UNet, "forward", forward)
    assert run(tmp_path, small_config(tmp_path, epochs=1))[0] == 0
    steps = [walk for walk in walks if "train_step" in walk]
    assert len(steps) == 3
    assert all(len(walk) <= 7 and walk[-1] == "forward" for walk in steps), steps


def test_feature_a_step_is_the_textbook_step(tmp_path):
    trainer = make_trainer(tmp_path, Constant(6))
    logits = torch.arange(6.0, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=0.1)
    for batch in itertools.islice(trainer.train_loader.epoch(1), 2):
        images, labels = trainer.prepare_batch(batch)
        pixels = labels[labels != 255]
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits.expand(len(pixels), 6), pixels).backward()
        optimizer.step()
        trainer.train_step(images, labels, batch)
        assert torch.allclose(trainer.model.logits, logits, atol=1e-6)


def test_feature_the_schedule_moves_once_a_step(tmp_path, monkeypatch):
    """Poly by its formula."""
    rates = []
    train_step = Trainer.train_step

    def looking(self, *args):
        rates.extend(self.learning_rates())
        return train_step(self, *args)

    monkeypatch.setattr(Trainer, "train_step", looking)
    run(tmp_path, {**small_config(tmp_path), "lr_scheduler": {"type": "Poly"}})
    assert rates == pytest.approx([0.05 * (1 - step / 6) ** 0.9 for step in range(6)])


class Dropout(Constant):
    def forward(self, images):
        return nn.functional.dropout(super().forward(images), training=self.training)


def test_feature_what_a_step_drops_depends_on_its_number_alone(tmp_path):
    def loss(step, drawn_before):
        trainer = make_trainer(tmp_path, Dropout(6))
        trainer.step = step
        batch = next(iter(trainer.train_loader.epoch(1)))
        torch.rand(drawn_before)
        return trainer.train_step(*trainer.prepare_batch(batch), batch)[0].item()

    assert loss(3, 0) == loss(3, 5) != loss(4, 0)


def test_exception_a_broken_file_in_training(tmp_path, capsys, monkeypatch):
    load, read = Shapes.load, []

    def broken(self, index):
        read.append(index)
        if read.count(7) > 2:  # before the training the labels of both splits are looked at
            raise DataError("x.png: is cut off")
        return load(self, index)

    monkeypatch.setattr(Shapes, "load", broken)
    code, folder = run(tmp_path, small_config(tmp_path))
    assert code == 2
    assert capsys.readouterr().err == "error: x.png: is cut off\n"
    assert "x.png: is cut off" in (folder / "log.txt").read_text()


def test_feature_validation_equals_a_naive_loop(tmp_path):
    model = Constant(6)
    trainer = make_trainer(tmp_path, model)
    figures = trainer.validate(1)
    correct = total = 0
    losses = []
    for group in trainer.val_loader.epoch(0):
        for batch in group:
            for label in batch.labels.long():
                valid = label != 255
                correct += (label[valid] == 5).sum().item()
                total += valid.sum().item()
            rows = model.logits.detach().expand(int((batch.labels != 255).sum()), 6)
            loss = nn.functional.cross_entropy(rows, batch.labels[batch.labels != 255].long())
            losses += [loss.item()] * len(batch.labels)
    assert figures["Pixel_Accuracy"] == pytest.approx(correct / total)
    assert figures["val_loss"] == pytest.approx(np.mean(losses))


def test_feature_validation_and_logging_do_not_change_training(tmp_path):
    final = []
    much, little = {"log_per_iter": 1, "tensorboard": True}, {"val": False, "monitor": "off"}
    for place, settings in ((tmp_path / "much", much), (tmp_path / "little", little)):
        folder = trained(place, small_config(place, **settings))
        final.append(load_checkpoint(folder / "last.pth"))
    assert_same(final[0]["state_dict"], final[1]["state_dict"])
    assert_same(final[0]["rng"], final[1]["rng"])


@pytest.mark.gpu
def test_feature_gpu_run(tmp_path):
    path = tmp_path / "config.json"
    tree = small_config(tmp_path, tensorboard=True)
    tree["n_gpu"] = 1
    path.write_text(json.dumps(tree))
    assert train.main(["--config", str(path)]) == 0


@pytest.mark.parametrize(("val", "words"), [(True, "val_loader"), (False, "trainer.val is false")])
def test_feature_a_share_that_nobody_validates_warns(tmp_path, caplog, val, words):
    tree = small_config(tmp_path, val=val, monitor="off", epochs=1)
    tree["train_loader"]["args"]["val_split"] = 0.3
    assert run(tmp_path, tree)[0] == 0
    assert caplog.text.partition("val_split: ")[2].splitlines()[0].endswith(words)


def test_exception_val_split_of_the_val_loader(tmp_path, capsys):
    tree = small_config(tmp_path)
    tree["val_loader"]["args"]["val_split"] = 0.3
    assert run(tmp_path, tree)[0] == 2
    assert "args.val_split: belongs in train_loader" in capsys.readouterr().err


def test_feature_validation_loads_before_the_epoch_ends(tmp_path, monkeypatch):
    prepared = []

    class Spied(Trainer):
        def train_step(self, images, labels, batch):
            prepared.append(self.val_loader._stream is not None)
            return super().train_step(images, labels, batch)

    monkeypatch.setattr("training.run.Trainer", Spied)
    tree = small_config(tmp_path, epochs=2, val_per_epochs=2)
    tree["train_loader"]["args"].update(batch_size=1)
    assert run(tmp_path, tree)[0] == 0
    # Ten steps an epoch; the second is validated and prepared four steps before its end.
    assert prepared == [False] * 16 + [True] * 4
