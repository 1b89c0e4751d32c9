"""Four training images in one.

The mosaic of YOLOv4, Bochkovskiy et al. 2020, https://arxiv.org/abs/2004.10934. Differs from the
paper: each image is warped straight to the size of its part.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from utils.config.types import PositiveInt
from utils.transforms.base import Probability, SampleOperation, TrainingSample
from utils.transforms.partners import Pair, draw_partner

Area = tuple[slice, slice]


class Mosaic(SampleOperation):
    """Put this image and three others side by side, each with an augmentation of its own.

    Args:
        mosaic: Probability of doing so.
        crop_size: See `Crop`; the side of the mosaic, at least 2 pixels.

    Raises:
        ValueError: If `crop_size` is too small to be cut in four.
    """

    stream = 2
    requires: ClassVar[dict[str, str]] = {"mosaic": "crop_size"}
    follows_label = True

    def __init__(self, *, mosaic: Probability = 0.0, crop_size: PositiveInt | None = None) -> None:
        self.mosaic = mosaic
        self.side = crop_size or 0
        if mosaic and self.side < 2:
            raise ValueError("mosaic: needs a crop_size of at least 2")

    @property
    def active(self) -> bool:
        """Return whether there are ever mosaics."""
        return self.mosaic > 0

    def apply(self, sample: TrainingSample, rng: np.random.Generator) -> TrainingSample:
        """Warp the sample and three partners to the sizes of the parts, and assemble them."""
        assert not sample.warped
        if rng.random() >= self.mosaic:
            return sample
        areas = sample_quarters(rng, self.side)
        samples = [sample._replace(size=_size(areas[0]))]
        for area in areas[1:]:
            pair = draw_partner(sample.partners, sample.image, rng)
            samples.append(sample.partner(pair, rng, _size(area)))
        pairs = [(warped.image, warped.label) for warped in (s.warp() for s in samples)]
        image, label = assemble(pairs, areas, self.side)
        return sample._replace(image=image, label=label, warped=True)


def sample_quarters(rng: np.random.Generator, side: int) -> list[Area]:
    """Cut a square in four at a point of its middle half; return rows and columns, shuffled."""
    y, x = np.clip(np.rint(rng.uniform(0.25, 0.75, 2) * side), 1, side - 1).astype(int).tolist()
    areas = [
        (rows, columns)
        for rows in (slice(0, y), slice(y, side))
        for columns in (slice(0, x), slice(x, side))
    ]
    return [areas[i] for i in rng.permutation(4)]


def assemble(pairs: Sequence[Pair], areas: Sequence[Area], side: int) -> Pair:
    """Put samples of the sizes of their areas side by side: (side, side, C) and (side, side)."""
    first_image, first_label = pairs[0]
    image = np.empty((side, side, first_image.shape[2]), first_image.dtype)
    label = np.empty((side, side), first_label.dtype)
    for area, (part, part_label) in zip(areas, pairs, strict=True):
        image[area] = part
        label[area] = part_label
    return image, label


def _size(area: Area) -> tuple[int, int]:
    rows, columns = area
    return rows.stop - rows.start, columns.stop - columns.start
