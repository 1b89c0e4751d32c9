"""The VOC classes of COCO, drawn from instance annotations."""

import json
import multiprocessing
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_tools
from pycocotools.coco import COCO as CocoTools

from dataloaders.cocovoc21 import COCOVOC21, Packed
from dataloaders.voc import VOC
from tests.coco_trees import VOC_CATEGORIES, annotation, box, save_instances
from tests.dataset_trees import assert_image_equals_pillow, label_of, pytorch_segmentation_loaders
from utils.files.data_file import DataError
from utils.files.paths import STORES

PERSON, DOG, CAR, TRUCK = 1, 18, 3, 8  # COCO's ids
SIZE = (40, 60)


def run_lengths(rows: slice, columns: slice) -> dict:
    """A rectangle as uncompressed run lengths, column by column."""
    mask = np.zeros(SIZE, np.uint8)
    mask[rows, columns] = 1
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return {"size": list(SIZE), "counts": np.diff(np.concatenate([[0], edges])).tolist()}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # counts are kept below the working folder


@pytest.fixture
def tree(tmp_path):
    """Objects that overlap, crowds over and under them, other categories, both kinds of outline."""
    two_parts = box(2, 2, 10, 10) + box(40, 20, 8, 12)
    disk = np.hypot(np.arange(40)[:, None] - 20, np.arange(60)[None] - 30) < 14
    compressed = mask_tools.encode(np.asfortranarray(disk.astype(np.uint8)))
    compressed["counts"] = compressed["counts"].decode()
    save_instances(
        tmp_path,
        [
            annotation(2, TRUCK, box(0, 0, 60, 40)),
            annotation(2, DOG, two_parts),
            annotation(2, PERSON, box(5, 5, 40, 22)),
            annotation(2, PERSON, run_lengths(slice(0, 30), slice(0, 50)), crowd=1),
            annotation(2, TRUCK, run_lengths(slice(30, 40), slice(0, 60)), crowd=1),
            annotation(2, CAR, [[50, 1, 58, 2.5, 55.5, 18]]),
            annotation(2, CAR, run_lengths(slice(35, 38), slice(20, 60))),
            annotation(1, TRUCK, box(0, 0, 60, 40)),
            annotation(3, DOG, box(0, 0, 20, 10)),
            annotation(3, PERSON, compressed),
        ],
        pictures=3,
    )
    return tmp_path


def drawn_by_pycocotools(source: Path, name: str) -> np.ndarray:
    """A naive loop over pycocotools' own mask of each annotation, a rule a line."""
    tools = CocoTools(str(source))
    (image,) = (p for p in tools.dataset["images"] if p["file_name"].startswith(name))
    ids = np.zeros((image["height"], image["width"]), int)
    annotations = tools.imgToAnns[image["id"]]
    classes = {key: 1 + i for i, key in enumerate(VOC_CATEGORIES)}
    for item in annotations:
        label = classes.get(item["category_id"])
        if label is not None and not item["iscrowd"]:
            ids[(tools.annToMask(item) == 1) & (ids == 0)] = label
    for item in annotations:
        if item["category_id"] in classes and item["iscrowd"]:
            ids[(tools.annToMask(item) == 1) & (ids == 0)] = 255
    return ids


def assert_equals_pycocotools(dataset: COCOVOC21, source: Path) -> None:
    for index, sample in enumerate(dataset.samples):
        expected = drawn_by_pycocotools(source, sample.name)
        assert np.array_equal(label_of(dataset, index), expected), sample.name
        assert np.array_equal(label_of(dataset, index, -1), np.where(expected == 255, -1, expected))


def test_feature_cocovoc21_equals_pycocotools(tree):
    dataset = COCOVOC21(str(tree), "val2017", min_pixels=0)
    assert [s.name for s in dataset.samples] == ["000000000002", "000000000003"]
    assert_equals_pycocotools(dataset, tree / "annotations/instances_val2017.json")
    assert set(np.unique(dataset.load_mask(0))) == {0, 7, 12, 15, 255}


def test_feature_cocovoc21_rules_by_hand(tree):
    mask = COCOVOC21(str(tree), "val", min_pixels=0).load_mask(0)
    assert mask[8, 8] == 12  # dog and person: the dog is first in the file
    assert mask[20, 30] == 15  # person and a crowd of persons
    assert mask[28, 30] == 255  # the crowd alone
    assert mask[34, 5] == 0  # a truck, and a crowd of trucks
    assert mask[36, 30] == 7  # a car over a crowd of trucks
    assert mask[25, 44] == 12  # the dog's second part


def test_feature_cocovoc21_min_pixels_is_exact(tree):
    dataset = COCOVOC21(str(tree), "val2017", min_pixels=0)
    counts = [int(((m > 0) & (m < 255)).sum()) for m in map(dataset.load_mask, range(2))]
    assert counts[0] > counts[1]
    for limit, names in (
        (counts[1] - 1, ["000000000002", "000000000003"]),
        (counts[1], ["000000000002"]),
        (counts[0] - 1, ["000000000002"]),
    ):
        kept = COCOVOC21(str(tree), "val2017", min_pixels=limit)
        assert [s.name for s in kept.samples] == names
    with pytest.raises(DataError, match=f"more than {counts[0]} object pixels"):
        COCOVOC21(str(tree), "val2017", min_pixels=counts[0])


def test_feature_cocovoc21_keeps_its_counts(tree, monkeypatch):
    source = tree / "annotations/instances_val2017.json"
    calls = []
    count = sys.modules[COCOVOC21.__module__]._count
    monkeypatch.setattr(
        sys.modules[COCOVOC21.__module__], "_count", lambda *a: calls.append(a) or count(*a)
    )
    names = [s.name for s in COCOVOC21(str(tree), "val2017").samples]
    assert len(calls) == 3
    assert [s.name for s in COCOVOC21(str(tree), "val2017").samples] == names
    assert len(calls) == 3
    os.utime(source, ns=(1, 1))
    COCOVOC21(str(tree), "val2017")
    assert len(calls) == 6
    (cache,) = (tree / "saved" / "cache").glob("cocovoc21-*.json")
    cache.write_text("{")
    COCOVOC21(str(tree), "val2017")
    assert len(calls) == 9


def test_feature_cocovoc21_folder_that_cannot_be_written(tree, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert len(COCOVOC21(str(tree), "val2017")) == 1
    assert list((tree / "saved" / "cache").iterdir()) == []


def test_feature_cocovoc21_broken_outline_is_named_when_it_is_read(tree):
    source = save_instances(
        tree,
        [
            annotation(1, DOG, box(0, 0, 20, 30)),
            annotation(1, DOG, [[1, 2, 3, 4]]),
            annotation(2, DOG, {"size": [1, 2], "counts": [2]}),
        ],
    )
    dataset = COCOVOC21(str(tree), "val2017", min_pixels=500)
    assert len(dataset) == 2
    with pytest.raises(DataError, match=f"{source}: annotation 101: has a polygon of 4 numbers"):
        dataset.load(0)
    with pytest.raises(DataError, match="annotation 102: has run lengths for 2x1"):
        dataset.load(1)


def test_exception_cocovoc21_splits_and_folders(tree):
    with pytest.raises(ValueError, match="split: expected one of train2017, val2017"):
        COCOVOC21(str(tree), "test2017")
    with pytest.raises(DataError, match=r"no such file \(.*: instances_val2017"):
        COCOVOC21(str(tree), "train")
    with pytest.raises(DataError, match=r"no such file \(.*: annotations, images"):
        COCOVOC21(str(tree / "coco"), "val")
    source = save_instances(tree, [], categories={1: "person", 2: "wheel"})
    with pytest.raises(DataError, match="airplane, .*convert.py coco"):
        COCOVOC21(str(tree), "val")
    source.write_text("[]")
    with pytest.raises(DataError, match="is not a COCO instances file"):
        COCOVOC21(str(tree), "val")


def test_feature_cocovoc21_missing_images_are_problems(tree):
    (tree / "images/val2017/000000000002.jpg").unlink()
    dataset = COCOVOC21(str(tree), "val2017", min_pixels=0)
    assert "1 of the files that it names do not exist" in dataset.problems[0]
    assert [s.name for s in dataset.samples] == ["000000000003"]
    assert_equals_pycocotools(dataset, tree / "annotations/instances_val2017.json")


def test_exception_cocovoc21_names_that_lead_out(tree):
    source = tree / "annotations/instances_val2017.json"
    tampered = json.loads(source.read_text())
    tampered["images"][1]["file_name"] = "../../../outside.jpg"
    source.write_text(json.dumps(tampered))
    with pytest.raises(DataError, match="lies outside the dataset's folder"):
        COCOVOC21(str(tree), "val2017")


def test_exception_cocovoc21_without_pycocotools(tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ValueError, match="pip install pycocotools"):
        COCOVOC21(str(tree), "val2017")


def test_feature_cocovoc21_goes_to_other_processes(tree):
    dataset = COCOVOC21(str(tree), "val2017", min_pixels=0)
    copy = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(copy.load_mask(1), dataset.load_mask(1))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert np.array_equal(pool.map(dataset.load_mask, [0])[0], dataset.load_mask(0))


def test_cardinality_packed():
    parts = [b"", b"abc", b"", b"d"]
    packed = Packed(parts)
    assert [packed[i] for i in range(len(packed))] == parts
    assert packed[-1] == b"d"
    with pytest.raises(IndexError):
        packed[4]
    assert len(Packed([])) == 0


def test_feature_cocovoc21_constants():
    assert tuple(COCOVOC21.classes) == tuple(VOC.classes)
    assert list(COCOVOC21.palette) == list(VOC.palette)


def test_feature_cocovoc21_in_a_loader(tree):
    train, val = pytorch_segmentation_loaders("COCOVOC21", tree, ("val", "val2017"), min_pixels=0)
    (batch,) = list(train.epoch(1))
    assert tuple(batch.labels.shape) == (2, 380, 380)
    assert val.num_samples == 2


# --- real files


@pytest.mark.parametrize(("split", "count"), [("train2017", 10), ("val2017", 7)])
def test_feature_real_cocovoc21_equals_pycocotools(real_data, tmp_path, monkeypatch, split, count):
    real = real_data / "coco_voc21_layout"
    monkeypatch.setenv(STORES, str(real / "images"))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").symlink_to(real / "images")
    source = tmp_path / f"annotations/instances_{split}.json"
    source.write_bytes((real / f"annotations/instances_{split}.json").read_bytes())
    every = COCOVOC21(str(tmp_path), split, min_pixels=0)
    assert_equals_pycocotools(every, source)
    assert_image_equals_pillow(every, 0)
    drawn = {s.name: drawn_by_pycocotools(source, s.name) for s in every.samples}
    kept = [name for name, ids in drawn.items() if ((ids > 0) & (ids < 255)).sum() > 1000]
    dataset = COCOVOC21(str(tmp_path), split)
    assert [s.name for s in dataset.samples] == kept
    assert (len(dataset), dataset.problems) == (count, [])
