"""Images and masks as parts of a page."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from utils.drawing.palette import colorize

JPEG_QUALITY = 85

Sides = tuple[int, int]


def fitting(height: int, width: int, max_side: int) -> Sides:
    """Return (width, height) of an image, scaled down to a largest side."""
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


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
