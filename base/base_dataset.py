"""What a dataset is: files, names, colours; and its samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from torch.utils.data import Dataset

from utils.image_io import DataError, read_image, read_mask
from utils.labels import LabelMap
from utils.transforms import Augmentation

__all__ = ["BaseDataSet", "BaseDataset", "DataError", "Sample", "SampleArrays", "Samples"]

SAMPLE_STREAM = 1  # first word of a sample's random seed; the order of an epoch has another


@dataclasses.dataclass(frozen=True)
class Sample:
    """One picture of a dataset and, unless it is unlabelled, its mask."""

    name: str
    image: str
    label: str | None = None


class BaseDataset:
    """Pictures with masks as they are on disk, and what their labels mean.

    A dataset is one file: its constructor's own arguments (where the files are), a list of
    `Sample`, and the constants below, as class attributes or set before `super().__init__`.

    Attributes:
        classes: A name for each class, K of them.
        palette: (r, g, b) for each class.
        mean: Mean of each channel, in 0..1 for 8-bit pictures.
        std: Standard deviation of each channel, likewise.
        channels: Channels of a picture.
        void: Ids in the masks that do not count.
        label_map: Id in the mask -> class, -1 for ignored; None: ids are classes.
        colour_map: (r, g, b) in the mask -> class, -1 for ignored; None: masks hold ids.
    """

    classes: Sequence[str] = ()
    palette: Sequence[Sequence[int]] = ()
    mean: Sequence[float] = (0.485, 0.456, 0.406)  # ImageNet's
    std: Sequence[float] = (0.229, 0.224, 0.225)
    channels: int = 3
    void: Sequence[int] = (255,)
    label_map: Mapping[int, int] | None = None
    colour_map: Mapping[tuple[int, int, int], int] | None = None

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = list(samples)
        if not self.samples:
            raise DataError(f"{type(self).__name__}: found no picture")

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A picture (H, W, C) and its mask as stored: ids (H, W) or colours (H, W, 3).

        Raises:
            DataError: If a file cannot be used, the sample has no mask, or the sizes differ.
        """
        sample = self.samples[index]
        if sample.label is None:
            raise DataError(f"{sample.name}: has no labels; this split is for prediction only")
        image = read_image(sample.image)
        mask = read_mask(sample.label)
        if image.shape[:2] != mask.shape[:2]:
            raise DataError(
                f"{sample.label}: is {mask.shape[1]}x{mask.shape[0]} and its picture "
                f"{sample.image} is {image.shape[1]}x{image.shape[0]}; export the mask at the "
                "picture's size"
            )
        return image, mask


BaseDataSet = BaseDataset  # the ancestor's spelling


@dataclasses.dataclass(frozen=True)
class SampleArrays:
    """One sample, ready for a batch: (H, W, C) picture, (H, W) labels, place in the dataset."""

    image: np.ndarray
    label: np.ndarray
    index: int


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
    """

    def __init__(
        self, dataset: BaseDataset, augmentation: Augmentation, *, seed: int, ignore_index: int
    ) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self.seed = seed
        self.ignore_index = ignore_index
        # Borders take the mean colour, which is zero to the model.
        self.fill = tuple(round(255 * value) for value in dataset.mean)
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
            return error

    def sample(self, epoch: int, index: int) -> SampleArrays:
        """The sample that `(epoch, index)` stands for.

        Raises:
            DataError: If its files cannot be used.
        """
        image, mask = self.dataset.load(index)
        label = self.label_map(mask, self.dataset.samples[index].label or str(index))
        rng = np.random.default_rng((SAMPLE_STREAM, self.seed, epoch, index))
        image, label = self.augmentation(
            image, label, rng, ignore_index=self.ignore_index, fill=self.fill
        )
        return SampleArrays(np.ascontiguousarray(image), np.ascontiguousarray(label), index)
