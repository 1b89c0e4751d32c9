"""The augmentation of a loader: operations on an image and its label."""

import logging
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from utils import transforms
from utils.config.build import split_args
from utils.config.signatures import classes_of, signature_of
from utils.transforms.base import (
    GeometryOperation,
    Operation,
    SampleOperation,
    Streams,
    TrainingSample,
)
from utils.transforms.partners import Pair, Partners
from utils.transforms.scale_and_crop import Crop, centre_geometry
from utils.transforms.warp import warp

T = TypeVar("T", bound=Operation)

# What a validation takes without a warning; pytorch-segmentation's configs give it both.
VALIDATION_SETTINGS = ("base_size", "crop_size")

logger = logging.getLogger(__name__)


class Augmentation:
    """Turns an image and its label, as they are in the files, into a sample of the batch.

    In training, the operations of `utils/transforms/__init__.py` are applied in their order, those
    that are off left out. Validation scales the short side to `crop_size` and takes the square in
    the middle. `val` wins over `augment`; with neither the pair passes unchanged. What is set and
    has no effect is named in a warning.

    What lies outside the source image gets the fill colour and the ignored label, never a class.

    Args:
        augment: Apply the training operations.
        val: Apply the validation transform.
        class_names: Names of the classes; the program sets it.
        channels: Channels of the images; the program sets it.
        settings: Arguments of the operations, by name.

    Raises:
        TypeError: If no operation takes one of the settings.
        ValueError: If settings contradict each other, name no class of the dataset, or do not suit
            its images.
    """

    def __init__(
        self,
        *,
        augment: bool = False,
        val: bool = False,
        class_names: Sequence[str] = (),
        channels: int = 3,
        **settings: Any,
    ) -> None:
        self.augment = augment
        self.val = val
        schema = signature_of(transforms)
        unknown = settings.keys() - schema
        if unknown:
            raise TypeError(f"no augmentation takes {', '.join(sorted(unknown))}")
        # What is switched off asks for nothing, also where it is on by default.
        self._set = [
            name
            for name, parameter in schema.items()
            if (value := settings.get(name, parameter.default)) != parameter.default
            and value is not False
            and value != []
        ]
        classes = classes_of(transforms)
        self._check_combinations(classes)
        args = {**settings, "class_names": class_names, "channels": channels}
        own_args = split_args(args, *classes)
        self._all = [cls(**own) for cls, own in zip(classes, own_args, strict=True)]
        active = [operation for operation in self._all if operation.active]
        self._geometry = tuple(o for o in active if isinstance(o, GeometryOperation))
        self._steps = tuple(o for o in active if isinstance(o, SampleOperation))
        self._warn_of_idle(classes)

    def operation(self, kind: type[T]) -> T:
        """Return the operation of a class, also where it is off."""
        return next(o for o in self._all if isinstance(o, kind))

    @property
    def follows_labels(self) -> tuple[str, ...]:
        """Settings that make the geometry depend on the label, or bring in other images."""
        following = (o for o in self._all if o.follows_label and o.active and self.augment)
        return tuple(
            next(name for name in signature_of(type(o)) if name in self._set) for o in following
        )

    def _check_combinations(self, classes: Sequence[type[Operation]]) -> None:
        """Refuse settings that need another one, or exclude all others."""
        for cls in classes:
            for name, needed in cls.requires.items():
                if name in self._set and needed not in self._set:
                    raise ValueError(f"{name}: needs {needed}; set it, too")
        refining = {name for cls in classes for name in cls.refines}
        for cls in classes:
            own = signature_of(cls).keys() & self._set
            others = [n for n in self._set if n not in own and n not in refining]
            if cls.exclusive and own and others:
                raise ValueError(
                    f"{', '.join(own)}: replaces the whole augmentation, but {', '.join(others)} "
                    f"{'is' if len(others) == 1 else 'are'} set too; remove one of "
                    "them"
                )

    def _warn_of_idle(self, classes: Sequence[type[Operation]]) -> None:
        """Name what is set and has no effect."""
        refines = {name: other for cls in classes for name, other in cls.refines.items()}
        if self.val:
            idle = ["augment"] * self.augment
            idle += [name for name in self._set if name not in VALIDATION_SETTINGS]
            why = 'beside "val": true'
        elif not self.augment:
            idle, why = self._set, 'without "augment": true'
        else:
            idle = [n for n in self._set if n in refines and refines[n] not in self._set]
            why = f"without {' and '.join(refines[name] for name in idle)}"
        if idle:
            logger.warning(
                "%s: %s no effect %s", ", ".join(idle), "has" if len(idle) == 1 else "have", why
            )

    def __call__(
        self,
        image: np.ndarray,
        label: np.ndarray,
        rng: np.random.Generator,
        *,
        ignore_index: int,
        fill: float | Sequence[float],
        partners: Partners | None = None,
    ) -> Pair:
        """Transform one pair; the arguments stay as they were.

        Args:
            image: (H, W, C), uint8, uint16, int16 or float32.
            label: (H, W), uint8 or int16.
            rng: The only source of chance; equal generators give equal samples.
            ignore_index: Label of the pixels outside the source image.
            fill: Their colour, one value or one a channel, in the unit of `image`.
            partners: The other training samples, for `copy_paste` and `mosaic`.

        Returns:
            Image (h, w, C) and label (h, w), of the types they came in.

        Raises:
            DataError: If a partner or an image does not suit an operation.
            ValueError: If the pair does not fit together, see `warp`.
        """
        if self.val:
            crop_size = self.operation(Crop).crop_size
            if crop_size is None:
                return image, label
            geometry = centre_geometry(label.shape[0], label.shape[1], crop_size)
            return warp(image, label, geometry, ignore_index=ignore_index, fill=fill)
        if not self.augment:
            return image, label
        sample = TrainingSample(
            image, label, Streams(rng), self._geometry, ignore_index, fill, partners
        )
        for operation in self._steps:
            sample = operation.apply(sample, sample.streams.of(operation))
        sample = sample.warp()
        return sample.image, sample.label
