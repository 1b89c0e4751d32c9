"""Car Parts."""

import numpy as np
import pytest
import torch
from PIL import Image

from base.base_dataloader import BaseDataLoader, LoaderOptions
from dataloaders.carparts import CarParts
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
from tests.training_runs import run, small_config
from utils.files.data_file import DataError
from utils.transforms.augmentation import Augmentation


@pytest.fixture
def tree(tmp_path):
    """Three images, two of them for training; a mask of the car as grey and as palette PNG."""
    for i, (split, name) in enumerate((("train", "a.1"), ("train", "b"), ("valid", "c"))):
        save(tmp_path / f"{split}/JPEGImages/{name}.jpg", image(i, (9, 12)))
        save(tmp_path / f"{split}/annotation/{name}.png", ids(i, range(14), (9, 12)))
        car = ids(i, [0, 1 + 254 * (i % 2)], (9, 12))
        save(tmp_path / f"{split}/foreground/{name}.png", car, None if i % 2 else [0] * 768)
    for name in ("a.1", "b"):
        save(tmp_path / f"train/annotation_noisy/{name}.png", ids(9, range(14), (9, 12)))
    return tmp_path


def inside(path: str) -> np.ndarray:
    """Where Pillow finds the car."""
    return np.asarray(Image.open(path)) != 0


def assert_equals_pillow(dataset: CarParts, folder: str = "annotation") -> None:
    assert all(f"/{folder}/" in sample.label for sample in dataset.samples)
    assert_labels(dataset, lambda mask, _: mask)


def assert_ignored_outside(dataset: CarParts, folder: str = "annotation") -> None:
    for index, sample in enumerate(dataset.samples):
        car = inside(sample.label.replace(f"/{folder}/", "/foreground/"))
        for ignored in (255, -1):
            expected = np.where(car, read(sample.label), ignored)
            assert np.array_equal(label_of(dataset, index, ignored), expected)


def test_feature_carparts_equals_pillow(tree):
    assert_equals_pillow(CarParts(str(tree), "train"))
    assert_equals_pillow(CarParts(str(tree), "valid"))
    noisy = CarParts(str(tree), "train", labels="annotation_noisy")
    assert_equals_pillow(noisy, "annotation_noisy")
    assert [s.name for s in noisy.samples] == ["a.1", "b"]


def test_feature_carparts_foreground(tree):
    assert_ignored_outside(CarParts(str(tree), "train", foreground=True))
    noisy = CarParts(str(tree), "train", labels="annotation_noisy", foreground=True)
    assert_ignored_outside(noisy, "annotation_noisy")


def test_feature_carparts_foreground_is_a_file_of_its_sample(tree):
    """A cache on disk has to notice when it changes."""
    with_car = CarParts(str(tree), "valid", foreground=True).samples[0]
    assert with_car.files[-1].endswith("valid/foreground/c.png")
    assert with_car.files[:-1] == CarParts(str(tree), "valid").samples[0].files


def test_exception_carparts_arguments_and_folders(tree):
    with pytest.raises(ValueError, match="labels: annotation_noisy"):
        CarParts(str(tree), "valid", labels="annotation_noisy")
    with pytest.raises(ValueError, match="split: expected one of train, valid, got 'val'"):
        CarParts(str(tree), "val")
    with pytest.raises(DataError, match=r"no such folder.*: train, valid"):
        CarParts(str(tree / "data"), "train")


def test_feature_carparts_missing_files_are_problems(tree):
    (tree / "train/foreground/b.png").unlink()
    assert CarParts(str(tree), "train").problems == []
    dataset = CarParts(str(tree), "train", foreground=True)
    assert [s.name for s in dataset.samples] == ["a.1"]
    assert "foreground: 1 of the files that it names do not exist" in dataset.problems[0]
    (tree / "train/annotation/a.1.png").unlink()
    assert "1 of 2 images" in CarParts(str(tree), "train").problems[0]


def test_exception_carparts_masks(tree):
    save(tree / "valid/foreground/c.png", np.ones((9, 11), np.uint8))
    with pytest.raises(DataError, match=r"foreground/c\.png: is 11x9 .*c\.png is 12x9"):
        CarParts(str(tree), "valid", foreground=True).load(0)
    save(tree / "valid/annotation/c.png", np.full((9, 12), 14, np.uint8))
    with pytest.raises(DataError, match=r"annotation/c\.png: 108 pixels have label 14"):
        label_of(CarParts(str(tree), "valid"))


def test_cardinality_carparts_classes():
    assert len(set(CarParts.classes)) == len(set(CarParts.palette)) == 14
    assert (CarParts.classes[0], CarParts.classes[13]) == ("background", "wheel")


def test_feature_carparts_in_a_loader(tree):
    train, val = pytorch_segmentation_loaders("CarParts", tree, ("train", "valid"), foreground=True)
    (batch,) = list(train.epoch(1))
    assert tuple(batch.labels.shape) == (2, 380, 380)
    assert val.num_samples == 1


@pytest.mark.parametrize("ignore_index", [255, -1])
def test_feature_carparts_foreground_follows_the_augmentation(tree, ignore_index):
    # Where the labels are the car itself, the two stay equal through every operation.
    for name in ("a.1", "b"):
        car = inside(tree / f"train/foreground/{name}.png").astype(np.uint8)
        save(tree / f"train/annotation/{name}.png", car)
    args = {"augment": True, "base_size": 40, "crop_size": 32, "flip": True, "rotate": True}
    more = {"rotate90": True, "vertical_flip": True, "cutout": 2, "hue": 0.1}
    for extra in ({}, more):
        loader = BaseDataLoader(
            CarParts(str(tree), "train", foreground="weight"),
            Augmentation(**args, **extra, class_names=CarParts.classes),
            LoaderOptions(batch_size=2, num_workers=0),
            seed=3,
            ignore_index=ignore_index,
            training=True,
        )
        for epoch in range(1, 4):
            (batch,) = loader.epoch(epoch)
            counts = batch.labels != ignore_index
            assert batch.foreground.dtype == torch.bool
            assert torch.equal(batch.foreground[counts], batch.labels[counts] == 1)
            assert 0 < counts.sum() < counts.numel()
            assert not batch.foreground[~counts].any()


@pytest.mark.parametrize(
    ("foreground", "loss", "words"),
    [
        ("weight", "CrossEntropyLoss2d", "its foreground is read"),
        (False, "RegionAwareLoss", "background_weight: has no effect"),
        ("weight", "RegionAwareLoss", ""),
    ],
)
def test_feature_carparts_foreground_that_nobody_uses(tree, caplog, foreground, loss, words):
    config = small_config(tree)
    config["train_loader"] = {
        "type": "CarParts",
        "args": {
            "data_dir": str(tree), "split": "train", "foreground": foreground, "batch_size": 2,
            "augment": True, "crop_size": 32, "num_workers": 0,
        },
    }  # fmt: skip
    config["trainer"] |= {"val": False, "monitor": "off", "epochs": 1}
    args = {"background_weight": 0.1} if loss == "RegionAwareLoss" else {}
    config["loss"] = {"type": loss, "args": args}
    assert run(tree, config)[0] == 0
    said = [word for word in ("foreground is read", "has no effect") if word in caplog.text]
    assert len(said) == bool(words)
    assert words in caplog.text


def test_exception_carparts_foreground_with_other_images_in_it(tree):
    with pytest.raises(ValueError, match="mosaic: cannot be used with a foreground"):
        BaseDataLoader(
            CarParts(str(tree), "train", foreground="weight"),
            Augmentation(augment=True, crop_size=8, mosaic=0.5),
            LoaderOptions(batch_size=1),
            seed=0,
            ignore_index=255,
        )


# --- real files


def every_tenth(dataset: CarParts) -> CarParts:
    dataset.samples = dataset.samples[::10]
    return dataset


@pytest.mark.parametrize(("split", "count"), [("train", 340), ("valid", 60)])
def test_feature_real_carparts_equals_pillow(real_data, split, count):
    folder = str(real_data / "carparts")
    dataset = CarParts(folder, split)
    assert (len(dataset), dataset.problems, dataset.notes) == (count, [], [])
    assert_equals_pillow(every_tenth(dataset))
    assert_image_equals_pillow(dataset, 0)
    assert_ignored_outside(every_tenth(CarParts(folder, split, foreground=True)))


def test_feature_real_carparts_noisy_labels_differ(real_data):
    folder = str(real_data / "carparts")
    noisy = every_tenth(CarParts(folder, "train", labels="annotation_noisy"))
    assert_equals_pillow(noisy, "annotation_noisy")
    clean = every_tenth(CarParts(folder, "train"))
    assert any(not np.array_equal(noisy.load_mask(i), clean.load_mask(i)) for i in range(34))


def test_feature_real_carparts_mean_and_std(real_data):
    """Pillow and NumPy, over every tenth image: within 0.02 of what holds for all 400."""
    dataset = every_tenth(CarParts(str(real_data / "carparts"), "train"))
    files = [sample.image for sample in dataset.samples]
    pixels = np.concatenate([np.asarray(Image.open(f).convert("RGB")).reshape(-1, 3)[::7]
                             for f in files]) / 255  # fmt: skip
    assert np.abs(pixels.mean(0) - dataset.mean).max() < 0.02
    assert np.abs(pixels.std(0) - dataset.std).max() < 0.02
