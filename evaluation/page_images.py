"""Images and masks as parts of a page."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from utils.drawing.palette import colorize
from utils.drawing.visualize import pick

MAX_SIDE = 900  # pixels of an embedded image
JPEG_QUALITY = 85

# Laid over the faint grey image: right, wrong, ignored, with their opacity. Red and blue can be
# told from grey and from each other, also without red and green.
ERROR_COLOURS = ((0, 0, 0), (230, 40, 40), (60, 120, 240))
ERROR_OPACITY = (0, 235, 170)
RIGHT, WRONG, IGNORED = range(3)

Sides = tuple[int, int]


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


def fitting(height: int, width: int, max_side: int) -> Sides:
    """Return (width, height) of an image, scaled down to a largest side."""
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


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


def jpeg(image: np.ndarray) -> str:
    """Return a photograph as a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return _data_url("jpeg", buffer)


def mask_png(ids: np.ndarray, palette: Sequence[Sequence[int]], ignore_index: int | None) -> str:
    """Return class ids in their colours as a data URL."""
    found, indices = np.unique(ids, return_inverse=True)
    colours = colorize(found[None], palette, ignore_index)[0]
    if len(found) <= 256:
        return palette_png(indices.reshape(ids.shape), colours.tolist())
    buffer = io.BytesIO()
    Image.fromarray(colours[indices].reshape(*ids.shape, 3)).save(buffer, "PNG")
    return _data_url("png", buffer)


def palette_png(
    indices: np.ndarray, colours: Sequence[Sequence[int]], opacity: Sequence[int] = ()
) -> str:
    """Return an image of at most 256 colours as a data URL."""
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette(np.array(colours, np.uint8).tobytes())
    buffer = io.BytesIO()
    transparency = {"transparency": bytes(opacity)} if opacity else {}
    image.save(buffer, "PNG", **transparency)
    return _data_url("png", buffer)


def _data_url(kind: str, buffer: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


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
