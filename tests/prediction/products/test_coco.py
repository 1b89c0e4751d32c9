"""COCO annotations, as pycocotools and convert.py read them."""

import json

import numpy as np
import pytest
from pycocotools import mask as masks
from pycocotools.coco import COCO

from prediction.products import coco
from prediction.products.coco import CocoPolygons
from tests.conversion.calls import pixels, run
from tests.prediction.products.vector_case import (
    CLASSES,
    Settings,
    facts_of,
    feed,
    random_ids,
    real_masks,
)
from utils.files.data_file import DataError

# Of pycocotools itself, where it makes an array.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


def write(path, ids, facts, settings=None, step=7):
    product = CocoPolygons(path, facts, settings or Settings())
    assert list(product.needs) == []
    feed(product, ids, step)
    return json.loads(path.read_text())


@pytest.mark.parametrize("step", [1, 7, 100])
@pytest.mark.parametrize("blur", [0.0, 1.5])
def test_feature_pycocotools_reads_the_mask_again(tmp_path, capsys, blur, step):
    ids = random_ids(2, 45, 60, blur=blur)
    tree = write(tmp_path / "a.json", ids, facts_of(ids, tmp_path), step=step)
    found = COCO(tmp_path / "a.json")
    again = np.zeros_like(ids)
    for annotation in found.loadAnns(found.getAnnIds(imgIds=[1])):
        mask = found.annToMask(annotation)
        again += mask * annotation["category_id"]
        rows, columns = np.nonzero(mask)
        left, top = columns.min(), rows.min()
        box = [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
        assert annotation["bbox"] == box and annotation["area"] == mask.sum()
        assert annotation["iscrowd"] == 0
        whole = masks.encode(np.asfortranarray(mask))["counts"].decode()
        assert annotation["segmentation"] == {"size": [45, 60], "counts": whole}
    assert (again == ids).all()
    assert tree["images"] == [{"id": 1, "file_name": "some/im.png", "height": 45, "width": 60}]
    assert tree["categories"] == [{"id": n, "name": name} for n, name in enumerate(CLASSES)]
    numbers = [annotation["id"] for annotation in tree["annotations"]]
    assert numbers == list(range(1, len(numbers) + 1))


def test_feature_convert_makes_the_same_masks(tmp_path):
    for ids in real_masks()[::2]:
        classes = ["background", *(f"class {n}" for n in range(1, 20))]
        write(tmp_path / "a.json", ids, facts_of(ids, tmp_path, classes=classes),
              Settings(overwrite=True))  # fmt: skip
        assert run("coco", tmp_path / "a.json", "-o", tmp_path / "out", "--overwrite") == 0
        assert (pixels(tmp_path / "out/some/im.png") == ids).all()


def test_feature_what_is_left_out(tmp_path):
    ids = np.array([[1, 1, 0, 2], [255, 1, 0, 3], [255, 255, 0, 3]], np.uint8)
    facts = facts_of(ids, tmp_path, ignore_index=255)
    tree = write(tmp_path / "a.json", ids, facts, Settings(min_area=2))
    found = [(item["category_id"], item["area"]) for item in tree["annotations"]]
    assert found == [(1, 3), (3, 2)]
    assert write(tmp_path / "b.json", ids * 0, facts)["annotations"] == []


def test_exception_more_pixels_than_32_bits_count(tmp_path, monkeypatch):
    ids = np.zeros((4, 5), np.uint8)
    monkeypatch.setattr(coco, "MAX_PIXELS", 19)
    with pytest.raises(DataError, match="has 20 pixels"):
        CocoPolygons(tmp_path / "a.json", facts_of(ids, tmp_path), Settings())


def test_exception_existing_files_are_kept(tmp_path):
    ids = np.ones((4, 5), np.uint8)
    (tmp_path / "a.json").write_text("mine")
    product = CocoPolygons(tmp_path / "a.json", facts_of(ids, tmp_path), Settings())
    with pytest.raises(FileExistsError):
        feed(product, ids)
    product.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "mine"
