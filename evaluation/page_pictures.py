"""Pictures and masks as parts of a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from utils.drawing.palette import colorize

MAX_SIDE = 900  # pixels of an embedded picture
JPEG_QUALITY = 85

# Laid over the faint grey picture: right, wrong, ignored, with their opacity. Red and blue can be
# told from grey and from each other, also without red and green.
ERROR_COLOURS = ((0, 0, 0), (230, 40, 40), (60, 120, 240))
ERROR_OPACITY = (0, 235, 170)
RIGHT, WRONG, IGNORED = range(3)

Sides = tuple[int, int]


class Thumbnail(NamedTuple):
    """A picture, or a part of one, with its ids; small enough to be kept.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        label: (H, W) ids.
        prediction: (H, W) ids.
        outline: An SVG path around a region, in pixels of the picture; empty for none.
    """

    picture: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    outline: str = ""


class View(NamedTuple):
    """An embedded picture: its kind, what it is called, its address."""

    kind: str
    name: str
    address: str


def fitting(height: int, width: int, max_side: int) -> Sides:
    """(width, height) of a picture scaled down to a largest side."""
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrink(shot: Thumbnail, max_side: int) -> Thumbnail:
    """The shot at the size at which it is embedded; ids are picked, never mixed."""
    height, width = shot.label.shape
    size = fitting(height, width, max_side)
    if size == (width, height):
        return shot
    picture = cv2.resize(shot.picture, size, interpolation=cv2.INTER_AREA)
    rows = ((np.arange(size[1]) + 0.5) * height / size[1]).astype(int)[:, None]
    columns = ((np.arange(size[0]) + 0.5) * width / size[0]).astype(int)
    return Thumbnail(
        picture, shot.label[rows, columns], shot.prediction[rows, columns], shot.outline
    )


def encode(
    shot: Thumbnail, palette: Sequence[Sequence[int]], ignore_index: int, max_side: int
) -> list[View]:
    """Picture, label, prediction and errors as data addresses.

    Args:
        shot: What to show.
        palette: A colour for each class.
        ignore_index: The label that does not count.
        max_side: They are scaled down to it.
    """
    small = shrink(shot, max_side)
    ignored = small.label == ignore_index
    errors = np.where(ignored, IGNORED, np.where(small.label == small.prediction, RIGHT, WRONG))
    return [
        View("picture", "Picture", jpeg(small.picture)),
        View("label", "Label", mask_png(small.label, palette, ignore_index)),
        View("prediction", "Prediction", mask_png(small.prediction, palette, None)),
        View("error", "Errors", palette_png(errors, ERROR_COLOURS, ERROR_OPACITY)),
    ]


def jpeg(picture: np.ndarray) -> str:
    """A photograph as a data address."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return _address("jpeg", buffer)


def mask_png(ids: np.ndarray, palette: Sequence[Sequence[int]], ignore_index: int | None) -> str:
    """Class ids in their colours as a data address."""
    found, places = np.unique(ids, return_inverse=True)
    colours = colorize(found[None], palette, ignore_index)[0]
    if len(found) <= 256:
        return palette_png(places.reshape(ids.shape), colours.tolist())
    buffer = io.BytesIO()
    Image.fromarray(colours[places].reshape(*ids.shape, 3)).save(buffer, "PNG")
    return _address("png", buffer)


def palette_png(
    places: np.ndarray, colours: Sequence[Sequence[int]], opacity: Sequence[int] = ()
) -> str:
    """At most 256 colours as a data address."""
    image = Image.fromarray(places.astype(np.uint8))
    image.putpalette(np.array(colours, np.uint8).tobytes())
    buffer = io.BytesIO()
    transparency = {"transparency": bytes(opacity)} if opacity else {}
    image.save(buffer, "PNG", **transparency)
    return _address("png", buffer)


def _address(kind: str, buffer: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def outline(region: np.ndarray) -> str:
    """The contours of a region (H, W) bool as an SVG path, along the edges of its pixels."""
    # At twice the size the contour of the pixels' centres runs near their edges.
    large = np.pad(region.astype(np.uint8).repeat(2, 0).repeat(2, 1), 1)
    contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    paths = []
    for contour in contours:
        points = (cv2.approxPolyDP(contour, 1.0, True)[:, 0] - 0.5) / 2
        paths.append("M" + "L".join(f"{x:g} {y:g}" for x, y in points.tolist()) + "Z")
    return "".join(paths)
