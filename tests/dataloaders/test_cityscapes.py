"""CityScapes on trees in its layouts; its images may not be passed on, so all are made here."""

import itertools

import numpy as np
import pytest
from PIL import Image

from dataloaders.cityscapes import CityScapes
from tests.dataset_trees import (
    assert_labels,
    ids,
    image,
    label_of,
    pytorch_segmentation_loaders,
    read,
    save,
)
from utils.files.data_file import DataError

FRAMES = ["aachen/aachen_000000_000019", "aachen/aachen_000001_000019", "ulm/ulm_000000_000019"]

# The table of helpers/labels.py in github.com/mcordts/cityscapesScripts: name, id, trainId.
LABELS = """unlabeled 0 255, ego_vehicle 1 255, rectification_border 2 255, out_of_roi 3 255,
static 4 255, dynamic 5 255, ground 6 255, road 7 0, sidewalk 8 1, parking 9 255, rail_track 10 255,
building 11 2, wall 12 3, fence 13 4, guard_rail 14 255, bridge 15 255, tunnel 16 255, pole 17 5,
polegroup 18 255, traffic_light 19 6, traffic_sign 20 7, vegetation 21 8, terrain 22 9, sky 23 10,
person 24 11, rider 25 12, car 26 13, truck 27 14, bus 28 15, caravan 29 255, trailer 30 255,
train 31 16, motorcycle 32 17, bicycle 33 18, license_plate -1 255"""
TABLE = [(w[0], int(w[1]), int(w[2])) for w in (row.split() for row in LABELS.split(","))]
TRAIN_IDS = {id_: train_id for _, id_, train_id in TABLE}


def to_train_ids(mask, ignore_index=255):
    """A naive loop over the pixels."""
    labels = [TRAIN_IDS[int(value)] for value in mask.ravel()]
    labels = [ignore_index if label == 255 else label for label in labels]
    return np.array(labels).reshape(mask.shape)


def fill(images, masks, split, kind, frames=FRAMES, labels="labelIds"):
    for number, frame in enumerate(reversed(frames)):
        save(images / split / f"{frame}_leftImg8bit.png", image(number))
        stem = f"{frame}_{kind}"
        save(masks / split / f"{stem}_{labels}.png", ids(number, 34, (8, 10)))
        save(masks / split / f"{stem}_color.png", image(number))
        save(masks / split / f"{stem}_instanceIds.png", ids(number, 34, (8, 10)))
        (masks / split / f"{stem}_polygons.json").write_text("{}")


@pytest.fixture
def official(tmp_path):
    """All archives unpacked into one folder."""
    root = tmp_path / "official"
    images = root / "leftImg8bit"
    for split in ("train", "val"):
        fill(images, root / "gtFine", split, "gtFine")
        fill(images, root / "gtCoarse", split, "gtCoarse")
    fill(images, root / "gtCoarse", "train_extra", "gtCoarse", ["bonn/bonn_000000_000000"])
    fill(images, root / "gtFine", "test", "gtFine", ["berlin/berlin_000000_000019"])
    return root


@pytest.fixture
def doubled(tmp_path):
    """Each archive unpacked into a folder of its name, as pytorch-segmentation wants them."""
    root = tmp_path / "doubled"
    images = root / "leftImg8bit_trainvaltest/leftImg8bit"
    for split in ("train", "val"):
        fill(images, root / "gtFine_trainvaltest/gtFine", split, "gtFine")
        fill(images, root / "gtCoarse/gtCoarse", split, "gtCoarse")
    extra = root / "leftImg8bit_trainextra/leftImg8bit"
    frames = ["troisdorf/troisdorf_000000_000073"]
    fill(extra, root / "gtCoarse/gtCoarse", "train_extra", "gtCoarse", frames)
    return root


@pytest.mark.parametrize("layout", ["official", "doubled"])
@pytest.mark.parametrize(
    ("mode", "split"),
    [*itertools.product(("fine", "coarse"), ("train", "val")), ("coarse", "train_extra")],
)
def test_feature_cityscapes_labels_equal_a_naive_loop(request, layout, mode, split):
    dataset = CityScapes(str(request.getfixturevalue(layout)), split, mode=mode)
    if split != "train_extra":
        assert [sample.name for sample in dataset.samples] == FRAMES
    assert dataset.problems == []
    for index, sample in enumerate(dataset.samples):
        assert sample.label.endswith(f"_gt{mode.capitalize()}_labelIds.png")
        assert np.array_equal(dataset.load_image(index).pixels, Image.open(sample.image))
    assert_labels(dataset, to_train_ids)


def test_feature_cityscapes_every_id(official):
    assert dict(CityScapes.label_map) == {
        id_: -1 if label == 255 else label for id_, label in TRAIN_IDS.items()
    }
    names = [name.replace("_", " ") for name, _, label in TABLE if label != 255]
    assert list(CityScapes.classes) == names
    save(official / f"leftImg8bit/train/{FRAMES[0]}_leftImg8bit.png", image(0, (1, 35)))
    # 255 is what -1, the license plate, becomes in a file of 8 bits.
    mask = np.array([[*range(34), 255]], np.uint8)
    save(official / f"gtFine/train/{FRAMES[0]}_gtFine_labelIds.png", mask)
    expected = to_train_ids(np.array([[*range(34), -1]]))
    assert np.array_equal(label_of(CityScapes(str(official), "train")), expected)


def test_feature_cityscapes_train_ids_where_nothing_else_is(official):
    for path in (official / "gtFine/val").rglob("*_labelIds.png"):
        labels = to_train_ids(read(path)).astype(np.uint8)
        save(path.with_name(path.name.replace("labelIds", "labelTrainIds")), labels)
    by_id = CityScapes(str(official), "val")
    expected = [label_of(by_id, index, -1) for index in range(3)]
    assert by_id.samples[0].label.endswith("labelIds.png")
    for path in (official / "gtFine/val").rglob("*_labelIds.png"):
        path.unlink()
    by_train_id = CityScapes(str(official), "val")
    assert by_train_id.samples[0].label.endswith("labelTrainIds.png")
    for index in range(3):
        assert np.array_equal(label_of(by_train_id, index, -1), expected[index])
    assert by_id.reading_rule() != by_train_id.reading_rule()


def test_feature_cityscapes_test_has_no_labels(official):
    dataset = CityScapes(str(official), "test")
    assert [sample.name for sample in dataset.samples] == ["berlin/berlin_000000_000019"]
    assert dataset.load_image(0).pixels.shape == (8, 10, 3)
    with pytest.raises(DataError, match="has no labels"):
        dataset.load(0)


def test_feature_cityscapes_the_black_image_is_named(doubled, official):
    assert "black image" in CityScapes(str(doubled), "train_extra", mode="coarse").notes[0]
    assert CityScapes(str(official), "train").notes == []


@pytest.mark.parametrize(
    ("split", "mode", "words"),
    [
        ("training", "fine", "no 'training'; did you mean 'train'"),
        ("train_extra", "fine", '\'train_extra\' has no fine labels; set "mode": "coarse"'),
        ("test", "coarse", '\'test\' has no coarse labels; set "mode": "fine"'),
        ("train", "rough", "mode: expected 'fine' or 'coarse', got 'rough'"),
    ],
)
def test_exception_cityscapes_arguments(official, split, mode, words):
    with pytest.raises(ValueError, match=words):
        CityScapes(str(official), split, mode=mode)


def test_exception_cityscapes_files(official):
    with pytest.raises(DataError, match="expected leftImg8bit/train or .*: gtCoarse, gtFine,"):
        CityScapes(str(official / "nothing"), "train")
    label = official / f"gtFine/train/{FRAMES[1]}_gtFine_labelIds.png"
    label.unlink()
    dataset = CityScapes(str(official), "train")
    assert [sample.name for sample in dataset.samples] == [FRAMES[0], FRAMES[2]]
    assert f"gtFine/train: {FRAMES[1]}; add the masks" in dataset.problems[0]
    picture = official / f"leftImg8bit/val/{FRAMES[2]}_leftImg8bit.png"
    picture.unlink()
    assert FRAMES[2] in CityScapes(str(official), "val").notes[0]
    for path in (official / "gtFine/train").rglob("*_labelIds.png"):
        path.unlink()
    with pytest.raises(DataError, match="neither"):
        CityScapes(str(official), "train")
    for path in (official / "leftImg8bit/val").rglob("*.png"):
        path.rename(path.with_name(path.name.replace("leftImg", "rightImg")))
    with pytest.raises(DataError, match=r"no \*_leftImg8bit"):
        CityScapes(str(official), "val")


@pytest.mark.parametrize("mode", ["fine", "coarse"])
def test_feature_cityscapes_runs_the_pytorch_segmentation_config(doubled, mode):
    train, val = pytorch_segmentation_loaders("CityScapes", doubled, ("train", "val"), mode=mode)
    for loader in (train, val):
        batches = list(loader.epoch(1))
        assert len(batches) == len(loader.batches)
        batch = batches[0][0] if isinstance(batches[0], list) else batches[0]
        assert set(batch.labels.unique().tolist()) <= {*range(19), 255}
