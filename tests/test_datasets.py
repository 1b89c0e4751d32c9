"""Folder and VOC on trees made here, and on real files where there are some."""

import numpy as np
import pytest
from PIL import Image

from base.base_dataset import BaseDataSet, BaseDataset, DataError, Samples
from dataloaders import VOC, Folder
from utils.transforms import Augmentation


def save(path, array, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array, "P" if palette else None)
    if palette:
        picture.putpalette(palette)
    picture.save(path)


def image(seed=0, size=(8, 10)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def mask(seed=0, size=(8, 10), classes=3):
    return np.random.default_rng(seed).integers(0, classes, size, dtype=np.uint8)


@pytest.fixture
def tree(tmp_path):
    """Two pictures, dotted and upper-case names, one sub-folder."""
    save(tmp_path / "images/train/im.0.JPG", image(0))
    save(tmp_path / "images/train/city/b.png", image(1))
    save(tmp_path / "masks/train/im.0.png", mask(0))
    save(tmp_path / "masks/train/city/b.png", mask(1))
    (tmp_path / "images/train/Thumbs.db").write_bytes(b"x")
    return tmp_path


def label_of(dataset, index=0, ignore_index=255):
    samples = Samples(dataset, Augmentation(), seed=0, ignore_index=ignore_index)
    return samples.sample(0, index).label


def test_smoke_both_names_of_the_base():
    assert BaseDataSet is BaseDataset


def test_feature_folder_pairs_by_whole_stem(tree):
    for dataset in (
        Folder(classes=3, data_dir=str(tree), split="train"),
        Folder(classes=3, images=str(tree / "images"), masks=str(tree / "masks")),
        Folder(classes=3, data_dir=str(tree), images="images/train", masks="masks/train"),
    ):
        assert [s.name.removeprefix("train/") for s in dataset.samples] == ["city/b", "im.0"]
        picture, ids = dataset.load(0)
        assert np.array_equal(picture, image(1))
        assert np.array_equal(ids, mask(1))
        assert len(dataset.palette) == len(dataset.classes) == 3


def test_feature_folder_list_files(tree):
    (tree / "images.txt").write_text("images/train/im.0.JPG\r\n\nimages/train/city/b.png\n")
    (tree / "masks.txt").write_text("masks/train/city/b.png\nmasks/train/im.0.png\n")
    dataset = Folder(classes=3, data_dir=str(tree), images="images.txt", masks="masks.txt")
    assert [s.name for s in dataset.samples] == ["city/b", "im.0"]
    assert np.array_equal(dataset.load(1)[1], mask(0))


def test_feature_folder_mask_suffix(tmp_path):
    save(tmp_path / "images/1.png", image())
    save(tmp_path / "masks/1_gt.png", mask())
    with pytest.raises(DataError, match='set "mask_suffix": "_gt"'):
        Folder(classes=3, data_dir=str(tmp_path))
    assert len(Folder(classes=3, data_dir=str(tmp_path), mask_suffix="_gt")) == 1


def test_feature_folder_ids_and_colours(tmp_path):
    save(tmp_path / "images/1.png", image())
    ids = mask(classes=3) * 100
    save(tmp_path / "masks/1.png", ids)
    names = {"classes": ["a", "b"], "data_dir": str(tmp_path)}
    by_id = Folder(**names, label_map={"0": 1, "100": 0, "200": -1})
    expected = np.choose(ids // 100, [1, 0, 255])
    assert np.array_equal(label_of(by_id), expected)
    assert np.array_equal(label_of(by_id, ignore_index=-1), np.choose(ids // 100, [1, 0, -1]))

    colours = np.array([[9, 8, 7], [0, 0, 0], [255, 0, 0]], np.uint8)
    save(tmp_path / "masks/1.png", colours[ids // 100])
    by_colour = Folder(**names, label_map={"9,8,7": 1, "(0, 0, 0)": 0, "255,0,0": -1})
    assert np.array_equal(label_of(by_colour), expected)
    by_palette = Folder(
        classes=3, data_dir=str(tmp_path), palette=[(9, 8, 7), (0, 0, 0), (255, 0, 0)]
    )
    assert np.array_equal(label_of(by_palette), ids // 100)
    with pytest.raises(DataError, match="holds colours where class ids were expected"):
        label_of(Folder(**names))


def test_feature_folder_palette_png_holds_ids(tmp_path):
    save(tmp_path / "images/1.png", image())
    save(tmp_path / "masks/1.png", mask(), palette=[200, 100, 50, 0, 0, 0, 7, 7, 7] + [0] * 759)
    assert np.array_equal(label_of(Folder(classes=3, data_dir=str(tmp_path))), mask())


def test_feature_folder_ignored_id(tmp_path):
    save(tmp_path / "images/1.png", image())
    save(tmp_path / "masks/1.png", mask(classes=4))
    dataset = Folder(classes=3, data_dir=str(tmp_path), ignore_index=3)
    assert np.array_equal(label_of(dataset), np.where(mask(classes=4) == 3, 255, mask(classes=4)))
    dataset = Folder(classes=2, data_dir=str(tmp_path), ignore_index=[2, 3])
    assert set(np.unique(label_of(dataset))) == {0, 1, 255}
    with pytest.raises(DataError, match=r"1\.png: .* pixels have label 3"):
        label_of(Folder(classes=3, data_dir=str(tmp_path)))


def test_exception_folder_files(tree):
    root = tree / "images/train"
    with pytest.raises(DataError, match=r"no such folder or list file \(.*holds: images, masks\)"):
        Folder(classes=3, data_dir=str(tree), images="pictures", masks="masks")
    (tree / "masks/train/city/b.png").rename(tree / "masks/train/city/c.png")
    with pytest.raises(DataError, match="1 of 2 pictures .* have no mask .*: city/b"):
        Folder(classes=3, data_dir=str(tree), split="train")
    (tree / "masks/train/city/c.png").rename(tree / "masks/train/city/b.png")
    save(root / "im.0.png", image())
    with pytest.raises(DataError, match="have the same stem"):
        Folder(classes=3, data_dir=str(tree), split="train")
    (root / "im.0.png").unlink()
    save(root / "im.0.JPG", image(size=(8, 12)))
    with pytest.raises(DataError, match=r"im\.0\.png: is 10x8 and its picture .* is 12x8"):
        Folder(classes=3, data_dir=str(tree), split="train").load(1)
    data = (root / "im.0.JPG").read_bytes()
    (root / "im.0.JPG").write_bytes(data[:-40])
    with pytest.raises(DataError, match=r"im\.0\.JPG: is cut off"):
        Folder(classes=3, data_dir=str(tree), split="train").load(1)
    (tree / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        Folder(classes=3, data_dir=str(tree), images="empty", masks="masks")


def test_feature_folder_spare_mask_warns(tree, caplog):
    save(tree / "masks/train/z.png", mask())
    Folder(classes=3, data_dir=str(tree), split="train")
    assert "1 of 3 masks" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": []}, "the list is empty"),
        ({"classes": ["a", "a"]}, "'a' stands twice"),
        ({"classes": 3, "palette": [(0, 0, 0)]}, "1 colours for 3 classes"),
        ({"classes": 3, "label_map": {"1": 3}}, "3 is not a class"),
        ({"classes": 3, "label_map": {"1,2": 0}}, "expected an id"),
        ({"classes": 3, "label_map": {"1,2,999": 0}}, "expected an id"),
        ({"classes": 3, "mean": [0.5]}, "expected 3 numbers"),
        ({"classes": 3, "images": "x"}, "masks: required beside images"),
        ({"classes": 3, "images": "x", "masks": "y", "split": "z"}, "split: goes with data_dir"),
    ],
)
def test_exception_folder_arguments(tree, arguments, words):
    with pytest.raises(ValueError, match=words):
        Folder(data_dir=str(tree), **arguments)
    with pytest.raises(ValueError, match="name two folders"):
        Folder(classes=3)


def test_smoke_folder_mean_and_std(tree):
    dataset = Folder(
        classes=3, data_dir=str(tree), split="train", mean=[0.1, 0.2, 0.3], std=[1.0, 1.0, 1.0]
    )
    assert dataset.mean == [0.1, 0.2, 0.3]
    samples = Samples(dataset, Augmentation(), seed=0, ignore_index=255)
    assert samples.fill == (26, 51, 76)


# --- VOC


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOCdevkit/VOC2012"
    for i, name in enumerate(("2007_000001", "2007_000002")):
        save(root / f"JPEGImages/{name}.jpg", image(i))
        for folder, classes in (("SegmentationClass", 3), ("SegmentationClassAug", 5)):
            ids = mask(i, classes=classes)
            ids[0, 0] = 255
            save(root / folder / f"{name}.png", ids)
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for split in ("train", "val", "trainval", "test"):
        (lists / f"{split}.txt").write_text("2007_000001\r\n2007_000002\n\n")
        pairs = "".join(
            f"/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png\n"
            for n in ("2007_000001", "2007_000002")
        )
        (lists / f"{split}_aug.txt").write_text(pairs)
    return tmp_path


@pytest.mark.parametrize("split", ["train", "val", "trainval", "test"])
def test_feature_voc_all_splits(voc, split):
    plain, more = VOC(str(voc), split), VOC(str(voc), f"{split}_aug")
    assert [s.name for s in plain.samples] == [s.name for s in more.samples]
    assert plain.load(1)[1].max() == more.load(1)[1].max() == 255
    assert "SegmentationClass/" in plain.samples[0].label
    assert "SegmentationClassAug/" in more.samples[0].label


def test_feature_voc_other_list_format_and_root(voc):
    root = voc / "VOCdevkit/VOC2012"
    (root / "ImageSets/Segmentation/train_aug.txt").write_text("2007_000002\n")
    for folder in (voc, voc / "VOCdevkit", root):
        dataset = VOC(str(folder), "train_aug")
        assert dataset.samples[0].label == str(root / "SegmentationClassAug/2007_000002.png")


def test_exception_voc(voc):
    root = voc / "VOCdevkit/VOC2012"
    with pytest.raises(DataError, match="expected VOCdevkit/VOC2012"):
        VOC(str(voc / "nothing"), "train")
    (root / "SegmentationClassAug/2007_000002.png").unlink()
    with pytest.raises(DataError, match="1 of the files that it names do not exist"):
        VOC(str(voc), "val_aug")
    (root / "ImageSets/Segmentation/val_aug.txt").unlink()
    with pytest.raises(DataError, match="separate download.*there are: test, "):
        VOC(str(voc), "val_aug")
    (root / "SegmentationClass/2007_000001.png").unlink()
    with pytest.raises(DataError, match="has no labels"):
        VOC(str(voc), "test").load(0)


def test_feature_voc_constants():
    assert len(VOC.classes) == len(VOC.palette) == 21
    assert tuple(VOC.palette[15]) == (192, 128, 128)  # person, as in the devkit


# --- real files


def test_feature_real_voc_equals_pillow(real_data):
    for split in ("train", "val", "trainval", "train_aug", "val_aug", "trainval_aug"):
        dataset = VOC(str(real_data / "voc2012_layout"), split)
        for index, sample in enumerate(dataset.samples):
            picture, ids = dataset.load(index)
            expected = np.asarray(Image.open(sample.label))
            assert np.array_equal(ids, expected)
            theirs = np.asarray(Image.open(sample.image).convert("RGB")).astype(int)
            assert np.abs(picture - theirs).mean() < 0.5
            label = label_of(dataset, index, ignore_index=-1)
            assert np.array_equal(label, np.where(expected == 255, -1, expected.astype(int)))


def test_feature_real_camvid_equals_pillow(real_data):
    dataset = Folder(
        classes=11,
        data_dir=str(real_data / "camvid"),
        images="val",
        masks="valannot",
        ignore_index=11,
    )
    assert len(dataset) == 101
    for index in range(0, 101, 10):
        expected = np.asarray(Image.open(dataset.samples[index].label))
        label = label_of(dataset, index)
        assert np.array_equal(label, np.where(expected == 11, 255, expected))
