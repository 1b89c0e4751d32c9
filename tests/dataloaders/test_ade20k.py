"""ADE20K on a tree made here, and on real files where there are some."""

import numpy as np
import pytest

from dataloaders.ade20k import ADE20K
from tests.dataset_trees import (
    assert_image_equals_pillow,
    assert_labels,
    ids,
    image,
    label_of,
    pytorch_segmentation_loaders,
    save,
)
from utils.files.data_file import DataError


@pytest.fixture
def tree(tmp_path):
    """Two images a split, the second of training in grey."""
    root = tmp_path / "ADEChallengeData2016"
    for split, stem in (("training", "ADE_train_0000000"), ("validation", "ADE_val_0000000")):
        for number in (2, 1):
            picture = image(number) if split == "validation" or number == 1 else image(2)[..., 0]
            save(root / f"images/{split}/{stem}{number}.jpg", picture)
            mask = ids(number, 151)
            mask[3:5] = 0
            save(root / f"annotations/{split}/{stem}{number}.png", mask)
    save(root / "images/testing/ADE_test_00000001.jpg", image(5))
    return root


def expected(mask, ignore_index):
    return np.where(mask == 0, ignore_index, mask - 1)


def test_feature_ade20k_labels_equal_pillow(tree):
    # Every value that a mask may hold.
    save(tree / "annotations/training/ADE_train_00000001.png", np.arange(151, dtype="u1")[None])
    save(tree / "images/training/ADE_train_00000001.jpg", image(0, (1, 151)))
    dataset = ADE20K(str(tree), "training")
    assert_labels(dataset, expected)
    for index in range(2):
        assert_image_equals_pillow(dataset, index)
    assert [s.name for s in dataset.samples] == ["ADE_train_00000001", "ADE_train_00000002"]


def test_feature_ade20k_root_or_its_parent(tree):
    for folder in (tree, tree.parent):
        assert [s.label for s in ADE20K(str(folder), "validation").samples] == [
            str(tree / f"annotations/validation/ADE_val_0000000{n}.png") for n in (1, 2)
        ]


def test_feature_ade20k_testing_has_no_labels(tree):
    dataset = ADE20K(str(tree), "testing")
    assert dataset.load_image(0).pixels.shape == (8, 10, 3)
    with pytest.raises(DataError, match="has no labels"):
        dataset.load(0)


def test_feature_ade20k_constants():
    assert len(ADE20K.classes) == len(set(ADE20K.classes)) == len(ADE20K.palette) == 150
    # objectInfo150.txt and color150.mat of github.com/CSAILVision/sceneparsing.
    colours = dict(zip(ADE20K.classes, ADE20K.palette, strict=True))
    assert (colours["wall"], colours["sky"]) == ((120, 120, 120), (6, 230, 230))
    assert (colours["building"], colours["flag"]) == ((180, 120, 120), (92, 0, 255))
    assert ADE20K.classes[:3] == ("wall", "building", "sky")


def test_exception_ade20k(tree):
    with pytest.raises(ValueError, match="no 'train'; did you mean 'training'"):
        ADE20K(str(tree), "train")
    with pytest.raises(DataError, match=r"expected images and annotations .*: ADEChall"):
        ADE20K(str(tree.parent / "nothing"), "training")
    label = tree / "annotations/training/ADE_train_00000002.png"
    save(label, np.full((8, 10), 255, np.uint8))
    with pytest.raises(DataError, match="80 pixels have label 255"):
        label_of(ADE20K(str(tree), "training"), 1)
    label.unlink()
    dataset = ADE20K(str(tree), "training")
    assert len(dataset) == 1
    assert "1 of 2 images" in dataset.problems[0]
    assert "ADE_train_00000002" in dataset.problems[0]
    (tree / "images/training/ADE_train_00000001.jpg").unlink()
    with pytest.raises(DataError, match="1 of 1 images"):
        ADE20K(str(tree), "training")


def test_feature_ade20k_runs_the_pytorch_segmentation_config(tree):
    loaders = pytorch_segmentation_loaders("ADE20K", tree, ("training", "validation"), -1)
    for loader in loaders:
        (batch,) = loader.epoch(1)
        batch = batch[0] if isinstance(batch, list) else batch
        assert batch.labels.min() == -1
        assert 100 < batch.labels.max() < 150


def test_feature_real_ade20k_equals_pillow(real_data):
    for split in ("training", "validation"):
        dataset = ADE20K(str(real_data / "ade20k_layout"), split)
        assert len(dataset) == 3
        assert_labels(dataset, expected)
        for index in range(3):
            assert_image_equals_pillow(dataset, index)


def test_feature_real_ade20k_names_equal_its_own_list(real_data):
    """objectInfo150.txt: index, ratio, train, val, name and its synonyms."""
    path = real_data / "ade20k_layout/ADEChallengeData2016/objectInfo150.txt"
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    names = [row[-1].split(", ")[0].strip() for row in rows]
    assert list(ADE20K.classes) == names
