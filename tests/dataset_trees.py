"""Small trees in the layouts of public datasets, and what reads them without the program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from base.base_dataset import BaseDataset
from base.samples import Samples
from builders.data import build_loader
from builders.sections import SECTIONS
from tests.conftest import ROOT
from trainer import TRAINING_METRICS, VALIDATION_METRICS
from utils.config.check import check_config
from utils.config.file import parse_config
from utils.transforms.augmentation import Augmentation


def save(path: Path, array: np.ndarray, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array, "P" if palette else None)
    if palette:
        picture.putpalette(palette)
    picture.save(path)


def voc_tree(root: Path, stems: str, size: tuple[int, int] = (8, 12)) -> Path:
    """The folders of VOC with images, and masks of zeros, by these names of one letter."""
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for stem in stems:
        save(root / f"JPEGImages/{stem}.jpg", np.zeros((*size, 3), np.uint8))
        save(root / f"SegmentationClass/{stem}.png", np.zeros(size, np.uint8))
    return root


def image(seed: int = 0, size: tuple[int, int] = (8, 10)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def ids(seed: int, values: Any, size: tuple[int, int] = (8, 10)) -> np.ndarray:
    """A mask of these values, or of `range(values)`."""
    return np.random.default_rng(seed).choice(values, size).astype(np.uint8)


def label_of(dataset: BaseDataset, index: int = 0, ignore_index: int = 255) -> np.ndarray:
    """The labels that reach the batch, without augmentation."""
    samples = Samples(dataset, Augmentation(), seed=0, ignore_index=ignore_index)
    return samples.sample(0, index).label


def read(path: str | Path) -> np.ndarray:
    """Pillow's reading of a mask, as whole numbers with a sign."""
    return np.asarray(Image.open(path)).astype(int)


def assert_labels(dataset: BaseDataset, rule: Callable[[np.ndarray, int], np.ndarray]) -> None:
    """Each mask as Pillow reads it, by a rule of its values and the ignored label."""
    for index, sample in enumerate(dataset.samples):
        mask = read(sample.label)
        for ignored in (255, -1):
            assert np.array_equal(label_of(dataset, index, ignored), rule(mask, ignored))


def assert_image_equals_pillow(dataset: BaseDataset, index: int) -> None:
    """Decoders of JPEG may differ in rounding."""
    theirs = np.asarray(Image.open(dataset.samples[index].image).convert("RGB")).astype(int)
    assert np.abs(dataset.load_image(index).pixels - theirs).mean() < 0.5


def pytorch_segmentation_loaders(
    name: str, data_dir: Path, splits: tuple[str, str], ignore_index: int = 255, **arguments: Any
) -> list[Any]:
    """Both loaders of pytorch-segmentation's documented config with another dataset in it."""
    tree = parse_config(ROOT / "tests" / "ancestor_config.jsonc")
    tree["ignore_index"] = ignore_index
    for section, split in zip(("train_loader", "val_loader"), splits, strict=True):
        tree[section]["type"] = name
        tree[section]["args"] |= {"data_dir": str(data_dir), "split": split, **arguments}
        tree[section]["args"] |= {"batch_size": 2, "num_workers": 0, "return_id": False}
    config = check_config(tree, SECTIONS, "config.json", VALIDATION_METRICS, TRAINING_METRICS)
    return [build_loader(config, "train_loader", training=True), build_loader(config, "val_loader")]
