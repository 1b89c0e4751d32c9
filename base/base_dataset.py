"""What a dataset is: files, names, colours; and its samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from utils.augmentation import Augmentation
from utils.files.data_file import DataError
from utils.files.image_io import read_image, read_mask
from utils.files.raster_io import BandRule, read_bands
from utils.labels import LabelMap
from utils.pair_cache import PairCache
from utils.pairing import Sample
from utils.visualize import to_rgb

__all__ = [
    "BaseDataSet",
    "BaseDataset",
    "DataError",
    "Pair",
    "Picture",
    "Sample",
    "SampleArrays",
    "Samples",
]

SAMPLE_STREAM = 1  # first word of a sample's random seed; the order of an epoch has another
SUBSTITUTE_STREAM = 4

MOST_SUBSTITUTES = 10


class Picture(NamedTuple):
    """A picture (H, W, C), and where it holds no data: (H, W) bool, or None for nowhere."""

    pixels: np.ndarray
    missing: np.ndarray | None = None


class Pair(NamedTuple):
    """A picture (H, W, C), its mask as stored, and where the picture holds no data."""

    image: np.ndarray
    mask: np.ndarray
    missing: np.ndarray | None = None


class BaseDataset:
    """Pictures with masks as they are on disk, and what their labels mean.

    A dataset is one file: its constructor's own arguments (where the files are), a list of
    `Sample`, and the constants below, as class attributes or set before `super().__init__`.

    Attributes:
        classes: A name for each class, K of them.
        palette: (r, g, b) for each class.
        mean: Mean of each channel, in 0..1 for 8-bit pictures, in the sensor's unit for others.
        std: Standard deviation of each channel, likewise.
        channels: Channels of a picture.
        void: Ids in the masks that do not count.
        label_map: Id in the mask -> class, -1 for ignored; None: ids are classes.
        colour_map: (r, g, b) in the mask -> class, -1 for ignored; None: masks hold ids.
        band_rule: How pictures of other than 8-bit RGB are read; None: they are 8-bit RGB.
        preview_bands: The channels that show red, green and blue, or one to show in grey.

    Args:
        samples: The pictures.
        problems: What is wrong with lists and folders; training refuses it.
        notes: What is odd about them.

    Raises:
        DataError: If there is no picture.
    """

    classes: Sequence[str] = ()
    palette: Sequence[Sequence[int]] = ()
    mean: Sequence[float] = (0.485, 0.456, 0.406)  # ImageNet's
    std: Sequence[float] = (0.229, 0.224, 0.225)
    channels: int = 3
    void: Sequence[int] = (255,)
    label_map: Mapping[int, int] | None = None
    colour_map: Mapping[tuple[int, int, int], int] | None = None
    band_rule: BandRule | None = None
    preview_bands: Sequence[int] = (0, 1, 2)

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        problems: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self.samples = list(samples)
        self.problems = list(problems)
        self.notes = list(notes)
        if not self.samples:
            raise DataError("; ".join(problems) or f"{type(self).__name__}: found no picture")

    def __len__(self) -> int:
        return len(self.samples)

    def reading_rule(self) -> str:
        """What a labelled pair depends on beside its files: part of the key of a cache."""
        maps = (self.void, self.label_map, self.colour_map)
        # Missing pixels are filled with the mean.
        bands = None if self.band_rule is None else (self.band_rule, list(self.mean))
        return repr((type(self).__name__, len(self.classes), *maps, bands))

    def load_image(self, index: int) -> Picture:
        """A picture as the model is to see it, before augmentation.

        Raises:
            DataError: If a file cannot be used.
        """
        sample = self.samples[index]
        if self.band_rule is None:
            return Picture(read_image(sample.image))
        files = sample.bands or (sample.image,)
        return Picture(*read_bands(files, self.band_rule, self.mean))

    def load_mask(self, index: int) -> np.ndarray:
        """A mask as stored: ids (H, W) or colours (H, W, 3).

        Raises:
            DataError: If the file cannot be used or the sample has none.
        """
        return read_mask(self.mask_file(index))

    def mask_file(self, index: int) -> str:
        """The file of a mask.

        Raises:
            DataError: If the sample has none.
        """
        sample = self.samples[index]
        if sample.label is None:
            raise DataError(f"{sample.name}: has no labels; this split is for prediction only")
        return sample.label

    def load(self, index: int) -> Pair:
        """A picture and its mask, of one size.

        Raises:
            DataError: If a file cannot be used, the sample has no mask, or the sizes differ.
        """
        source = self.mask_file(index)
        picture = self.load_image(index)
        mask = self.load_mask(index)
        if picture.pixels.shape[:2] != mask.shape[:2]:
            height, width = picture.pixels.shape[:2]
            raise DataError(
                f"{source}: is {mask.shape[1]}x{mask.shape[0]} and its picture "
                f"{self.samples[index].image} is {width}x{height}; export the mask at the "
                "picture's size"
            )
        return Pair(picture.pixels, mask, picture.missing)

    def preview(self, image: np.ndarray) -> np.ndarray:
        """A picture (H, W, C) as one to look at: (H, W, 3) uint8 RGB."""
        return to_rgb(image, self.preview_bands, self.mean, self.std)


BaseDataSet = BaseDataset  # the ancestor's spelling


@dataclasses.dataclass(frozen=True)
class SampleArrays:
    """One sample, ready for a batch.

    Args:
        image: (H, W, C).
        label: (H, W).
        index: Its place in the dataset.
        skipped: What was wrong with the samples that it stands in for.
    """

    image: np.ndarray
    label: np.ndarray
    index: int
    skipped: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Partners:
    """The labelled pairs that an augmentation may mix into a sample.

    Args:
        samples: Where they come from.
        indices: Those of the training share.
    """

    samples: Samples
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        return self.samples.pair(int(self.indices[position]))


class Samples(Dataset["SampleArrays | DataError"]):
    """The augmented samples of a dataset: a pure function of (seed, epoch, index).

    Asked for `(epoch, index)`, so that no worker process has to be told about a new epoch. A file
    that cannot be used is handed over as a value: an exception that passes through a worker would
    arrive as the text of a traceback.

    Args:
        dataset: Where the pictures come from.
        augmentation: What is done to a pair.
        seed: The run's seed.
        ignore_index: The label of pixels that do not count.
        indices: The samples that may be mixed into others or stand in for them; None for all.
        substitute: Let another sample stand in for one that cannot be used.
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
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> SampleArrays | DataError:
        epoch, index = key
        try:
            return self.sample(epoch, index)
        except DataError as error:
            return self._stand_in(epoch, index, error) if self.substitute else error

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A picture (H, W, C) and its labels (H, W), before augmentation; not to be written to.

        Raises:
            DataError: If its files cannot be used.
        """
        cached = None if self.cache is None else self.cache.get(index)
        if cached is not None:
            return cached
        image, mask, missing = Pair(*self.dataset.load(index))
        label = self.label_map(mask, self.dataset.samples[index].label or str(index))
        if missing is not None:
            label[missing] = self.ignore_index
        if self.cache is not None:
            self.cache.put(index, image, label)
        return image, label

    def sample(self, epoch: int, index: int) -> SampleArrays:
        """The sample that `(epoch, index)` stands for.

        Raises:
            DataError: If its files cannot be used.
        """
        image, label = self.pair(index)
        rng = np.random.default_rng((SAMPLE_STREAM, self.seed, epoch, index))
        image, label = self.augmentation(
            image,
            label,
            rng,
            ignore_index=self.ignore_index,
            fill=self.fill_8_bit if image.dtype == np.uint8 else self.fill,
            partners=self.partners,
        )
        return SampleArrays(np.ascontiguousarray(image), np.ascontiguousarray(label), index)

    def _stand_in(self, epoch: int, index: int, error: DataError) -> SampleArrays | DataError:
        """The first usable one of a few samples that (seed, epoch, index) chooses."""
        rng = np.random.default_rng((SUBSTITUTE_STREAM, self.seed, epoch, index))
        skipped = [str(error)]
        for position in rng.integers(len(self.partners), size=MOST_SUBSTITUTES):
            try:
                sample = self.sample(epoch, int(self.partners.indices[position]))
            except DataError as further:
                skipped.append(str(further))
            else:
                return dataclasses.replace(sample, skipped=tuple(skipped))
        return DataError(
            f"{MOST_SUBSTITUTES} pictures that were drawn to stand in for another cannot be used "
            f"either; the first of them: {error}"
        )
