"""One affine warp of an image and its label.

A pixel is interpolated once, and only pixels that the crop shows are computed.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from utils.transforms.geometry import Geometry, covered_output, output_to_source

# Bilinear reads two source pixels a direction: below this scale it would skip some of them.
AREA_BELOW = 0.5

# cv2.warpAffine carries its border colour in a four-element scalar.
WARP_CHANNELS = 4

BAND_ROWS = 96


def warp(
    image: np.ndarray,
    label: np.ndarray,
    geometry: Geometry,
    *,
    ignore_index: int,
    fill: float | Sequence[float],
) -> tuple[np.ndarray, np.ndarray]:
    """Apply a geometry to an image (bilinear) and its label (nearest).

    Where it shrinks to less than half, the image is first reduced by a whole factor with
    area averaging, so that nothing aliases. Along the edge of a rotated image half a source pixel
    blends into the fill colour.

    Args:
        image: (H, W, C), uint8, uint16, int16 or float32.
        label: (H, W), uint8 or int16.
        geometry: Scale, rotation, crop, mirroring and turns.
        ignore_index: Label of the pixels outside the source image.
        fill: Their colour, one value or one a channel, in the unit of `image`.

    Returns:
        Image (h, w, C) and label (h, w), contiguous and new.

    Raises:
        ValueError: If the sizes differ, or `label` cannot hold `ignore_index`, or `fill` has
            neither one value nor one a channel.
    """
    _check_pair(image, label, ignore_index)
    colour = fill_colour(image, fill)

    rows, columns = covered_output(geometry)
    size = (columns.stop - columns.start, rows.stop - rows.start)
    # Without rotation the rectangle shows nothing but the image, and clamping at its edges is
    # what a resize does. With rotation the warp fills the corners.
    border = cv2.BORDER_CONSTANT if geometry.angle else cv2.BORDER_REPLICATE
    matrix = output_to_source(label.shape, geometry, rows.start, columns.start)

    factor = _reduction(image.shape[0], image.shape[1], geometry)
    y0, y1, x0, x1 = _source_window(matrix, size, label.shape, factor)
    to_indices = _to_indices(matrix, x0, y0, factor)
    image = _reduce(image[y0:y1, x0:x1], factor)
    image = _warp_channels(image, to_indices, size, border, colour)
    label = cv2.warpAffine(
        label[y0:y1, x0:x1],
        _to_indices(matrix, x0, y0, 1),
        size,
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=border,
        borderValue=(ignore_index,),
    )
    height, width = geometry.output_size
    if size == (width, height):
        return image, label

    # Copies of one line: NumPy fills an image with a colour ten times slower.
    line = np.tile(np.array(colour, image.dtype), (width, 1))
    padded_image = np.empty((height, *line.shape), image.dtype)
    padded_image.reshape(height, -1)[:] = line.ravel()
    padded_label = np.full((height, width), ignore_index, label.dtype)
    padded_image[rows, columns] = image
    padded_label[rows, columns] = label
    return padded_image, padded_label


def thin_label(
    label: np.ndarray, geometry: Geometry, step: int, *, ignore_index: int
) -> np.ndarray:
    """Return what `warp` makes of a label, at the centres of squares of `step` pixels only.

    Args:
        label: (H, W), uint8 or int16.
        geometry: See `warp`.
        step: Distance of two points in the output, in pixels.
        ignore_index: Label of the points outside the source image.

    Returns:
        Labels (h // step, w // step).
    """
    matrix = output_to_source(label.shape, geometry)
    matrix[:, :2] *= step
    height, width = geometry.output_size
    return cv2.warpAffine(
        label,
        _to_indices(matrix, 0, 0, 1),
        (width // step, height // step),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(ignore_index,),
    )


def _check_pair(image: np.ndarray, label: np.ndarray, ignore_index: int) -> None:
    """Raise `ValueError` where OpenCV would return a wrong image instead of an error."""
    if image.ndim != 3 or image.shape[:2] != label.shape:
        raise ValueError(
            f"expected an image (H, W, C) and a label (H, W) of one size, got {image.shape} and "
            f"{label.shape}"
        )
    if label.dtype not in (np.uint8, np.int16):
        raise ValueError(f"expected a label of type uint8 or int16, got {label.dtype}")
    limits = np.iinfo(label.dtype)
    if not limits.min <= ignore_index <= limits.max:
        raise ValueError(
            f"a label of type {label.dtype} cannot hold ignore_index {ignore_index}: "
            f"give it as {'int16' if label.dtype == np.uint8 else 'uint8'}"
        )


def fill_colour(image: np.ndarray, fill: float | Sequence[float]) -> tuple[float, ...]:
    """Return one fill value a channel, rounded where the image holds whole numbers."""
    channels = image.shape[2]
    values = np.atleast_1d(fill).tolist()
    if len(values) == 1:
        values *= channels
    if len(values) != channels:
        raise ValueError(f"expected one fill value or {channels}, one a channel, got {len(values)}")
    if image.dtype.kind == "f":
        return tuple(float(value) for value in values)
    return tuple(float(math.floor(value + 0.5)) for value in values)


def _source_window(
    matrix: np.ndarray, size: tuple[int, int], source_size: tuple[int, ...], factor: int
) -> tuple[int, int, int, int]:
    """Bound the source pixels that the output reads, in whole squares of `factor`.

    Returns:
        (y0, y1, x0, x1), never empty.
    """
    columns, rows = size
    bounds = []
    for (by_x, by_y, offset), side in zip(matrix[::-1].tolist(), source_size, strict=True):
        low = offset + min(by_x * columns, 0) + min(by_y * rows, 0)
        high = offset + max(by_x * columns, 0) + max(by_y * rows, 0)
        # Two squares of margin: one that bilinear reads beyond, one for rounding.
        first = min(max(math.floor(low / factor) - 2, 0), (side - 1) // factor)
        last = max(math.ceil(high / factor) + 2, first + 1)
        bounds += [first * factor, min(last * factor, side)]
    y0, y1, x0, x1 = bounds
    return y0, y1, x0, x1


def _reduction(source_height: int, source_width: int, geometry: Geometry) -> int:
    """Return the whole factor by which the image is averaged before the warp; 1 for none."""
    scale = max(geometry.scaled_height / source_height, geometry.scaled_width / source_width)
    # A quarter that came out as 0.25 plus rounding is still a factor of four.
    return int(1 / scale + 1e-9) if scale < AREA_BELOW else 1


def _reduce(image: np.ndarray, factor: int) -> np.ndarray:
    """Average (H, W, C) over squares of `factor`; the last ones are completed by their edge."""
    if factor == 1:
        return image
    height, width, channels = image.shape
    rest_y, rest_x = -height % factor, -width % factor
    # OpenCV averages whole squares ten times faster than fractions of a pixel.
    if rest_y or rest_x:
        image = cv2.copyMakeBorder(image, 0, rest_y, 0, rest_x, cv2.BORDER_REPLICATE)
    size = ((width + rest_x) // factor, (height + rest_y) // factor)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], channels)


def _to_indices(matrix: np.ndarray, x0: int, y0: int, factor: int) -> np.ndarray:
    """Turn a continuous map into one of array indices of the reduced window at (x0, y0)."""
    (a, b, c), (d, e, f) = matrix.tolist()
    # Half a pixel in on the output side, half a pixel out on the source side.
    c += (a + b) / 2 - x0
    f += (d + e) / 2 - y0
    return np.array(
        [[a / factor, b / factor, c / factor - 0.5], [d / factor, e / factor, f / factor - 0.5]]
    )


def _warp_channels(
    image: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int],
    border: int,
    colour: tuple[float, ...],
) -> np.ndarray:
    """Warp (H, W, C) bilinearly to `size` (width, height) for any C, four channels at a time."""
    if image.shape[2] == 3 and image.dtype == np.uint8:
        return _warp_rgb(image, matrix, size, border, colour)

    def warp_from(first: int) -> np.ndarray:
        return cv2.warpAffine(
            image[:, :, first : first + WARP_CHANNELS],
            matrix,
            size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=border,
            borderValue=colour[first : first + WARP_CHANNELS],
        )

    if image.shape[2] <= WARP_CHANNELS:
        return warp_from(0).reshape(size[1], size[0], -1)
    return np.dstack([warp_from(first) for first in range(0, image.shape[2], WARP_CHANNELS)])


def _warp_rgb(
    image: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int],
    border: int,
    colour: tuple[float, ...],
) -> np.ndarray:
    """Warp (H, W, 3) uint8 bilinearly by way of a fourth channel, a band of rows at a time.

    OpenCV 5 warps four channels in little more than half the time of three. Bands keep the
    four-channel result in the cache and out of the system's allocator, which gains as much again.
    """
    rgba = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    warped = np.empty((size[1], size[0], 3), np.uint8)
    for top in range(0, size[1], BAND_ROWS):
        band = warped[top : top + BAND_ROWS]
        band_matrix = matrix.copy()
        band_matrix[:, 2] += top * matrix[:, 1]
        band_rgba = cv2.warpAffine(
            rgba,
            band_matrix,
            (size[0], len(band)),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=border,
            borderValue=(*colour, 0.0),
        )
        cv2.cvtColor(band_rgba, cv2.COLOR_RGBA2RGB, dst=band)
    return warped
