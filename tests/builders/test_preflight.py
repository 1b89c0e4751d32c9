"""builders/preflight.py: what does not fit together is found before a folder is made."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from base.base_dataloader import BaseDataLoader, LoaderOptions
from builders.preflight import check_splits
from dataloaders.folder import Folder
from utils.transforms.augmentation import Augmentation


def loader(folder, image, classes=2, **args):
    """Two images on disk and the loader that reads them."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(2):
        path = folder / f"images/{number}.tif"
        tifffile.imwrite(path, image, planarconfig="contig")
        Image.fromarray(np.zeros(image.shape[:2], np.uint8)).save(folder / f"masks/{number}.png")
    return BaseDataLoader(
        Folder(classes=classes, data_dir=str(folder), **args),
        Augmentation(),
        LoaderOptions(batch_size=1, num_workers=0),
        seed=0,
        ignore_index=255,
    )


def bands(count, dtype):
    return np.ones((8, 9, count), dtype)


def statistics(count):
    return {"mean": [1.0] * count, "std": [1.0] * count}


@pytest.mark.parametrize(
    ("image", "args", "words"),
    [
        (bands(4, np.uint16), statistics(4), "3 bands of type uint16 .* 4 bands of type uint16"),
        (bands(3, np.float32), statistics(3), "type uint16 .* type float32"),
        (bands(3, np.uint8), {}, "type uint16 .* 8-bit RGB"),
        (
            bands(4, np.uint16),
            {**statistics(3), "bands": [4, 2, 1]},
            r"type uint16 .* bands \[4, 2, 1\]",
        ),
        (bands(3, np.uint16), {**statistics(3), "clip": [0, 9]}, r"clipped to \[\[0.0, 9.0\]\]"),
    ],
)
def test_exception_pictures_of_another_kind(tmp_path, image, args, words):
    train = loader(tmp_path / "train", bands(3, np.uint16), **statistics(3))
    val = loader(tmp_path / "val", image, **args)
    with pytest.raises(ValueError, match=words):
        check_splits(train, val, 255)


def test_exception_other_classes(tmp_path):
    train = loader(tmp_path / "train", bands(3, np.uint8))
    val = loader(tmp_path / "val", bands(3, np.uint8), classes=3)
    with pytest.raises(ValueError, match="2 classes and val_loader has 3"):
        check_splits(train, val, 255)


def test_feature_another_mean_warns(tmp_path, caplog):
    train = loader(tmp_path / "train", bands(3, np.uint8))
    check_splits(train, loader(tmp_path / "same", bands(3, np.uint8)), 255)
    assert caplog.text == ""
    check_splits(train, loader(tmp_path / "val", bands(3, np.uint8), mean=[0.1, 0.2, 0.3]), 255)
    assert "normalised as in training" in caplog.text
