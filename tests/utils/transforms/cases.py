"""Images, labels and geometry for the tests of this folder."""

import cv2
import numpy as np

from utils.transforms.base import Streams, TrainingSample
from utils.transforms.geometry import Geometry
from utils.transforms.rotate_and_flip import Flip, Rotate
from utils.transforms.scale_and_crop import Crop, Scale
from utils.transforms.warp import warp

FILL = (11.0, 22.0, 33.0)


def make_image(height, width, channels=3, dtype=np.uint8, seed=0):
    """A smooth random image: interpolation at slightly different places gives near values."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, channels))
    planes = np.split(noise.astype(np.float32), channels, 2)
    planes = [cv2.GaussianBlur(plane, (0, 0), 2) for plane in planes]
    return np.dstack(planes).astype(dtype)


def make_label(height, width, classes=6, block=7, dtype=np.uint8, seed=0):
    """Blocks of one class each."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, classes, (height // block + 1, width // block + 1))
    return np.kron(small, np.ones((block, block)))[:height, :width].astype(dtype)


def identity(height, width, **changes):
    return Geometry(**{**dict.fromkeys(("scaled_height", "height"), height),
                       **dict.fromkeys(("scaled_width", "width"), width), **changes})  # fmt: skip


def apply(image, label, geometry, ignore_index=255, fill=FILL):
    return warp(image, label, geometry, ignore_index=ignore_index, fill=fill)


def difference(a, b):
    return np.abs(a.astype(np.float64) - b.astype(np.float64))


def away_from_edges(mask):
    """Pixels whose 7x7 neighbours are in the mask too; the outside of the canvas is not."""
    return cv2.erode(mask.astype(np.uint8), np.ones((7, 7)), borderValue=0) > 0


def draw_geometry(
    rng, height, width, *, base_size=None, crop_size=None, scale=True, flip=False, rotate=False
):
    """What the operations of pytorch-segmentation draw for an image of a size."""
    operations = (
        Scale(base_size=base_size, scale=scale), Rotate(rotate=rotate), Crop(crop_size=crop_size),
        Flip(flip=flip),
    )  # fmt: skip
    label = np.zeros((height, width), np.uint8)
    return TrainingSample(label[..., None], label, Streams(rng), operations, 255, 0).geometry()
