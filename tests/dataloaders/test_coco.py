"""COCO-Stuff 164k and 10k."""

import sys
import zlib

import numpy as np
import pytest
import scipy.io

from dataloaders import COCO
from tests.coco_trees import label_names, save_mat
from tests.dataset_trees import (
    assert_image_equals_pillow,
    assert_labels,
    ids,
    image,
    label_of,
    pytorch_segmentation_loaders,
    read,
    save,
)
from utils.files.data_file import DataError

# Values of the PNGs that never occur, from the names in labels.txt of COCO-Stuff.
ABSENT = [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90]
EVERY_VALUE = [*range(182), 255]


@pytest.fixture
def large(tmp_path):
    """164k: two images a split, every value in the masks."""
    for split in ("train2017", "val2017"):
        for i, name in enumerate(("000000000009", "000000000025")):
            save(tmp_path / f"images/{split}/{name}.jpg", image(i, (30, 40)))
            save(tmp_path / f"annotations/{split}/{name}.png", ids(i, EVERY_VALUE, (30, 40)))
    return tmp_path


@pytest.fixture
def small(tmp_path):
    """10k: two images."""
    names = [f"COCO_train2014_{i:012d}" for i in (9, 25)]
    for i, name in enumerate(names):
        save(tmp_path / f"images/{name}.jpg", image(i, (30, 40)))
        stored = ids(i, range(183), (30, 40))
        save_mat(tmp_path / f"annotations/{name}.mat", S=stored, names=label_names(183))
    (tmp_path / "imageLists").mkdir()
    for split, listed in (("train", names[:1]), ("test", names[1:]), ("all", names)):
        (tmp_path / f"imageLists/{split}.txt").write_text("\r\n".join(listed) + "\n")
    return tmp_path


def expected(values: np.ndarray, num_classes: int, ignored: int) -> np.ndarray:
    """The labels of the values of 164k, one value after the other."""
    present = [v for v in range(182) if num_classes == 182 or v not in ABSENT]
    labels = np.full(values.shape, -1000)
    for value in EVERY_VALUE:
        labels[values == value] = present.index(value) if value in present else ignored
    return labels


def stored_in(path: str) -> np.ndarray:
    """SciPy's reading of a mask of 10k, as the values that 164k has for the same labels."""
    values = scipy.io.loadmat(path)["S"].astype(int)
    return np.where(values == 0, 255, values - 1)


@pytest.mark.parametrize("num_classes", [182, 171])
def test_feature_coco_equals_a_naive_reading(large, num_classes):
    for split in ("train2017", "val2017"):
        dataset = COCO(str(large), split, num_classes=num_classes)
        assert [s.name for s in dataset.samples] == ["000000000009", "000000000025"]
        assert_labels(dataset, lambda mask, ignored: expected(mask, num_classes, ignored))


@pytest.mark.parametrize("num_classes", [182, 171])
@pytest.mark.parametrize("ignored", [255, -1])
def test_feature_coco_10k_equals_scipy(small, num_classes, ignored):
    for split, count in (("train", 1), ("test", 1), ("all", 2)):
        dataset = COCO(str(small), split, partition="CocoStuff10k", num_classes=num_classes)
        assert len(dataset) == count
        for index, sample in enumerate(dataset.samples):
            label = label_of(dataset, index, ignored)
            assert label.shape == (30, 40)
            assert np.array_equal(label, expected(stored_in(sample.label), num_classes, ignored))


def test_cardinality_coco_classes(large):
    # Names at a few ids, from labels.txt (id less one), and of the mapping of MMSegmentation.
    assert len(COCO.classes) == len(set(COCO.classes)) == len(COCO.palette) == 182
    assert len(set(COCO.palette)) == 182
    named = {0: "person", 11: "street sign", 90: "hair brush", 91: "banner", 181: "wood"}
    assert {i: COCO.classes[i] for i in named} == named
    fewer = COCO(str(large), "val2017", num_classes=171)
    named = {0: "person", 11: "stop sign", 79: "toothbrush", 80: "banner", 170: "wood"}
    assert {i: fewer.classes[i] for i in named} == named
    assert len(fewer.classes) == len(fewer.palette) == 171
    # CRC-32 of the lines of these two lists: no two names have changed places.
    for classes, checksum in ((COCO.classes, 0x85250C08), (fewer.classes, 0xB395964B)):
        assert zlib.crc32("\n".join(classes).encode()) == checksum
    all_pairs = set(zip(COCO.classes, COCO.palette, strict=True))
    assert all_pairs >= set(zip(fewer.classes, fewer.palette, strict=True))


def test_exception_coco_splits_and_folders(large):
    with pytest.raises(ValueError, match="CocoStuff164k has no 'train'.*CocoStuff10k: train, test"):
        COCO(str(large), "train")
    with pytest.raises(ValueError, match="CocoStuff10k has no 'val2017'"):
        COCO(str(large), "val2017", partition="CocoStuff10k")
    with pytest.raises(DataError, match=r"no such folder.*: annotations, images"):
        COCO(str(large / "data"), "val2017")
    with pytest.raises(DataError, match=r"all\.txt: no such list.*: annotations, images"):
        COCO(str(large), "all", partition="CocoStuff10k")


def test_feature_coco_missing_files_are_problems(large):
    (large / "annotations/val2017/000000000025.png").unlink()
    dataset = COCO(str(large), "val2017")
    assert len(dataset) == 1
    assert "1 of 2 images" in dataset.problems[0] and "000000000025" in dataset.problems[0]


def test_feature_coco_10k_missing_files_are_problems(small):
    (small / "annotations/COCO_train2014_000000000009.mat").unlink()
    dataset = COCO(str(small), "all", partition="CocoStuff10k")
    assert [s.name for s in dataset.samples] == ["COCO_train2014_000000000025"]
    assert "all.txt: 1 of the files that it names do not exist" in dataset.problems[0]
    (small / "imageLists/all.txt").write_text("../../outside\n")
    with pytest.raises(DataError, match="lies outside the dataset's folder"):
        COCO(str(small), "all", partition="CocoStuff10k")


def test_exception_coco_unknown_value(large):
    save(large / "annotations/val2017/000000000009.png", np.full((30, 40), 200, np.uint8))
    with pytest.raises(DataError, match=r"000000000009\.png: 1200 pixels have label 200"):
        label_of(COCO(str(large), "val2017"))


def test_exception_coco_10k_files(small):
    file = small / "annotations/COCO_train2014_000000000009.mat"
    dataset = COCO(str(small), "train", partition="CocoStuff10k")
    whole = file.read_bytes()
    for broken in (whole[:1200], whole[:200], b"x" * 500):
        file.write_bytes(broken)
        with pytest.raises(DataError, match=r"000000000009\.mat: is not a MATLAB file"):
            dataset.load(0)
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"000000000009\.mat: is empty"):
        dataset.load(0)
    ids_of = {size: np.zeros(size, np.uint8) for size in ((30, 40), (40, 30))}
    for arrays, message in (
        ({"T": np.zeros((30, 40))}, "no S, but T"),
        ({"S": np.full((30, 40), np.nan)}, r"S is not an \(H, W\) array"),
        ({"S": ids_of[30, 40], "names": label_names(172)}, "names 172 labels; expected 183"),
        ({"S": ids_of[40, 30]}, r"\.mat: is 30x40 and its image .* is 40x30"),
    ):
        save_mat(file, **arrays)
        with pytest.raises(DataError, match=message):
            dataset.load(0)


def test_exception_coco_10k_without_scipy(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ValueError, match="pip install scipy"):
        COCO(str(small), "all", partition="CocoStuff10k")


@pytest.mark.parametrize(
    ("tree", "splits", "args", "count"),
    [
        ("large", ("train2017", "val2017"), {}, 2),
        ("small", ("all", "test"), {"partition": "CocoStuff10k"}, 1),
    ],
)
def test_feature_coco_pytorch_segmentation_config_builds(request, tree, splits, args, count):
    folder = request.getfixturevalue(tree)
    train, val = pytorch_segmentation_loaders("COCO", folder, splits, **args)
    (batch,) = list(train.epoch(1))
    assert tuple(batch.labels.shape) == (2, 380, 380)
    assert val.num_samples == count
    assert len(train.source.classes) == 182


# --- real files


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [182, 171])
def test_feature_real_coco_equals_pillow_and_scipy(real_data, num_classes):
    for partition, folder, splits in (
        ("CocoStuff164k", "cocostuff164k_layout", {"train2017": 13, "val2017": 8}),
        ("CocoStuff10k", "cocostuff10k_layout", {"train": 13, "test": 8, "all": 21}),
    ):
        for split, count in splits.items():
            args = {"partition": partition, "num_classes": num_classes}
            dataset = COCO(str(real_data / folder), split, **args)
            assert (len(dataset), dataset.problems, dataset.notes) == (count, [], [])
            for index, sample in enumerate(dataset.samples):
                reader = stored_in if partition == "CocoStuff10k" else read
                rule = expected(reader(sample.label), num_classes, -1)
                assert np.array_equal(label_of(dataset, index, -1), rule)
            assert_image_equals_pillow(dataset, 0)


def test_feature_real_coco_releases_agree(real_data):
    """The same images stand in both samples, labelled alike."""
    large = COCO(str(real_data / "cocostuff164k_layout"), "val2017")
    small = COCO(str(real_data / "cocostuff10k_layout"), "test", partition="CocoStuff10k")
    for index, sample in enumerate(large.samples):
        assert small.samples[index].name.endswith(sample.name)
        assert np.array_equal(label_of(large, index), label_of(small, index))


def test_feature_real_coco_names_equal_those_in_the_files(real_data):
    (file, *_) = sorted((real_data / "cocostuff10k_layout/annotations").glob("*.mat"))
    names = [str(name[0][0]) for name in scipy.io.loadmat(file)["names"]]
    assert names == ["unlabeled", *COCO.classes]
