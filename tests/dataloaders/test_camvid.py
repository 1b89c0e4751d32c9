"""CamVid on a tree made here, and on real files where there are some."""

import numpy as np
import pytest
from PIL import Image, ImageStat

from dataloaders.camvid import CamVid
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

NAMES = ["0001TP_006690", "0001TP_006720", "Seq05VD_f00000"]


@pytest.fixture
def tree(tmp_path):
    for split in ("train", "val", "test"):
        for number, name in enumerate(reversed(NAMES)):
            save(tmp_path / f"{split}/{name}.png", image(number))
            save(tmp_path / f"{split}annot/{name}.png", ids(number, 12))
    return tmp_path


def expected(mask, ignore_index):
    return np.where(mask == 11, ignore_index, mask)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_feature_camvid_labels_equal_pillow(tree, split):
    dataset = CamVid(str(tree), split)
    assert [sample.name for sample in dataset.samples] == NAMES
    assert_labels(dataset, expected)
    for index, sample in enumerate(dataset.samples):
        assert np.array_equal(dataset.load_image(index).pixels, Image.open(sample.image))
    assert {*np.unique([read(sample.label) for sample in dataset.samples])} == set(range(12))
    assert dataset.problems == dataset.notes == []


def test_feature_camvid_list_with_foreign_paths(tree):
    lines = [f"/SegNet/CamVid/train/{n}.png /SegNet/CamVid/trainannot/{n}.png" for n in NAMES[:2]]
    (tree / "train.txt").write_text("\r\n".join([lines[1], lines[0], lines[1]]) + "\r\n\r\n")
    # The list says .png; the images may be of any kind.
    picture = tree / f"train/{NAMES[0]}.png"
    Image.open(picture).save(picture.with_suffix(".JPG"))
    picture.unlink()
    dataset = CamVid(str(tree), "train")
    assert [sample.name for sample in dataset.samples] == NAMES[:2]
    assert dataset.samples[0].image.endswith(".JPG")
    assert dataset.problems == []
    assert "leaves out 1 of 3 images: Seq05VD_f00000" in dataset.notes[0]
    (tree / "train.txt").write_text("\n".join([*lines, "/x/y.png /z/y.png"]))
    dataset = CamVid(str(tree), "train")
    assert len(dataset) == 2
    assert "1 of the 3 images that it names are missing: y" in dataset.problems[0]
    (tree / "train.txt").write_text("/x/y.png /z/y.png")
    with pytest.raises(DataError, match="1 of the 1 images"):
        CamVid(str(tree), "train")


def test_exception_camvid(tree):
    with pytest.raises(ValueError, match="no 'training'; did you mean 'train'"):
        CamVid(str(tree), "training")
    with pytest.raises(DataError, match=r"no such folder .*: test, testannot, train, "):
        CamVid(str(tree / "CamVid"), "train")
    save(tree / f"trainannot/{NAMES[0]}.png", np.full((8, 10), 12, np.uint8))
    with pytest.raises(DataError, match="80 pixels have label 12"):
        label_of(CamVid(str(tree), "train"))
    (tree / f"trainannot/{NAMES[0]}.png").unlink()
    dataset = CamVid(str(tree), "train")
    assert [sample.name for sample in dataset.samples] == NAMES[1:]
    assert f"1 of 3 images in {tree / 'train'} have no mask" in dataset.problems[0]


def test_feature_camvid_constants():
    assert len(CamVid.classes) == len(set(CamVid.palette)) == 11
    # Scripts/test_segmentation_camvid.py of github.com/alexgkendall/SegNet-Tutorial.
    colours = dict(zip(CamVid.classes, CamVid.palette, strict=True))
    assert colours["road"] == (128, 64, 128)
    assert colours["pavement"] == (60, 40, 222)
    assert colours["bicyclist"] == (0, 128, 192)


def test_feature_camvid_in_the_pytorch_segmentation_config(tree):
    train, val = pytorch_segmentation_loaders("CamVid", tree, ("train", "val"))
    assert (len(train.source), len(val.source)) == (3, 3)
    assert len(list(train.epoch(1))) == 1


def test_feature_real_camvid_labels_equal_pillow(real_data):
    for split, count in (("train", 367), ("val", 101)):
        dataset = CamVid(str(real_data / "camvid"), split)
        assert len(dataset) == count
        dataset.samples = dataset.samples[::25]
        assert_labels(dataset, expected)
        for index in range(len(dataset.samples)):
            assert_image_equals_pillow(dataset, index)


def test_feature_real_camvid_mean_and_std(real_data):
    """Pillow's sums over all pixels of all training images."""
    dataset = CamVid(str(real_data / "camvid"), "train")
    total = np.zeros((3, 3))  # count, sum, sum of squares
    for sample in dataset.samples:
        statistics = ImageStat.Stat(Image.open(sample.image))
        total += (statistics.count, statistics.sum, statistics.sum2)
    mean, square = total[1] / total[0] / 255, total[2] / total[0] / 255**2
    # The mean and std are those of the PNGs; these are JPEGs made of them.
    assert np.allclose(mean, dataset.mean, rtol=0, atol=1e-3)
    assert np.allclose(np.sqrt(square - mean**2), dataset.std, rtol=0, atol=1e-3)
