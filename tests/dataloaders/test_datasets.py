"""Folder on trees made here, and on real files where there are some."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from base.base_dataloader import BaseDataLoader, LoaderOptions
from base.base_dataset import BaseDataSet, BaseDataset
from base.samples import Samples
from dataloaders.folder import Folder
from tests.dataset_trees import ids, image, label_of, save
from utils.files.data_file import DataError
from utils.transforms.augmentation import Augmentation


def three(root, **args):
    return Folder(classes=3, data_dir=str(root), **args)


def batches(dataset, held_out=False, **options):
    options = LoaderOptions(batch_size=1, num_workers=0, **options)
    return BaseDataLoader(
        dataset, Augmentation(), options, seed=0, ignore_index=255, held_out=held_out
    )


@pytest.fixture
def tree(tmp_path):
    """Two images, dotted and upper-case names, one sub-folder."""
    save(tmp_path / "images/train/im.0.JPG", image(0))
    save(tmp_path / "images/train/city/b.png", image(1))
    save(tmp_path / "masks/train/im.0.png", ids(0, 3))
    save(tmp_path / "masks/train/city/b.png", ids(1, 3))
    (tmp_path / "images/train/Thumbs.db").write_bytes(b"x")
    return tmp_path


def test_smoke_both_names_of_the_base():
    assert BaseDataSet is BaseDataset


def test_feature_folder_pairs_by_whole_stem(tree):
    for dataset in (
        three(tree, split="train"),
        Folder(classes=3, images=str(tree / "images"), masks=str(tree / "masks")),
        three(tree, images="images/train", masks="masks/train"),
    ):
        assert [s.name.removeprefix("train/") for s in dataset.samples] == ["city/b", "im.0"]
        picture, mask, _ = dataset.load(0)
        assert np.array_equal(picture, image(1))
        assert np.array_equal(mask, ids(1, 3))
        assert len(dataset.palette) == len(dataset.classes) == 3


def test_feature_folder_list_files(tree):
    (tree / "images.txt").write_text("images/train/im.0.JPG\r\n\nimages/train/city/b.png\n")
    (tree / "masks.txt").write_text("masks/train/city/b.png\nmasks/train/im.0.png\n")
    dataset = three(tree, images="images.txt", masks="masks.txt")
    assert [s.name for s in dataset.samples] == ["city/b", "im.0"]
    assert np.array_equal(dataset.load(1)[1], ids(0, 3))


def test_feature_folder_mask_suffix(tmp_path):
    save(tmp_path / "images/1.png", image())
    save(tmp_path / "masks/1_gt.png", ids(0, 3))
    with pytest.raises(DataError, match='set "mask_suffix": "_gt"'):
        three(tmp_path)
    assert len(three(tmp_path, mask_suffix="_gt")) == 1


def test_feature_folder_ids_and_colours(tmp_path):
    save(tmp_path / "images/1.png", image())
    stored = ids(0, 3) * 100
    save(tmp_path / "masks/1.png", stored)
    names = {"classes": ["a", "b"], "data_dir": str(tmp_path)}
    by_id = Folder(**names, label_map={"0": 1, "100": 0, "200": -1})
    expected = np.choose(stored // 100, [1, 0, 255])
    assert np.array_equal(label_of(by_id), expected)
    assert np.array_equal(label_of(by_id, ignore_index=-1), np.choose(stored // 100, [1, 0, -1]))

    colours = np.array([[9, 8, 7], [0, 0, 0], [255, 0, 0]], np.uint8)
    save(tmp_path / "masks/1.png", colours[stored // 100])
    by_colour = Folder(**names, label_map={"9,8,7": 1, "(0, 0, 0)": 0, "255,0,0": -1})
    assert np.array_equal(label_of(by_colour), expected)
    by_palette = three(tmp_path, palette=[tuple(colour) for colour in colours.tolist()])
    assert np.array_equal(label_of(by_palette), stored // 100)
    with pytest.raises(DataError, match="has colours where class ids"):
        label_of(Folder(**names))


def test_feature_folder_palette_png_holds_ids(tmp_path):
    save(tmp_path / "images/1.png", image())
    save(tmp_path / "masks/1.png", ids(0, 3), palette=[200, 100, 50, 0, 0, 0, 7, 7, 7] + [0] * 759)
    assert np.array_equal(label_of(three(tmp_path)), ids(0, 3))


def test_feature_folder_ignored_id(tmp_path):
    save(tmp_path / "images/1.png", image())
    save(tmp_path / "masks/1.png", ids(0, 4))
    dataset = three(tmp_path, ignore_index=3)
    assert np.array_equal(label_of(dataset), np.where(ids(0, 4) == 3, 255, ids(0, 4)))
    dataset = Folder(classes=2, data_dir=str(tmp_path), ignore_index=[2, 3])
    assert set(np.unique(label_of(dataset))) == {0, 1, 255}
    with pytest.raises(DataError, match=r"1\.png: .* pixels have label 3"):
        label_of(three(tmp_path))


def test_exception_folder_files(tree):
    root = tree / "images/train"
    with pytest.raises(DataError, match=r"no such folder or list file \(.*: images, masks\)"):
        three(tree, images="pictures", masks="masks")
    (tree / "masks/train/city/b.png").rename(tree / "masks/train/city/c.png")
    dataset = three(tree, split="train")
    assert [sample.name for sample in dataset.samples] == ["im.0"]
    with pytest.raises(DataError, match="1 of 2 images .* have no mask .*: city/b"):
        batches(dataset)
    (tree / "masks/train/city/c.png").rename(tree / "masks/train/city/b.png")
    save(root / "im.0.png", image())
    with pytest.raises(DataError, match="have the same stem"):
        three(tree, split="train")
    (root / "im.0.png").unlink()
    save(root / "im.0.JPG", image(size=(8, 12)))
    with pytest.raises(DataError, match=r"im\.0\.png: is 10x8 and its image .* is 12x8"):
        three(tree, split="train").load(1)
    data = (root / "im.0.JPG").read_bytes()
    (root / "im.0.JPG").write_bytes(data[:-40])
    with pytest.raises(DataError, match=r"im\.0\.JPG: is cut off"):
        three(tree, split="train").load(1)
    (tree / "empty").mkdir()
    with pytest.raises(DataError, match="no image"):
        three(tree, images="empty", masks="masks")


def test_feature_folder_spare_mask_warns(tree, caplog):
    save(tree / "masks/train/z.png", ids(0, 3))
    batches(three(tree, split="train"))
    assert "1 of 3 masks" in caplog.text
    caplog.clear()
    batches(three(tree, split="train"), held_out=True, val_split=0.5)
    assert caplog.text == ""  # said by the loader of the rest


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": []}, "the list is empty"),
        ({"classes": ["a", "a"]}, "classes: duplicate class 'a'"),
        ({"classes": 3, "palette": [(0, 0, 0)]}, "1 colours for 3 classes"),
        ({"classes": 3, "label_map": {"1": 3}}, "3 is not a class"),
        ({"classes": 3, "label_map": {"1,2": 0}}, "expected an id"),
        ({"classes": 3, "label_map": {"1,2,999": 0}}, "expected an id"),
        ({"classes": 3, "mean": [0.5]}, "mean: 1 numbers .* 3 channels"),
        ({"classes": 3, "images": "x"}, "masks: required"),
        ({"classes": 3, "images": "x", "masks": "y", "split": "z"}, "split: .*data_dir"),
    ],
)
def test_exception_folder_arguments(tree, arguments, words):
    with pytest.raises(ValueError, match=words):
        Folder(data_dir=str(tree), **arguments)
    with pytest.raises(ValueError, match="name two folders"):
        Folder(classes=3)


def test_smoke_folder_mean_and_std(tree):
    dataset = three(tree, split="train", mean=[0.1, 0.2, 0.3], std=[1.0, 1.0, 1.0])
    assert dataset.mean == [0.1, 0.2, 0.3]
    samples = Samples(dataset, Augmentation(), seed=0, ignore_index=255)
    assert samples.fill_8_bit == (26, 51, 76)


# --- real files


def test_feature_real_camvid_equals_pillow(real_data):
    folders = {"data_dir": str(real_data / "camvid"), "images": "val", "masks": "valannot"}
    dataset = Folder(classes=11, **folders, ignore_index=11)
    assert len(dataset) == 101
    for index in range(0, 101, 10):
        expected = np.asarray(Image.open(dataset.samples[index].label))
        label = label_of(dataset, index)
        assert np.array_equal(label, np.where(expected == 11, 255, expected))


def write_list(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path.name


def pairs(dataset, root):
    return [
        (str(Path(s.image).relative_to(root)), str(Path(s.label).relative_to(root)))
        for s in dataset.samples
    ]


def test_feature_a_list_of_one_sub_folder_pairs_with_all_masks(tmp_path):
    for name in ("berlin/1", "berlin/2", "1"):
        save(tmp_path / f"masks/{name}.png", ids(0, 3))
        save(tmp_path / f"images/{name}.png", image())
    listed = write_list(tmp_path / "val.txt", "images/berlin/1.png", "images/berlin/2.png")
    dataset = three(tmp_path, images=listed, masks="masks")
    assert pairs(dataset, tmp_path) == [
        ("images/berlin/1.png", "masks/berlin/1.png"),
        ("images/berlin/2.png", "masks/berlin/2.png"),
    ]
    # Where the masks lie flat, the name alone decides.
    (tmp_path / "masks/berlin/1.png").unlink()
    (tmp_path / "masks/berlin/2.png").rename(tmp_path / "masks/2.png")
    dataset = three(tmp_path, images=listed, masks="masks")
    assert [label for _, label in pairs(dataset, tmp_path)] == ["masks/1.png", "masks/2.png"]


def test_feature_two_lists_of_the_same_names_pair_line_by_line(tmp_path):
    sites = ("site1", "site2")
    for site in sites:
        save(tmp_path / site / "images/1.png", image())
        save(tmp_path / site / "masks/1.png", ids(0, 3))
    images = write_list(tmp_path / "i.txt", *(f"{site}/images/1.png" for site in sites))
    masks = write_list(tmp_path / "m.txt", *(f"{site}/masks/1.png" for site in sites))
    dataset = three(tmp_path, images=images, masks=masks)
    assert pairs(dataset, tmp_path) == [
        (f"{site}/images/1.png", f"{site}/masks/1.png") for site in sites
    ]


def test_exception_lists_that_name_what_is_not_there(tree):
    write_list(tree / "images.txt", "images/train/im.0.JPG", "images/train/city/gone.png")
    write_list(tree / "masks.txt", "masks/train/im.0.png", "masks/train/city/gone.png")
    dataset = Folder(classes=3, images=str(tree / "images.txt"), masks=str(tree / "masks.txt"))
    assert [Path(s.image).name for s in dataset.samples] == ["im.0.JPG"]
    assert dataset.lost == 1
    for kind in ("images", "masks"):
        words = rf"{kind}\.txt: 1 of the files .* do not exist: .*/{kind}/train/city/gone\.png"
        with pytest.raises(DataError, match=words):
            batches(dataset)
