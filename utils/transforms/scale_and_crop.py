"""Scale and crop of an image, as in pytorch-segmentation, whose configs mean the same here."""

import numpy as np

from utils.config.types import PositiveInt
from utils.transforms.base import GeometryOperation, TrainingSample, uniform_int
from utils.transforms.geometry import Geometry

SCALE_RANGE = (0.5, 2.0)


class Scale(GeometryOperation):
    """Scale the image, keeping its proportions.

    Args:
        base_size: Long side after scaling, in pixels; none leaves the size as it is.
        scale: Draw the long side uniformly from 0.5 to 2 times `base_size`, both included.
    """

    stream = None

    def __init__(self, *, base_size: PositiveInt | None = None, scale: bool = True) -> None:
        self.base_size = base_size
        self.scale = scale

    def sample_size(self, rng: np.random.Generator, height: int, width: int) -> tuple[int, int]:
        """Draw the (height, width) of an image after scaling, in pixels."""
        draw = rng.random()
        if self.base_size is None:
            return height, width
        long_side = self.base_size
        if self.scale:
            low, high = (int(factor * self.base_size) for factor in SCALE_RANGE)
            long_side = uniform_int(draw, max(low, 1), high)
        ratio = long_side / max(height, width)
        return max(int(height * ratio + 0.5), 1), max(int(width * ratio + 0.5), 1)

    def geometry(
        self, geometry: Geometry, rng: np.random.Generator, sample: TrainingSample
    ) -> Geometry:
        """Set the scaled size, and the output's to the same."""
        height, width = self.sample_size(rng, *sample.label.shape)
        return geometry._replace(
            scaled_height=height, scaled_width=width, height=height, width=width
        )


class Crop(GeometryOperation):
    """Crop a square at random; a smaller image is padded at the bottom and right.

    Args:
        crop_size: Side of the square, in pixels; none keeps the whole scaled image.
    """

    stream = None

    def __init__(self, *, crop_size: PositiveInt | None = None) -> None:
        self.crop_size = crop_size

    def geometry(
        self, geometry: Geometry, rng: np.random.Generator, sample: TrainingSample
    ) -> Geometry:
        """Set the size and the corner of the crop, in the image before its quarter turns."""
        draw_top, draw_left = rng.random(2).tolist()
        height, width = geometry.height, geometry.width
        if sample.size is not None:
            height, width = sample.size[::-1] if geometry.quarter_turns % 2 else sample.size
        elif self.crop_size is not None:
            height = width = self.crop_size
        return geometry._replace(
            height=height,
            width=width,
            top=uniform_int(draw_top, 0, max(geometry.scaled_height - height, 0)),
            left=uniform_int(draw_left, 0, max(geometry.scaled_width - width, 0)),
        )


def centre_geometry(height: int, width: int, crop_size: int) -> Geometry:
    """Scale the short side to `crop_size` and keep the square in the middle: for validation."""
    # The long side is cut, not rounded, as in pytorch-segmentation: its crops are reproduced.
    if height < width:
        scaled_height, scaled_width = crop_size, crop_size * width // height
    else:
        scaled_height, scaled_width = crop_size * height // width, crop_size
    return Geometry(
        scaled_height,
        scaled_width,
        crop_size,
        crop_size,
        top=(scaled_height - crop_size) // 2,
        left=(scaled_width - crop_size) // 2,
    )
