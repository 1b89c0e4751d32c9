"""A run that goes on with other images says so, and one with other classes is refused."""

import json
import logging
import os
import shlex
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import train
from dataloaders.shapes import Shapes
from tests.training.test_trainer import Scripted
from tests.training_runs import small_config, trained
from utils.checkpoint.content import as_resume_point
from utils.checkpoint.save_load import CheckpointError, load_checkpoint, save_checkpoint
from utils.runs.image_sets import ImageSets, describe_change, digest, fingerprints
from utils.samples.pairing import Sample


def samples(folder, names):
    return [Sample(n, str(folder / f"{n}.jpg"), str(folder / f"{n}.png")) for n in names]


def write(folder, **sizes):
    folder.mkdir(exist_ok=True)
    for name, size in sizes.items():
        for ending in ("jpg", "png"):
            (folder / f"{name}.{ending}").write_bytes(bytes(size))


def test_feature_the_same_images_wherever_they_lie(tmp_path, monkeypatch):
    write(tmp_path / "a", x=1, y=2, z=3)
    first = fingerprints(samples(tmp_path / "a", "xyz"))
    assert first.dtype == torch.int64 and first.shape == (3,)
    assert torch.equal(first, first.sort().values)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "b", (tmp_path / "b").relative_to(tmp_path)):
        assert torch.equal(fingerprints(samples(folder, "zxy")), first)


def test_feature_other_names_sizes_and_numbers_are_others(tmp_path):
    write(tmp_path, v=1, x=1, y=2, z=3)
    first = fingerprints(samples(tmp_path, "xyz"))
    (tmp_path / "y.png").write_bytes(bytes(7))  # the mask of one
    for names, words in (
        ("xyz", "3 in the checkpoint, 3 now; 1 are new and 1 are gone"),
        ("xz", "3 in the checkpoint, 2 now; 0 are new and 1 are gone"),
        ("vxz", "3 in the checkpoint, 3 now; 1 are new and 1 are gone"),
        ("vxyz", "3 in the checkpoint, 4 now; 2 are new and 1 are gone"),
        ("", "3 in the checkpoint, 0 now; 0 are new and 3 are gone"),
    ):
        now = fingerprints(samples(tmp_path, names))
        assert words in describe_change(first, now)
        assert digest(now) != digest(first)
    assert describe_change(first, first) == ""


def test_feature_one_look_at_each_file(tmp_path, monkeypatch):
    """None is opened, and a file that all samples share is looked at once."""
    write(tmp_path, **{f"i{number}": number for number in range(50)})
    listed = samples(tmp_path, [f"i{number}" for number in range(50)])
    shared = [Sample(s.name, s.image, str(tmp_path / "i0.png")) for s in listed]
    seen, stat = [], os.stat

    def counting(path, *args, **kwargs):
        seen.append(str(path))
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", counting)
    monkeypatch.setattr("builtins.open", None)
    fingerprints(listed)
    assert sorted(seen) == sorted(file for sample in listed for file in sample.files)
    seen.clear()
    fingerprints(shared)
    assert len(set(seen)) == 51 and len(seen) < 60  # threads may ask at the same time


def test_feature_images_that_are_drawn_depend_on_their_seed():
    one, other, same = (Shapes("val", num_images=4, seed=seed) for seed in (0, 1, 0))
    prints = [fingerprints(s.samples, s.drawn_from) for s in (one, other, same)]
    assert torch.equal(prints[0], prints[2])
    assert "4 are new and 4 are gone" in describe_change(*prints[:2])


def images(*numbers):
    return ImageSets(torch.arange(3), torch.tensor(numbers))


def test_feature_the_best_is_marked_until_a_better_one(tmp_path, caplog):
    """Also over further resumes; where the former images are back, it is the best of these."""
    caplog.set_level(logging.INFO)

    def go_on(values, sets):
        """Resume with these images; returns the state, what was said, and the result."""
        trainer = Scripted(tmp_path, values, images=sets)
        trainer.folder = first.folder
        trainer.load_state_dict(as_resume_point(checkpoint, "a.pth"), 1)
        caplog.clear()
        result = trainer.train()
        return trainer.state_dict(), caplog.text, result

    first = Scripted(tmp_path, [0.5, 0.8], images=images(1, 2))
    assert not first.train().on_other_images
    checkpoint = first.state_dict()
    assert checkpoint["images"]["best"] == digest(torch.tensor([1, 2]))
    assert "on other images" not in caplog.text
    values = [0.5, 0.8, 0.7]
    checkpoint, text, result = go_on(values, images(2, 3))
    assert "best 0.8000 (epoch 2, on other images)" in text
    assert result.on_other_images and result.score == 0.8
    assert checkpoint["images"]["best"] == digest(torch.tensor([1, 2]))
    _, text, result = go_on([*values, 0.6], images(1, 2))
    assert "best 0.8000 (epoch 2)" in text and not result.on_other_images
    checkpoint, text, result = go_on([*values, 0.9], images(2, 3))
    assert "best 0.9000 (epoch 4)" in text and not result.on_other_images
    assert checkpoint["images"]["best"] == digest(torch.tensor([2, 3]))


def test_feature_without_validation_the_training_images_count(tmp_path):
    first = Scripted(tmp_path, [0.5], images=images(), val=False, monitor="min loss")
    first.train()
    assert first.state_dict()["images"]["best"] == digest(torch.arange(3))


# --- whole runs


def write_image(folder, split, name, colour=0):
    """A mask of 16 x 16 pixels with both classes, and an image."""
    for kind, pixels in (
        ("images", np.full((16, 16, 3), colour, np.uint8)),
        ("masks", np.eye(16, dtype=np.uint8)),
    ):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / split / f"{name}.png")


def own_config(tmp_path, **args):
    tree = small_config(tmp_path, epochs=1)
    args = {"classes": ["ground", "line"], "batch_size": 2, "num_workers": 0, **args}
    for split in ("train", "val"):
        own = {"data_dir": str(tmp_path / "data"), "split": split, **args}
        tree[f"{split}_loader"] = {"type": "Folder", "args": own}
    return tree


def resumed(folder, epochs, *words):
    return train.main(["-d", "cpu", "-r", str(folder), "-o", f"trainer.epochs={epochs}", *words])


def test_feature_a_run_that_goes_on_with_other_images(tmp_path, capsys):
    data = tmp_path / "data"
    for split, count in (("train", 4), ("val", 3)):
        for number in range(count):
            write_image(data, split, number)
    folder = trained(tmp_path, own_config(tmp_path))
    last = folder / "last.pth"
    checkpoint = load_checkpoint(last)
    assert [len(checkpoint["images"][name]) for name in ("train", "val")] == [4, 3]
    # The same images in another place are the same.
    shutil.move(data, tmp_path / "moved")
    moved = [f"{name}_loader.args.data_dir={tmp_path / 'moved'}" for name in ("train", "val")]
    capsys.readouterr()
    assert resumed(folder, 1, "-o", moved[0], "-o", moved[1]) == 0
    assert " images: " not in capsys.readouterr().err
    # Two new ones and one that is gone in validation, one new one in training.
    data = tmp_path / "moved"
    write_image(data, "train", "new")
    for name in ("new", "newer"):
        write_image(data, "val", name)
    for kind in ("images", "masks"):
        (data / kind / "val" / "0.png").unlink()
    save_checkpoint({**checkpoint, "monitor_best": 0.99}, last)
    assert resumed(folder, 2, "-o", moved[0], "-o", moved[1]) == 0
    said = capsys.readouterr()
    assert "warning: training images: 4 in the checkpoint, 5 now; 1 are new and 0" in said.err
    assert "warning: validation images: 3 in the checkpoint, 4 now; 2 are new and 1" in said.err
    assert "Mean_IoU 0.9900 (epoch 1), was measured on other images" in said.err
    assert f"python train.py --config {folder}/config.json -o init_from={folder}/best_" in said.err
    assert "best 0.9900 (epoch 1, on other images)" in said.out
    assert "best_model.pth  Mean_IoU 0.9900 (epoch 1, on other images)" in said.out
    assert load_checkpoint(last)["images"]["best"] == checkpoint["images"]["best"]
    # A checkpoint of an earlier version does not know: nothing is said.
    checkpoint = load_checkpoint(last)
    del checkpoint["images"]
    save_checkpoint(checkpoint, last)
    write_image(data, "val", "newest")
    assert resumed(folder, 2) == 0
    assert "images" not in capsys.readouterr().err


def test_exception_a_run_that_goes_on_with_other_classes(tmp_path, capsys):
    """More, fewer, as many under other names, in another order: with the way to a new run."""
    for number in range(2):
        write_image(tmp_path / "data", "train", number)
    shutil.copytree(tmp_path / "data/images/train", tmp_path / "data/images/val")
    shutil.copytree(tmp_path / "data/masks/train", tmp_path / "data/masks/val")
    folder = trained(tmp_path, own_config(tmp_path))
    before = (folder / "last.pth").read_bytes()
    given = tmp_path / "config.json"

    def refused(classes, *words, config=True):
        """The message; the config on disk is that of the run, or has the classes itself."""
        tree = own_config(tmp_path, **({} if words else {"classes": classes}))
        given.write_text(json.dumps(tree))
        named = ["--config", str(given)] if config else []
        capsys.readouterr()
        code = train.main(["-d", "cpu", "--resume", str(folder), *named, *words])
        assert code == 2
        assert (folder / "last.pth").read_bytes() == before
        return capsys.readouterr().err

    def command(error, config, *words):
        """The command in a message, which has to be the one to type."""
        start = f"init_from={folder}/best_model.pth"
        typed = ["python", "train.py", "--config", str(config), "--device", "cpu"]
        assert f'write "init_from": "{folder}/best_model.pth" into' in error
        assert shlex.join([*typed, *words, "-o", start]) in error
        return ["--config", str(config), "-d", "cpu", *words, "-o", start]

    def flags(classes):
        text = json.dumps(classes)
        return [w for n in ("train", "val") for w in ("-o", f"{n}_loader.args.classes={text}")]

    for classes, facts in (
        (["ground", "line", "more"], "train_loader has 3 classes and the checkpoint 2"),
        (["ground", "lane"], "class 1 is 'lane' and was 'line'"),
        (["line", "ground"], "class 0 is 'line' and was 'ground'"),
    ):
        words = flags(classes)
        error = refused(classes, *words)
        assert facts in error and error.count("\n") == 1
        command(error, given, *words)
    error = refused(classes, *words, config=False)
    typed = command(error, folder / "config.json", *words)
    # Where the config has them, it differs from the run's: the same advice.
    error = refused(classes)
    assert json.dumps(classes) in error and "leave out --config" not in error
    command(error, given)
    assert train.main([*typed, "-o", f"trainer.save_dir={tmp_path / 'new'}"]) == 0
    # A checkpoint that names no classes: its weights tell their number.
    checkpoint = load_checkpoint(folder / "last.pth")
    del checkpoint["meta"]
    save_checkpoint(checkpoint, folder / "last.pth")
    before = (folder / "last.pth").read_bytes()
    words = flags(["a", "b", "c"])
    error = refused(None, *words)
    assert "another number of outputs" in error
    command(error, given, *words)


@pytest.mark.parametrize(
    "value",
    [
        3, [], {}, {"train": torch.zeros(1)},
        *(
            {"train": torch.arange(3), "val": torch.arange(2), "best": None, **wrong}
            for wrong in (
                {"best": 3}, {"best": "x" * 32}, {"best": "0" * 33}, {"more": 1}, {"val": None},
                {"val": [1, 2]}, {"val": torch.zeros(2)}, {"val": torch.zeros(2, 2).long()},
                {"val": torch.zeros(1).long().expand(10**12)},
                {"val": torch.zeros(2).long().to_sparse()}, {"val": torch.empty(2, device="meta")},
            )
        ),
    ],
)  # fmt: skip
def test_exception_what_a_checkpoint_says_of_its_images(value):
    state = {"state_dict": {}, "epoch": 1}
    with pytest.raises(CheckpointError, match="^a.pth: its images"):
        as_resume_point({**state, "images": value}, "a.pth")
    good = {"train": torch.arange(3), "val": torch.empty(0).long(), "best": "0" * 32}
    for images in (good, None):
        assert as_resume_point({**state, "images": images}, "a.pth").images == images
