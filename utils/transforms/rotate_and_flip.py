"""Rotation, mirror images and quarter turns."""

import numpy as np

from utils.transforms.base import GeometryOperation, TrainingSample, uniform_int
from utils.transforms.geometry import Geometry

MAX_ANGLE = 10  # degrees, as in pytorch-segmentation


class Rotate(GeometryOperation):
    """Rotate by a small angle about the middle of the image.

    A corner that a canvas of the image's size would cut away stays visible where the crop reaches
    it, so more of the labelled pixels are used.

    Args:
        rotate: Rotate by a whole number of degrees, uniformly from -10 to 10, both included.
    """

    stream = None

    def __init__(self, *, rotate: bool = False) -> None:
        self.rotate = rotate

    def geometry(
        self, geometry: Geometry, rng: np.random.Generator, sample: TrainingSample
    ) -> Geometry:
        """Set the angle."""
        angle = uniform_int(rng.random(), -MAX_ANGLE, MAX_ANGLE)
        return geometry._replace(angle=angle) if self.rotate else geometry


class Flip(GeometryOperation):
    """Mirror left to right.

    Args:
        flip: Mirror half of the samples.
    """

    stream = None

    def __init__(self, *, flip: bool = False) -> None:
        self.flip = flip

    def geometry(
        self, geometry: Geometry, rng: np.random.Generator, sample: TrainingSample
    ) -> Geometry:
        """Mirror the crop in half of the cases."""
        drawn = rng.random() < 0.5
        return geometry._replace(flip=True) if self.flip and drawn else geometry


class Turns(GeometryOperation):
    """Mirror top to bottom, and turn by quarters: for images with no upright, such as aerial ones.

    Args:
        vertical_flip: Mirror half of the samples.
        rotate90: Turn by 0, 90, 180 or 270 degrees, drawn uniformly.
    """

    stream = 0

    def __init__(self, *, vertical_flip: bool = False, rotate90: bool = False) -> None:
        self.vertical_flip = vertical_flip
        self.rotate90 = rotate90

    @property
    def active(self) -> bool:
        """Return whether one of both is on."""
        return self.vertical_flip or self.rotate90

    def geometry(
        self, geometry: Geometry, rng: np.random.Generator, sample: TrainingSample
    ) -> Geometry:
        """Mirror and turn the crop; both are drawn, whichever is on."""
        draw_flip, draw_turns = rng.random(2).tolist()
        return geometry._replace(
            vertical_flip=self.vertical_flip and draw_flip < 0.5,
            quarter_turns=uniform_int(draw_turns, 0, 3) if self.rotate90 else 0,
        )
