"""The number of pixels of each class."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from base.base_dataloader import BaseDataLoader
from base.loader_stream import LoaderStream
from base.samples import SampleError, Samples
from utils.progress import track
from utils.samples.pairing import few

logger = logging.getLogger(__name__)


class _ImageCounts(Dataset["np.ndarray | SampleError"]):
    """The class counts of each image, (K,) int64, before augmentation."""

    def __init__(self, samples: Samples, indices: list[int]) -> None:
        self.samples = samples
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> np.ndarray | SampleError:
        num_classes = len(self.samples.dataset.classes)
        try:
            labels = self.samples.labels(self.indices[position])
        except SampleError as error:
            return error
        labels = labels[(labels >= 0) & (labels < num_classes)]
        labels = labels[labels != self.samples.ignore_index]
        return np.bincount(labels.reshape(-1), minlength=num_classes)


def count_labels(loader: BaseDataLoader) -> list[int]:
    """Count the pixels of each class in the training images, as they are on disk.

    Raises:
        DataError: If a file cannot be used, unless the loader skips such files.
        WorkerError: If a process that loads has ended.
    """
    counts = _ImageCounts(loader.samples, loader.batches.indices.tolist())
    found: DataLoader[np.ndarray | SampleError] = DataLoader(
        counts, batch_size=None, num_workers=loader.num_workers, collate_fn=_as_it_is
    )
    total = np.zeros(len(loader.source.classes), dtype=np.int64)
    stream = LoaderStream(found)
    indices = range(len(counts))
    for _ in track(indices, total=len(counts), unit="mask", label="class weights", leave=False):
        image_counts = next(stream)
        if not isinstance(image_counts, SampleError):
            total += image_counts
        elif not loader.skips:
            raise image_counts
    return total.tolist()


def warn_of_absent_classes(split: str, classes: Sequence[str], pixels: Sequence[int]) -> None:
    """Log which classes of a split have no labelled pixel, if any."""
    absent = [name for name, count in zip(classes, pixels, strict=True) if not count]
    if absent:
        logger.warning(absent_classes(absent, len(classes), split))


def _as_it_is(counts: Any) -> Any:
    return counts


def absent_classes(absent: Sequence[str], num_classes: int, split: str) -> str:
    """Return which classes have no labelled pixel in a split; empty where all have."""
    if not absent:
        return ""
    what = "the model cannot learn them"
    if split != "train":
        what = "their IoU says nothing: it is 0 where they are predicted, and left out elsewhere"
    return (
        f"{split}: {len(absent)} of {num_classes} classes have no labelled pixel: "
        f"{few(absent, 10)}; {what}"
    )
