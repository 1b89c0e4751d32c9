"""The samples of one split, and sums over their facts."""

import collections
import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from base.base_dataloader import LoaderOptions
from base.base_dataset import BaseDataset
from base.samples import Samples
from inspection.counts import BandTotals
from inspection.facts import MaskFacts, SampleFacts
from utils.samples.labels import LabelMap
from utils.transforms.augmentation import Augmentation

Key = TypeVar("Key")

MAX_STRAY_VALUES = 16
LOWEST_ID, HIGHEST_ID = -32768, 65535  # that a label map can name


@dataclasses.dataclass(frozen=True)
class ClassTotals:
    """How often a class occurs; the names are those of the keys in the JSON of `check.py`."""

    pixels: int  # its pixels in all images
    share: float  # its fraction of the valid pixels, 0..1
    pictures: int  # the number of images with at least one pixel of it


@dataclasses.dataclass(frozen=True)
class BandStatistics:
    """A channel over all pixels that hold data: in 0..1 for 8-bit images, raw for others."""

    mean: float
    std: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Split:
    """The samples that one section of the config loads."""

    name: str  # `"train"`, `"val"` or `"test"`
    section: str  # the section's key in the config
    dataset: BaseDataset  # the dataset of the samples
    augmentation: Augmentation  # what is done to them
    options: LoaderOptions  # how they are batched
    indices: Sequence[int]  # their indices in the dataset
    facts: Sequence[SampleFacts] = ()  # the facts of each sample
    ignore_index: int = 255  # the label of ignored pixels
    lacks_statistics: bool = False  # whether the config lacks the mean and std that the images need

    @property
    def held_out(self) -> bool:
        """Whether the training holds this split back."""
        return self.section != f"{self.name}_loader"

    @functools.cached_property
    def label_map(self) -> LabelMap:
        """The map from mask values to labels."""
        samples = Samples(
            self.dataset, Augmentation(), seed=0, ignore_index=self.ignore_index, indices=()
        )
        return samples.label_map

    @functools.cached_property
    def known_ids(self) -> dict[int, int]:
        """Id in a mask -> class, or -1 for ignored."""
        ids = np.arange(LOWEST_ID, HIGHEST_ID + 1, dtype=np.int32)[None]
        known = ids[self.label_map.knows(ids)]
        labels = self.label_map(known[None], "")[0].tolist()
        return {
            value: -1 if label == self.ignore_index else label
            for value, label in zip(known.tolist(), labels, strict=True)
        }

    def mask_key(self, facts: SampleFacts) -> str:
        """Return the file of a mask, with the image if a file holds the labels of several."""
        if self._labels_in[facts.label] < 2:
            return facts.label
        return f"{facts.label}: {facts.files[0]}"

    @functools.cached_property
    def _labels_in(self) -> collections.Counter[str]:
        """The number of samples of each label file."""
        return collections.Counter(facts.label for facts in self.facts)

    @functools.cached_property
    def blended(self) -> list[SampleFacts]:
        """The samples whose masks were smoothed."""
        return [f for f in self.facts if f.mask is not None and self.is_blended(f.mask)]

    def is_blended(self, mask: MaskFacts) -> bool:
        """Return whether a mask holds too many unknown values to be labels, as after smoothing."""
        return len(mask.unknown) > max(MAX_STRAY_VALUES, len(self.dataset.classes))

    @functools.cached_property
    def usable(self) -> list[SampleFacts]:
        """The samples that training can load."""
        return [facts for facts in self.facts if facts.usable]

    @functools.cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of the images that can be read, the smallest first."""
        sizes = [(f.image.width, f.image.height) for f in self.facts if not f.image.error]
        return sorted(sizes, key=lambda size: (size[0] * size[1], size))

    @functools.cached_property
    def values(self) -> collections.Counter[str]:
        """Pixels of each id or colour in the masks."""
        return _sum(facts.mask.values for facts in self.facts if facts.mask)

    @functools.cached_property
    def unknown(self) -> collections.Counter[str]:
        """Pixels of each id or colour that is neither class nor ignored, in unsmoothed masks."""
        masks = [f.mask for f in self.facts if f.mask and not self.is_blended(f.mask)]
        return _sum({value: mask.values[value] for value in mask.unknown} for mask in masks)

    @functools.cached_property
    def labels(self) -> collections.Counter[int]:
        """Pixels of each class and of the ignored label."""
        return _sum(facts.mask.labels for facts in self.facts if facts.mask)

    @functools.cached_property
    def classes(self) -> list[ClassTotals]:
        """Totals of each class."""
        numbers = range(len(self.dataset.classes))
        counted = sum(self.labels[number] for number in numbers)
        images = _sum(dict.fromkeys(facts.mask.labels, 1) for facts in self.facts if facts.mask)
        return [
            ClassTotals(self.labels[n], self.labels[n] / counted if counted else 0.0, images[n])
            for n in numbers
        ]

    @functools.cached_property
    def bands(self) -> list[BandStatistics]:
        """Statistics of each channel, over the images with the dataset's number of channels."""
        images = [facts.image for facts in self.facts if facts.image.bands]
        images = [image for image in images if image.channels == self.dataset.channels]
        unit = 255 if all(image.dtype == "uint8" for image in images) else 1
        return [
            _statistics(totals, unit) for totals in zip(*(i.bands for i in images), strict=True)
        ]


def _statistics(totals: Sequence[BandTotals], unit: int) -> BandStatistics:
    """Return the statistics of one channel over several images, in its unit."""
    totals = [band for band in totals if band.count]
    if not totals:
        return BandStatistics(0.0, 0.0, 0.0, 0.0)
    count = sum(band.count for band in totals)
    total = sum(band.total for band in totals)
    squares = sum(band.squares for band in totals)
    std = math.sqrt(max((squares - total * total / count) / count, 0.0))
    low, high = min(band.low for band in totals), max(band.high for band in totals)
    return BandStatistics(total / count / unit, std / unit, low / unit, high / unit)


def _sum(counts: Iterable[Mapping[Key, int]]) -> collections.Counter[Key]:
    total: collections.Counter[Key] = collections.Counter()
    for each in counts:
        total.update(each)
    return total
