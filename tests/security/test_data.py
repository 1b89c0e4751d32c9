"""Damaged annotations, lists and weights: right, or a message; never another exception."""

import collections
import io
import json
import random
import time

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask

import convert
from dataloaders.cocovoc21 import COCOVOC21
from dataloaders.folder import Folder
from dataloaders.voc import VOC
from tests.dataset_trees import voc_tree
from tests.security.test_config import mutated
from utils.checkpoint.save_load import CheckpointError, load_checkpoint
from utils.files.data_file import DataError

SECONDS = 5.0
RECTANGLE = [[0, 0, 6, 0, 6, 6, 0, 6]]
ALL = mask.encode(np.ones((8, 12), np.uint8, order="F"))["counts"].decode()
COCO = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 12, "height": 8} for i in range(3)],
    "annotations": [
        {"id": 1, "image_id": 0, "category_id": 1, "segmentation": RECTANGLE, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 2, "iscrowd": 1,
         "segmentation": {"size": [8, 12], "counts": [40, 10, 46]}},
        {"id": 3, "image_id": 2, "category_id": 1, "iscrowd": 0,
         "segmentation": {"size": [8, 12], "counts": ALL}},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
}  # fmt: skip
LABELME = {
    "shapes": [
        {"label": "a", "points": [[0, 0], [5, 0], [5, 5]], "shape_type": "polygon"},
        {"label": "b", "points": [[1, 1], [3, 3]], "shape_type": "circle"},
        {"label": "a", "points": [[1, 1], [3, 3]], "shape_type": "rectangle"},
    ],
    "imageHeight": 8,
    "imageWidth": 12,
    "imageData": None,
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def counted(cases, run):
    """How the cases end: as the text that `run` gives, or with a message."""
    counts: collections.Counter = collections.Counter()
    for number, case in enumerate(cases):
        started = time.process_time()
        try:
            result = run(case)
        except ValueError as error:  # DataError, CheckpointError, ConfigError
            assert str(error), number
            result = "refused"
        except BaseException as error:
            raise AssertionError((number, case[:200])) from error
        assert time.process_time() - started < SECONDS, number
        counts[result] += 1
    return counts


def test_exception_damaged_coco_annotations(folder, capsys):
    rng, good = random.Random(0), json.dumps(COCO).encode()
    (folder / "coco/annotations").mkdir(parents=True)
    (folder / "coco/images/train2017").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(f"coco/images/train2017/{i}.jpg")
    source = folder / "coco/annotations/instances_train2017.json"

    def run(data):
        source.write_bytes(data)
        code = convert.main(["coco", str(source), "-o", "masks", "--overwrite"])
        dataset = COCOVOC21("coco", "train2017", min_pixels=0)
        for index in range(len(dataset)):
            dataset.load_mask(index)
        return f"exit {code}"

    counts = counted([good, *(mutated(rng, good) for _ in range(300))], run)
    assert counts["exit 0"] > 5 and counts["refused"] > 100, counts
    assert "Traceback" not in capsys.readouterr().err


def test_exception_damaged_labelme_files(folder, capsys):
    rng, good = random.Random(0), json.dumps(LABELME).encode()
    (folder / "in").mkdir()

    def run(data):
        (folder / "in/a.json").write_bytes(data)
        return convert.main(["labelme", "in", "-o", "out", "--overwrite"])

    counts = counted([good, *(mutated(rng, good) for _ in range(400))], run)
    assert set(counts) == {0, 2} and counts[0] > 10 and counts[2] > 100, counts
    assert "Traceback" not in capsys.readouterr().err


def test_exception_damaged_lists(folder):
    rng = random.Random(0)
    root = voc_tree(folder / "VOC2012", "012")
    good = b"0\n/JPEGImages/1.jpg /SegmentationClass/1.png\n2\n"
    listed = root / "ImageSets/Segmentation/train.txt"

    def run(data):
        listed.write_bytes(data)
        inside = str(root.resolve())
        found = [*VOC(".", "train").samples]
        listed.write_bytes(data.replace(b"/JPEGImages", b"JPEGImages"))
        images = {"images": str(listed), "masks": str(root / "SegmentationClass")}
        found += Folder(classes=2, data_dir=None, **images).samples
        assert all(str((folder / s.image).resolve()).startswith(inside) for s in found)
        return "read"

    counts = counted([good, *(mutated(rng, good) for _ in range(400))], run)
    assert counts["refused"] > 100, counts


def weights(zipped):
    buffer = io.BytesIO()
    content = {
        "state_dict": {"module.w": torch.ones(2, 2), "module.b": torch.zeros(2)},
        "epoch": 3, "monitor_best": np.float64(0.5), "config": {"name": "x", "list": [1, None]},
        "meta": {"classes": ["a", "b"]}, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}},
    }  # fmt: skip
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_exception_damaged_weights(folder, zipped):
    """Files of other programs, which have no digest of ours to find the damage by."""
    rng, good = random.Random(0), weights(zipped)
    path = folder / "c.pth"

    def run(data):
        path.write_bytes(data)
        try:
            assert load_checkpoint(path)["state_dict"] is not None
        except CheckpointError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            raise
        return "read"

    few = (mutated(rng, good) for _ in range(600))
    counts = counted([good, *(data for data in few if len(data) < 10_000)], run)
    assert counts["read"] and counts["refused"] > 300, counts


def test_exception_names_of_folders_for_files(folder):
    for path in ("list.txt", "i.json"):
        (folder / path).mkdir()
        with pytest.raises(DataError):
            Folder(classes=2, images=path, masks=path)
        assert convert.main(["coco", path, "-o", "masks"]) == 2
