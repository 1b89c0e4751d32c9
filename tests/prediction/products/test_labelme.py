"""labelme's files, turned back into masks by convert.py."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from prediction.products import labelme
from prediction.products.labelme import LabelmePolygons
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

NESTED = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0, 1], [1, 0, 2, 2, 2, 0, 1],
                   [1, 0, 2, 3, 2, 0, 3], [1, 0, 2, 2, 2, 0, 1], [1, 0, 0, 0, 0, 0, 1],
                   [1, 1, 1, 1, 1, 1, 0]], np.uint8)  # fmt: skip


def write(path, ids, facts, settings=None, step=7):
    path.parent.mkdir(exist_ok=True)
    feed(LabelmePolygons(path, facts, settings or Settings()), ids, step)
    return json.loads(path.read_text())


def converted(tmp_path, classes=CLASSES):
    """The mask that convert.py makes of the one file."""
    names = ["--classes", *classes[1:]]
    assert run("labelme", tmp_path / "in", "-o", tmp_path / "out", "--overwrite", *names) == 0
    return pixels(tmp_path / "out/a.png")


@pytest.mark.parametrize("step", [1, 7, 100])
@pytest.mark.parametrize("blur", [0.0, 0.8, 3.0])
def test_feature_convert_makes_the_same_mask(tmp_path, blur, step):
    ids = random_ids(4, 60, 70, blur=blur)
    write(tmp_path / "in/a.json", ids, facts_of(ids, tmp_path), step=step)
    assert (converted(tmp_path) == ids).all()


@pytest.mark.parametrize("ids", [NESTED, NESTED.T.copy(), np.array([[1]], np.uint8),
                                 np.array([[0, 2, 2], [3, 0, 0]], np.uint8)])  # fmt: skip
def test_feature_holes_islands_and_single_pixels(tmp_path, ids):
    tree = write(tmp_path / "in/a.json", ids, facts_of(ids, tmp_path))
    assert (converted(tmp_path) == ids).all()
    assert all(len(shape["points"]) >= 3 for shape in tree["shapes"])


def test_feature_the_order_of_shapes_does_not_matter(tmp_path):
    tree = write(tmp_path / "in/a.json", NESTED, facts_of(NESTED, tmp_path))
    for order in (1, -1):
        tree["shapes"].sort(key=lambda shape: order * CLASSES.index(shape["label"]))
        (tmp_path / "in/a.json").write_text(json.dumps(tree))
        assert (converted(tmp_path) == NESTED).all()


def test_feature_more_than_256_classes(tmp_path):
    ids = NESTED.astype(np.uint16) * 100
    classes = ["background", *(f"class {n}" for n in range(1, 301))]
    write(tmp_path / "in/a.json", ids, facts_of(ids, tmp_path, classes=classes))
    assert (converted(tmp_path, classes) == ids).all()


@pytest.mark.slow
def test_feature_real_masks(tmp_path):
    classes = ["background", *(f"class {n}" for n in range(1, 20))]
    for ids in real_masks():
        write(tmp_path / "in/a.json", ids, facts_of(ids, tmp_path, classes=classes),
              Settings(overwrite=True))  # fmt: skip
        assert (converted(tmp_path, classes) == ids).all()


def test_feature_what_labelme_needs_to_open_it(tmp_path):
    """Its keys; the image is found from the file's folder, also behind folders of odd names."""
    image = tmp_path / "images/some/im.png"
    image.parent.mkdir(parents=True)
    Image.fromarray(NESTED).save(image)
    tree = write(tmp_path / "in/a.json", NESTED, facts_of(NESTED, tmp_path))
    assert tree.keys() == {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight",
                           "imageWidth"}  # fmt: skip
    assert tree["imageData"] is None and (tree["imageHeight"], tree["imageWidth"]) == (7, 7)
    assert tree["imagePath"] == "../images/some/im.png"
    assert os.path.samefile(tmp_path / "in" / tree["imagePath"], image)
    for shape in tree["shapes"]:
        assert shape["shape_type"] == "polygon" and shape["label"] in CLASSES[1:]


def test_feature_what_is_left_out(tmp_path):
    """Small regions, the background, and pixels where the model is unsure: drawn by nothing."""
    ids = NESTED.copy()
    ids[3, 3] = 255
    tree = write(tmp_path / "in/a.json", ids, facts_of(ids, tmp_path, ignore_index=255),
                 Settings(min_area=2))  # fmt: skip
    assert [shape["label"] for shape in tree["shapes"]] == ["road", "tree", "road"]
    left = np.where(np.isin(ids, [1, 2]), ids, 0)
    left[6, 6] = 0
    assert (converted(tmp_path) == left).all()


def test_feature_simplified_outlines_stay_near(tmp_path):
    ids = random_ids(4, 150, 150, num_classes=2, blur=8.0)
    facts = facts_of(ids, tmp_path, classes=CLASSES[:2])
    exact = write(tmp_path / "in/a.json", ids, facts)
    tree = write(tmp_path / "in/a.json", ids, facts, Settings(overwrite=True, simplify=1.5))
    before, after = (sum(len(s["points"]) for s in some["shapes"]) for some in (exact, tree))
    assert after < 0.5 * before
    assert (converted(tmp_path, CLASSES[:2]) == ids).mean() > 0.97


def test_exception_images_that_are_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(labelme, "MAX_PIXELS", 48)
    with pytest.raises(DataError, match="has 49 pixels"):
        LabelmePolygons(tmp_path / "a.json", facts_of(NESTED, tmp_path), Settings())


def test_exception_existing_files_are_kept(tmp_path):
    (tmp_path / "a.json").write_text("mine")
    product = LabelmePolygons(tmp_path / "a.json", facts_of(NESTED, tmp_path), Settings())
    with pytest.raises(FileExistsError):
        feed(product, NESTED)
    product.discard()
    assert (tmp_path / "a.json").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
