"""The images that an export needs: for its proof, and for the ranges of int8."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from base.base_dataset import BaseDataset
from evaluation.data import open_data, read_tree
from prediction.load_model import Meta
from prediction.source.image_source import PixelRule, load_image
from utils.checkpoint.content import Checkpoint

logger = logging.getLogger(__name__)

REAL_IMAGES = 4  # of the validation set, for the proof
CALIBRATION_IMAGES = 32  # of the training set


def real_images(
    images: Sequence[str], checkpoint: Checkpoint, meta: Meta, path: str, config: str | None
) -> list[np.ndarray]:
    """Return images (H, W, C) for the proof: the user's, or else some of the validation set."""
    if images:
        rule = PixelRule(meta.mean, meta.band_rule, meta.exif)
        return [load_image(Path(image), rule).pixels for image in images]
    try:
        dataset = _open(checkpoint, path, config, "val")
        chosen = _spread(len(dataset), REAL_IMAGES)
        return [dataset.load_image(index).pixels for index in chosen]
    except (ValueError, OSError) as error:
        logger.warning(
            "the images of the validation set are not there (%s): the proof has random images "
            "only; name real ones with --images", str(error).splitlines()[0],
        )  # fmt: skip
        return []


def calibration_images(
    checkpoint: Checkpoint, path: str, config: str | None
) -> Iterator[np.ndarray]:
    """Yield images (H, W, C) of the training set, spread over it, as they are stored.

    Raises:
        ValueError: If the training set is not there, or an image cannot be read.
    """
    try:
        dataset = _open(checkpoint, path, config, "train")
    except (ValueError, OSError) as error:
        raise ValueError(
            "--precision int8: needs images of the training set, and they are not there "
            f"({str(error).splitlines()[0]}); name a config with --config"
        ) from None
    for index in _spread(len(dataset), CALIBRATION_IMAGES):
        yield dataset.load_image(index).pixels


def _open(checkpoint: Checkpoint, path: str, config: str | None, split: str) -> BaseDataset:
    tree, source = read_tree(checkpoint.config, path, config, ())
    dataset: BaseDataset = open_data(tree, source, split, one_by_one=True).loader.source
    return dataset


def _spread(count: int, wanted: int) -> range:
    """Return indices that are spread over a dataset."""
    return range(0, count, max(1, count // wanted))[:wanted]
