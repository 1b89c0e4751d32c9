"""Images and masks as parts of a page."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from utils.drawing.visualize import pick
from utils.pages.images import fitting, jpeg, mask_png, palette_png

MAX_SIDE = 900  # pixels of an embedded image

# Laid over the faint grey image: right, wrong, ignored, with their opacity. Red and blue can be
# told from grey and from each other, also without red and green.
ERROR_COLOURS = ((0, 0, 0), (230, 40, 40), (60, 120, 240))
ERROR_OPACITY = (0, 235, 170)
RIGHT, WRONG, IGNORED = range(3)


class Thumbnail(NamedTuple):
    """An image, or a crop of one, with its ids; small enough to be kept."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    label: np.ndarray  # (H, W) ids
    prediction: np.ndarray  # (H, W) ids
    # An SVG path around a region, in pixels of the whole image or crop; empty for none.
    outline: str = ""


class View(NamedTuple):
    """An embedded image: its kind, its name, its data URL."""

    kind: str
    name: str
    url: str


def shrink(thumbnail: Thumbnail, max_side: int) -> Thumbnail:
    """Return a thumbnail of at most this side; ids are picked, never mixed."""
    height, width = thumbnail.label.shape
    size = fitting(height, width, max_side)
    if size == (width, height):
        return thumbnail
    return thumbnail._replace(
        image=cv2.resize(thumbnail.image, size, interpolation=cv2.INTER_AREA),
        label=pick(thumbnail.label, size),
        prediction=pick(thumbnail.prediction, size),
    )


def encode(
    thumbnail: Thumbnail, palette: Sequence[Sequence[int]], ignore_index: int, max_side: int
) -> list[View]:
    """Return image, label, prediction and errors as data URLs."""
    small = shrink(thumbnail, max_side)
    ignored = small.label == ignore_index
    errors = np.where(ignored, IGNORED, np.where(small.label == small.prediction, RIGHT, WRONG))
    return [
        View("image", "Image", jpeg(small.image)),
        View("label", "Label", mask_png(small.label, palette, ignore_index)),
        View("prediction", "Prediction", mask_png(small.prediction, palette, None)),
        View("error", "Errors", palette_png(errors, ERROR_COLOURS, ERROR_OPACITY)),
    ]


def outline(region: np.ndarray) -> str:
    """Return the contours of a region (H, W) bool as an SVG path along the edges of its pixels."""
    # At twice the size, the contour through the centres of pixels runs near their edges.
    large = np.pad(region.astype(np.uint8).repeat(2, 0).repeat(2, 1), 1)
    contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    paths = []
    for contour in contours:
        points = (cv2.approxPolyDP(contour, 1.0, True)[:, 0] - 0.5) / 2
        paths.append("M" + "L".join(f"{x:g} {y:g}" for x, y in points.tolist()) + "Z")
    return "".join(paths)
