"""Augmented samples of a dataset, each a pure function."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from base.base_dataset import BaseDataset, Pair
from utils.files.data_file import DataError
from utils.files.file_notes import FileNote, collect_notes
from utils.random_state import Stream
from utils.samples.labels import LabelMap
from utils.samples.pair_cache import PairCache
from utils.transforms.augmentation import Augmentation

MAX_SUBSTITUTES = 10


@dataclasses.dataclass(frozen=True)
class SampleArrays:
    """One sample, ready for a batch."""

    image: np.ndarray  # (H, W, C)
    label: np.ndarray  # (H, W)
    index: int  # in the dataset
    # The samples that it replaces, and what was wrong with them.
    skipped: tuple[tuple[int, str], ...] = ()
    # (H, W) bool, where the objects are; None for a dataset that does not say.
    foreground: np.ndarray | None = None
    notes: tuple[FileNote, ...] = ()  # what is odd about the files that were read for it


class SampleError(DataError):
    """A sample that cannot be used; knows its index in the dataset."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index

    def __reduce__(self) -> tuple[type[SampleError], tuple[str, int]]:
        return type(self), (str(self), self.index)


@dataclasses.dataclass(frozen=True)
class Partners:
    """The labelled pairs that an augmentation may mix into a sample."""

    samples: Samples  # where they come from
    indices: Sequence[int]  # those of the training split

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        return self.samples.pair(int(self.indices[position]))


class Samples(Dataset["SampleArrays | SampleError"]):
    """The augmented samples of a dataset: a pure function of (seed, epoch, index).

    Asked for `(epoch, index)`, so that no worker process has to be told about a new epoch. A file
    that cannot be used is handed over as a value: an exception that passes through a worker would
    arrive as the text of a traceback.

    Args:
        dataset: Where the images come from.
        augmentation: What is done to a pair.
        seed: The run's seed.
        ignore_index: The label of ignored pixels.
        indices: The samples that may be mixed into others or replace them; None for all.
        substitute: Replace a sample that cannot be used by another.
        cache: Keeps labelled pairs.
    """

    def __init__(
        self,
        dataset: BaseDataset,
        augmentation: Augmentation,
        *,
        seed: int,
        ignore_index: int,
        indices: Sequence[int] | None = None,
        substitute: bool = False,
        cache: PairCache | None = None,
    ) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self.seed = seed
        self.ignore_index = ignore_index
        self.substitute = substitute
        self.cache = cache
        self.partners = Partners(self, range(len(dataset)) if indices is None else indices)
        # Borders take the mean colour, which is zero to the model.
        self.fill = tuple(float(value) for value in dataset.mean)
        self.fill_8_bit = tuple(round(255 * value) for value in dataset.mean)
        self.label_map = LabelMap(
            len(dataset.classes),
            ignore_index,
            void=dataset.void,
            ids=dataset.label_map,
            colours=dataset.colour_map,
            adjustable="label_map" in inspect.signature(type(dataset)).parameters,
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> SampleArrays | SampleError:
        epoch, index = key
        with collect_notes() as notes:
            try:
                sample = self.sample(epoch, index)
            except SampleError as error:
                if not self.substitute:
                    return error
                found = self._substitute(epoch, index, error)
                if isinstance(found, SampleError):
                    return found
                sample = found
        return dataclasses.replace(sample, notes=tuple(notes)) if notes else sample

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an image (H, W, C) and its labels (H, W) before augmentation, both read-only.

        Raises:
            SampleError: If its files cannot be used.
        """
        cached = None if self.cache is None else self.cache.get(index)
        if cached is not None:
            return cached
        try:
            image, mask, missing = Pair(*self.dataset.load(index))
            label = self._label_of(mask, index)
        except DataError as error:
            raise SampleError(str(error), index) from None
        if missing is not None:
            label[missing] = self.ignore_index
        if self.cache is not None:
            self.cache.put(index, image, label)
        return image, label

    def labels(self, index: int) -> np.ndarray:
        """Return the labels (H, W) of `pair()`, without reading the image if possible.

        Raises:
            SampleError: If a file cannot be used.
        """
        if self.dataset.band_rule is not None or self.cache is not None:
            return self.pair(index)[1]
        try:
            return self._label_of(self.dataset.load_mask(index), index)
        except DataError as error:
            raise SampleError(str(error), index) from None

    def _label_of(self, mask: np.ndarray, index: int) -> np.ndarray:
        return self.label_map(mask, self.dataset.samples[index].label or str(index))

    def sample(self, epoch: int, index: int) -> SampleArrays:
        """Return the sample of an epoch and an index.

        Raises:
            SampleError: If its files, or those that are mixed into it, cannot be used.
        """
        image, label = self.pair(index)
        try:
            augmented, label = self._augment(image, label, epoch, index)
            foreground = None
            if self.dataset.has_foreground:
                # The same generator gives the same geometry.
                inside = self.dataset.load_foreground(index).astype(label.dtype)
                foreground = self._augment(image, inside, epoch, index)[1] == 1
        except SampleError:  # of a partner
            raise
        except DataError as error:
            raise SampleError(f"{self.dataset.samples[index].image}: {error}", index) from None
        image, label = np.ascontiguousarray(augmented), np.ascontiguousarray(label)
        return SampleArrays(image, label, index, foreground=foreground)

    def _augment(
        self, image: np.ndarray, label: np.ndarray, epoch: int, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return self.augmentation(
            image,
            label,
            np.random.default_rng((Stream.SAMPLE, self.seed, epoch, index)),
            ignore_index=self.ignore_index,
            fill=self.fill_8_bit if image.dtype == np.uint8 else self.fill,
            partners=self.partners,
        )

    def _substitute(self, epoch: int, index: int, error: SampleError) -> SampleArrays | SampleError:
        """Return the first usable one of a few samples that (seed, epoch, index) chooses."""
        rng = np.random.default_rng((Stream.SUBSTITUTE, self.seed, epoch, index))
        skipped = [(error.index, str(error))]
        for position in rng.integers(len(self.partners), size=MAX_SUBSTITUTES):
            try:
                sample = self.sample(epoch, int(self.partners.indices[position]))
            except SampleError as further:
                skipped.append((further.index, str(further)))
            else:
                return dataclasses.replace(sample, skipped=tuple(skipped))
        return SampleError(
            f"{MAX_SUBSTITUTES} images that were drawn to replace another cannot be used "
            f"either; the first of them: {error}",
            index,
        )
