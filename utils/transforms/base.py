"""The contract of an augmentation: an operation on a training sample.

All geometry is one affine warp, so that each pixel is interpolated once: geometry operations only
say what the warp should do. The other operations take the sample and return a changed one.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, NamedTuple

import msgspec
import numpy as np

from utils.transforms.geometry import Geometry
from utils.transforms.partners import Pair, Partners
from utils.transforms.warp import warp

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Operation(abc.ABC):
    """One augmentation: its config keys, its checks, and what it does.

    The keyword arguments of the constructor are the config keys, and their annotations are the
    allowed values; the defaults change nothing. An argument of another operation may be named
    again, as may `class_names` and `channels`, which the program sets. A constructor raises
    `ValueError` for arguments that cannot work.
    """

    # Number of the random stream that nobody else draws from, so that switching the operation on
    # leaves the draws of the others as they were. The samples of a seed depend on it: it is never
    # changed or used again. None: the image's own generator, which the operations of
    # pytorch-segmentation share; those that draw while they are off are always `active`.
    stream: ClassVar[int | None]
    requires: ClassVar[Mapping[str, str]] = {}  # arguments that cannot be set without another one
    refines: ClassVar[Mapping[str, str]] = {}  # arguments that have no effect without another one
    # Whether the geometry depends on the label, or other images come in.
    follows_label: ClassVar[bool] = False
    exclusive: ClassVar[bool] = False  # whether the operation stands for the whole augmentation

    @property
    def active(self) -> bool:
        """Return whether the operation takes part; one that is off is left out."""
        return True


class GeometryOperation(Operation):
    """An operation that contributes to the warp of each image."""

    @abc.abstractmethod
    def geometry(
        self, geometry: Geometry, rng: np.random.Generator, sample: TrainingSample
    ) -> Geometry:
        """Return the geometry with the contribution of this operation; `rng` is its stream."""


class SampleOperation(Operation):
    """An operation that changes image and label, alone or with other images."""

    @abc.abstractmethod
    def apply(self, sample: TrainingSample, rng: np.random.Generator) -> TrainingSample:
        """Return the changed sample; the arrays of the given one stay as they are.

        Args:
            sample: Not yet warped, unless an operation before this one has done so.
            rng: The operation's stream.

        Raises:
            DataError: If an image does not suit the operation.
        """


class PixelOperation(SampleOperation):
    """An operation that changes the image after the warp and leaves the label as it is."""

    @abc.abstractmethod
    def pixels(
        self, image: np.ndarray, rng: np.random.Generator, fill: float | Sequence[float]
    ) -> np.ndarray:
        """Return the changed image, (H, W, C); the given one stays as it is.

        Args:
            image: (H, W, C), uint8, uint16, int16 or float32.
            rng: The operation's stream.
            fill: The colour of padding, one value or one a channel, in the unit of `image`.

        Raises:
            DataError: If the image does not suit the operation.
        """

    def apply(self, sample: TrainingSample, rng: np.random.Generator) -> TrainingSample:
        """Warp the sample and change its image."""
        sample = sample.warp()
        return sample._replace(image=self.pixels(sample.image, rng, sample.fill))


class Streams:
    """The random generators of one image.

    Args:
        rng: The image's own generator, made for it alone; stream n is the child n of its seed.
        numbered: Generators to use instead for some streams, by number.
    """

    def __init__(
        self, rng: np.random.Generator, numbered: Mapping[int, np.random.Generator] | None = None
    ) -> None:
        self.rng = rng
        self._numbered = {} if numbered is None else dict(numbered)

    def of(self, operation: Operation) -> np.random.Generator:
        """Return the generator of an operation, the same one at each call."""
        number = operation.stream
        if number is None:
            return self.rng
        if number not in self._numbered:
            self._numbered[number] = _child(self.rng, number)
        return self._numbered[number]


class TrainingSample(NamedTuple):
    """An image and its label between the file and the batch."""

    image: np.ndarray  # (H, W, C), uint8, uint16, int16 or float32
    label: np.ndarray  # (H, W), uint8 or int16
    streams: Streams  # the random generators of this image
    # The geometry operations that make up the warp, in order.
    operations: tuple[GeometryOperation, ...]
    ignore_index: int  # label of the pixels outside the source image
    # Their colour, one value or one a channel, in the unit of `image`.
    fill: float | Sequence[float]
    partners: Partners | None = None  # the other training samples
    # (height, width) that the warp should give the sample; None leaves it to `crop_size`.
    size: tuple[int, int] | None = None
    warped: bool = False  # whether the warp has been applied

    def geometry(self) -> Geometry:
        """Return what the operations draw for the warp."""
        height, width = self.label.shape
        geometry = Geometry(height, width, height, width)
        for operation in self.operations:
            geometry = operation.geometry(geometry, self.streams.of(operation), self)
        return geometry

    def warp(self) -> TrainingSample:
        """Apply all geometry in one warp, unless that has been done."""
        if self.warped:
            return self
        image, label = warp(
            self.image, self.label, self.geometry(), ignore_index=self.ignore_index, fill=self.fill
        )
        return self._replace(image=image, label=label, warped=True)

    def partner(
        self, pair: Pair, rng: np.random.Generator, size: tuple[int, int]
    ) -> TrainingSample:
        """Return another image and label as a sample of their own, not yet warped."""
        image, label = pair
        own, turns, crop = rng.spawn(3)  # the latter of `Turns` and `ClassCrop`
        streams = Streams(own, {0: turns, 1: crop})
        return self._replace(image=image, label=label, streams=streams, size=size, warped=False)


def uniform_int(draw: float, low: int, high: int) -> int:
    """Turn a draw from [0, 1) into a whole number from `low` to `high`, both included."""
    return low + int(draw * (high - low + 1))


def _child(rng: np.random.Generator, number: int) -> np.random.Generator:
    """Return what `rng.spawn()` gives at an index, without the cost of those before it."""
    seed = rng.bit_generator.seed_seq
    assert isinstance(seed, np.random.SeedSequence)
    key = (*seed.spawn_key, number)
    child = np.random.SeedSequence(seed.entropy, spawn_key=key, pool_size=seed.pool_size)
    return np.random.Generator(type(rng.bit_generator)(child))
