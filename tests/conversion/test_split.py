"""convert.py split: lists for training, validation and test."""

import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from base.samples import Samples
from conversion.splits import make_split
from conversion.stratify import Units, deal
from dataloaders.folder import Folder
from tests.conftest import ROOT
from tests.conversion.calls import dump, pixels, run, save
from utils.transforms.augmentation import Augmentation


@pytest.fixture
def tree(tmp_path):
    """40 images of 4 videos, each with one or two of four classes; the last one is rare."""
    for i in range(40):
        mask = np.full((4, 4), 255, np.uint8)
        mask[:2] = i % 3
        mask[3] = 3 if i in (5, 22) else i % 2
        save(tmp_path / f"images/v{i // 10}/p{i}.jpg", np.zeros((4, 4, 3), np.uint8))
        save(tmp_path / f"masks/v{i // 10}/p{i}.png", mask)
    return tmp_path


def members(lists, name):
    """What `Folder` finds in the two lists of a split."""
    pair = {"images": f"{lists.name}/{name}.txt", "masks": f"{lists.name}/{name}_masks.txt"}
    dataset = Folder(classes=4, data_dir=str(lists.parent), **pair)
    for sample in dataset.samples:
        assert Path(sample.image).stem == Path(sample.label).stem
    dataset.load(0)
    return {Path(sample.image).stem for sample in dataset.samples}


def test_feature_lists_fit_folder(tree, capsys, monkeypatch):
    monkeypatch.chdir(tree)
    assert run("split", "--output", "lists", "--val", 0.2, "--test", 0.1) == 0
    found = {name: members(Path("lists"), name) for name in ("train", "val", "test")}
    assert [len(found[name]) for name in ("train", "val", "test")] == [28, 8, 4]
    assert set.union(*found.values()) == {f"p{i}" for i in range(40)}
    assert not found["train"] & found["val"] and not found["val"] & found["test"]
    out = capsys.readouterr().out
    assert re.search(r"images +28 \(70.0 %\)  8 \(20.0 %\)  4 \(10.0 %\)", out)
    assert 'val: "data_dir": ".", "images": "lists/val.txt", "masks": "lists/val_masks.txt"' in out


def test_feature_of_lists_and_suffixes(tree, capsys, monkeypatch):
    """A list of some of the images, and masks of another stem; from another folder."""
    (tree / "some.txt").write_text("".join(f"images/v1/p{i}.jpg\n" for i in range(10, 18)))
    for path in (tree / "masks/v1").iterdir():
        path.rename(path.with_stem(f"{path.stem}_gt"))
    options = ["--masks", tree / "masks/v1", "--mask-suffix", "_gt", "--val", 0.25]
    assert run("split", tree / "some.txt", *options, "-o", tree / "deep/lists") == 0
    out = capsys.readouterr().out
    (line,) = re.findall(r"^    val: (.*)$", out, re.M)
    monkeypatch.chdir("/")
    dataset = Folder(classes=4, **json.loads(f"{{{line}}}"))
    assert len(dataset) == 2
    assert dataset.load(0)[1].shape == (4, 4)
    assert not (tree / "deep/lists/test.txt").exists()


def test_feature_of_masks_beside_images(tmp_path, capsys):
    for i in range(4):
        save(tmp_path / f"{i}.png", np.zeros((4, 4, 3), np.uint8))
        save(tmp_path / f"{i}_gt.png", np.zeros((4, 4), np.uint8))
    options = ["--images", ".", "--masks", ".", "--mask-suffix", "_gt", "--val", 0.25]
    assert run("split", tmp_path, "-o", tmp_path / "lists", *options) == 0
    assert not capsys.readouterr().err
    names = (tmp_path / "lists/train.txt").read_text() + (tmp_path / "lists/val.txt").read_text()
    assert sorted(names.split()) == [f"../{i}.png" for i in range(4)]


@pytest.mark.parametrize("suffixes", [["_VV", "_HH"], None])
def test_feature_of_arrays_and_bands(tmp_path, capsys, suffixes):
    """What was saved comes back through the lists and the lines for the config."""
    (tmp_path / "images").mkdir()
    for i in range(4):
        array = np.random.default_rng(i).normal(size=(6, 7, 2)).astype(np.float32)
        if suffixes is None:
            np.save(tmp_path / f"images/{i}.npy", array)
        for suffix, band in zip(suffixes or (), (0, 1), strict=False):
            np.save(tmp_path / f"images/{i}{suffix}.npy", array[..., band])
        save(tmp_path / f"masks/{i}.png", np.full((6, 7), i, np.uint8))
    options = ["--band-suffixes", *suffixes] if suffixes else []
    assert run("split", tmp_path, "-o", tmp_path / "lists", "--val", 0.25, *options) == 0
    (line,) = re.findall(r"^    train: (.*)$", capsys.readouterr().out, re.M)
    dataset = Folder(classes=4, mean=[0, 0], std=[1, 1], **json.loads(f"{{{line}}}"))
    assert len(dataset) == 3
    for index, sample in enumerate(dataset.samples):
        number = int(Path(sample.label).stem)
        expected = np.random.default_rng(number).normal(size=(6, 7, 2)).astype(np.float32)
        assert np.array_equal(dataset.load(index)[0], expected)


def test_feature_keeps_groups_together(tree, tmp_path, capsys):
    lines = "".join(f"v{i // 10}/p{i}{'.jpg' * (i % 2)},g{i % 5}\n" for i in range(40))
    (tmp_path / "groups.csv").write_text(lines)
    ways = (
        (r"^v\d", lambda stem: int(stem[1:]) // 10),
        (r"p\d?(\d)$", lambda stem: int(stem[1:]) % 10),
        (tmp_path / "groups.csv", lambda stem: int(stem[1:]) % 5),
    )
    for number, (groups, group_of) in enumerate(ways):
        lists = tmp_path / str(number)
        options = ["--groups", groups, "--stratify", "--val", 0.25]
        assert run("split", tree, "-o", lists, *options) == 0
        train, val = (set(map(group_of, members(lists, name))) for name in ("train", "val"))
        assert train and val and not train & val
    assert re.search(r"groups +4 \(80.0 %\) +1 \(20.0 %\)", capsys.readouterr().out)


def test_feature_table_equals_a_naive_count(tree, capsys):
    assert run("split", tree, "-o", tree / "lists", "--val", 0.3) == 0
    out = capsys.readouterr().out
    for value in range(4):
        counts = []
        for name in ("train", "val"):
            paths = (tree / "lists" / f"{name}_masks.txt").read_text().split()
            counts.append(sum((pixels(tree / "lists" / p) == value).sum() for p in paths))
        shares = [f"{100 * count / sum(counts):.1f} %" for count in counts]
        assert re.search(rf"^class {value} +{shares[0]} +{shares[1]}\s*$", out, re.M)
    assert "class 255" not in out


def test_feature_stratified_has_the_rare_class_everywhere(tree, capsys):
    """Two of forty images have class 3: of a tenth at random, four in five lack it."""
    for seed in range(3):
        options = ["--val", 0.1, "--stratify", "--seed", seed]
        assert run("split", tree, "-o", tree / f"lists{seed}", *options) == 0
        assert len({"p5", "p22"} & members(tree / f"lists{seed}", "val")) == 1
        captured = capsys.readouterr()
        assert "warning" not in captured.err
        assert "36 (90.0 %)" in captured.out
    assert run("split", tree, "-o", tree / "plain", "--val", 0.1, "--test", 0.1) == 0
    assert "has no pixel of class 3" in capsys.readouterr().err


def counts_of(number, classes=6, seed=0):
    """Random multi-label images with frequent and rare classes."""
    rng = np.random.default_rng(seed)
    found = {}
    for i in range(number):
        there = rng.random(classes) < 0.6 / np.arange(1, classes + 1) ** 1.3
        sizes = rng.integers(1, 1000, classes)
        found[f"p{i}"] = {str(c): int(sizes[c]) for c in range(classes) if there[c]}
    return found


def deviation(counts, chosen, fraction):
    """Return how far images and pixels of classes in a split are from its fraction, naively."""
    worst = 0
    for c in {c for found in counts.values() for c in found}:
        for weigh in (bool, int):
            total = sum(weigh(found.get(c, 0)) for found in counts.values())
            part = sum(weigh(counts[name].get(c, 0)) for name in chosen)
            worst = max(worst, abs(part / total - fraction))
    return worst


def test_feature_is_a_function_of_names_and_seed():
    counts = counts_of(60)
    shares = {"train": 0.7, "val": 0.3}
    for stratify in (False, True):
        first = make_split(counts, shares, stratify=stratify, seed=1)
        names = list(counts)
        random.Random(0).shuffle(names)
        shuffled = {n: dict(reversed(counts[n].items())) for n in names}
        again = make_split(shuffled, shares, stratify=stratify, seed=1)
        assert first.members == again.members
        assert first.members != make_split(counts, shares, stratify=stratify, seed=2).members


def test_feature_is_the_same_in_another_process():
    """Python orders its sets in another way there."""
    counts = counts_of(30)
    groups = {name: f"g{int(name[1:]) // 2}" for name in counts}
    shares = {"train": 0.7, "val": 0.3}
    code = (
        "from conversion.splits import make_split\n"
        f"print(make_split({counts}, {shares}, groups={groups}, stratify=True).members)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )  # fmt: skip
    split = make_split(counts, shares, groups=groups, stratify=True)
    assert result.stdout.strip() == str(split.members)


def test_feature_stratified_beats_random_splits():
    """Of 200 random splits, made without any of this code, not one is as close."""
    counts = counts_of(150)
    split = make_split(counts, {"train": 0.8, "val": 0.2}, stratify=True)
    assert len(split.members[1]) == 30
    ours = deviation(counts, split.members[1], 0.2)
    rng = random.Random(0)
    others = [deviation(counts, rng.sample(list(counts), 30), 0.2) for _ in range(200)]
    assert ours < min(others)
    assert ours < 0.03


def test_feature_stratified_groups_beat_scikit_learn():
    """Against its random splits by groups, which know nothing of classes."""
    from sklearn.model_selection import GroupShuffleSplit

    counts = counts_of(200)
    groups = {name: f"g{int(name[1:]) // 4}" for name in counts}
    split = make_split(counts, {"train": 0.8, "val": 0.2}, groups=groups, stratify=True)
    names, labels = list(groups), list(groups.values())
    peer = GroupShuffleSplit(20, test_size=0.2, random_state=0)
    others = [
        deviation(counts, [names[i] for i in val], 0.2)
        for _, val in peer.split(names, groups=labels)
    ]
    assert deviation(counts, split.members[1], 0.2) < min(others)


def test_feature_stratified_single_labels_equal_scikit_learn():
    """Of one class an image, each split has the numbers that scikit-learn gives it."""
    from sklearn.model_selection import StratifiedShuffleSplit

    labels = [0] * 50 + [1] * 30 + [2] * 20
    counts = {f"p{i}": {str(label): 10} for i, label in enumerate(labels)}
    split = make_split(counts, {"train": 0.8, "val": 0.2}, stratify=True)
    ((_, val),) = StratifiedShuffleSplit(1, test_size=0.2, random_state=0).split(labels, labels)
    expected = np.bincount(np.array(labels)[val])
    ours = np.bincount([labels[int(name[1:])] for name in split.members[1]])
    assert ours.tolist() == expected.tolist() == [10, 6, 4]


@pytest.mark.parametrize("seed", range(12))
def test_feature_no_class_is_missing_where_it_can_be_there(seed):
    """Against all ways to deal ten images out to two splits, one after the other."""
    rng = np.random.default_rng(seed)
    presence = (rng.random((10, 6)) < 0.25).astype(int)
    units = Units(np.ones(10, int), presence, presence * rng.integers(1, 9, (10, 6)))
    occurs = presence.any(axis=0)

    def missing(chosen):
        parts = [presence[np.array(chosen) == s].any(axis=0) for s in (0, 1)]
        return sum(int((occurs & ~part).sum()) for part in parts)

    possible = [c for c in itertools.product((0, 1), repeat=10) if 0 < sum(c) < 10]
    chosen = deal(units, np.array([0.7, 0.3]), np.random.default_rng(0))
    assert missing(chosen) == min(map(missing, possible))


@pytest.mark.slow
def test_feature_of_real_videos(tmp_path, real_data, capsys):
    """The 367 CamVid images are of three videos, by the first part of their names."""
    data = ["split", real_data / "camvid", "--images", "train", "--masks", "trainannot"]
    groups = ["--groups", "^[^_]+", "--stratify", "--val", 0.25, "--ignore-index", 11]
    assert run(*data, "-o", tmp_path / "videos", *groups) == 0
    found = {n: (tmp_path / f"videos/{n}.txt").read_text().split() for n in ("train", "val")}
    videos = {n: {Path(p).name.split("_")[0] for p in paths} for n, paths in found.items()}
    assert len(videos["train"] | videos["val"]) == 3 and not videos["train"] & videos["val"]
    assert len(found["train"]) + len(found["val"]) == 367
    capsys.readouterr()
    assert run(*data, "-o", tmp_path / "all", "--stratify", "--ignore-index", 11) == 0
    rows = re.findall(r"^class \d+ +\S+ % +(\S+) %", capsys.readouterr().out, re.M)
    assert len(rows) == 11
    assert all(abs(float(share) - 10) < 0.5 for share in rows)


def test_exception_arguments(tree, tmp_path, capsys):
    short = dump(tmp_path / "short.csv", 0)
    short.write_text("v0/p0,a\n")
    twice = dump(tmp_path / "twice.csv", 0)
    twice.write_text("v0/p0,a\nv0/p0,b\n")
    shutil.copytree(tree / "images", tree / "jpegs")
    for options, message in (
        (["--val", 0], "--val 0 --test 0: "),
        (["--val", 0.6, "--test", 0.4], "--val 0.6 --test 0.4: "),
        (["--val", "nan"], "--val nan --test 0: "),
        (["--groups", "("], "--groups: '('"),
        (["--groups", "^v0"], "'^v0' finds nothing in 'v1/p10'"),
        (["--groups", "x*"], "finds nothing in"),
        (["--groups", short], "has no group for v0/p1"),
        (["--groups", twice], "v0/p0 into the groups a and b"),
        (["--groups", "^v", "--test", 0.1], "1 groups cannot fill 3 splits"),
        (["--images", "image"], "image: no such"),
        (["--masks", "images"], "40 of 40 images"),
        (["--masks", "jpegs"], "is a JPEG"),
        (["--masks", "jpegs"], "error: no mask can be used"),
        (["--band-suffixes", "_a", "_a"], "band_suffixes: "),
        (["--band-suffixes", "_a", "_b"], "_a or _b"),
        (["--mask-suffix", "_gt"], "have no mask"),
    ):
        assert run("split", tree, "-o", tree / "lists", *options) == 2
        assert message in capsys.readouterr().err
    assert run("split", short, "-o", tree / "lists") == 2
    assert "--masks" in capsys.readouterr().err
    assert not (tree / "lists").exists()


def test_exception_existing_lists(tree, capsys):
    lists = tree / "lists"
    assert run("split", tree, "-o", lists, "--test", 0.1) == 0
    before = (lists / "train.txt").read_text()
    assert run("split", tree, "-o", lists, "--test", 0.1, "--seed", 1) == 2
    assert "6 of the files" in capsys.readouterr().err
    assert (lists / "train.txt").read_text() == before
    assert run("split", tree, "-o", lists, "--overwrite") == 2
    assert "from an earlier split" in capsys.readouterr().err
    assert run("split", tree, "-o", lists, "--test", 0.1, "--seed", 1, "--overwrite") == 0
    assert (lists / "train.txt").read_text() != before


def test_exception_arguments_come_before_existing_files(tree, capsys):
    assert run("split", tree, "-o", tree / "lists") == 0
    command = ["colours", tree / "masks/v0", "-o", tree / "ids", "--palette"]
    assert run(*command, *(f"{i}={','.join([str(i)] * 3)}" for i in (0, 1, 2, 3, 255))) == 0
    for words in (
        ["split", tree, "-o", tree / "lists", "--groups", "^v9"],
        ["split", tree, "-o", tree / "lists", "--images", "image"],
        [*command, "0=0,0"],
        [*command, "0=0,0,0", "--mask-suffix", "_x"],
    ):
        capsys.readouterr()
        assert run(*words) == 2
        assert "already exist" not in capsys.readouterr().err


def test_exception_broken_masks_are_left_out(tree, capsys):
    (tree / "masks/v0/p3.png").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    save(tree / "masks/v0/p4.png", noise)
    assert run("split", tree, "-o", tree / "lists") == 2
    error = capsys.readouterr().err
    assert "p3.png: is empty (0 bytes)" in error
    assert re.search(r"p4\.png: has \d+ colours", error)
    listed = (tree / "lists/train.txt").read_text() + (tree / "lists/val.txt").read_text()
    assert len(listed.split()) == 38
    assert "p3.jpg" not in listed and "p4.jpg" not in listed


@pytest.mark.parametrize("other", [None, 1])
def test_feature_of_black_and_white_masks_says_what_255_is(tmp_path, capsys, other):
    """Its lines train; beside another value 255 is ignored."""
    for n in range(10):
        save(tmp_path / f"images/{n}.png", np.full((8, 8, 3), n, np.uint8))
        mask = np.zeros((8, 8), np.uint8)
        mask[:4] = 255
        if other is not None:
            mask[0] = other
        save(tmp_path / f"masks/{n}.png", mask)
    assert run("split", tmp_path, "-o", tmp_path / "lists", "--val", 0.2) == 0
    printed = capsys.readouterr()
    assert ("0 and 255" in printed.err) == (other is None)
    line = re.search(r"train: (.*)", printed.out)[1]
    dataset = Folder(classes=2, **json.loads("{" + line + "}"))
    labels = Samples(dataset, Augmentation(), seed=0, ignore_index=255).labels(0)
    assert set(np.unique(labels).tolist()) == ({0, 1} if other is None else {0, 1, 255})
    options = ["--val", 0.2, "--ignore-index", 255]
    assert run("split", tmp_path, "-o", tmp_path / "l", *options) == 0
    assert "label_map" not in capsys.readouterr().out
