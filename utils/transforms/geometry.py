"""The geometry of one sample as a value, and the affine maps that it stands for.

Scaling, rotation, crop, flips and quarter turns are one affine map from the output back to the
source. Coordinates are continuous: pixel `i` covers `[i, i + 1)` and its centre is `i + 0.5`. With
that convention a pure scale equals `cv2.resize`, and a pure crop, flip or quarter turn equals
indexing.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np


class Geometry(NamedTuple):
    """The position of a crop in the scaled and rotated image, its mirroring and its turns."""

    scaled_height: int  # height of the whole image after scaling, in pixels
    scaled_width: int  # width of the whole image after scaling, in pixels
    height: int  # height of the crop, in pixels; the output's, unless a quarter turn swaps the two
    width: int  # width of the crop, in pixels
    top: int = 0  # first row of the crop in the scaled image
    left: int = 0  # first column of the crop in the scaled image
    angle: float = 0.0  # counter-clockwise rotation about the image's centre, in degrees
    flip: bool = False  # whether the crop is mirrored left to right
    vertical_flip: bool = False  # whether it is then mirrored top to bottom
    quarter_turns: int = 0  # counter-clockwise turns by 90 degrees after that, 0 to 3

    @property
    def output_size(self) -> tuple[int, int]:
        """Return (height, width) of the output, in pixels."""
        size = (self.height, self.width)
        return size[::-1] if self.quarter_turns % 2 else size


def source_to_canvas(
    points: np.ndarray, geometry: Geometry, source_size: tuple[int, ...]
) -> np.ndarray:
    """Map points of the source to the scaled and rotated image, before the crop.

    Args:
        points: (N, 2), x and y, continuous.
        geometry: Its scale and angle are applied.
        source_size: (H, W) of the source.

    Returns:
        (N, 2), x and y, continuous; outside the scaled size where the rotation moved them there.
    """
    size = (geometry.scaled_height, geometry.scaled_width)
    matrix = output_to_source(source_size, Geometry(*size, *size, angle=geometry.angle))
    inverse = cv2.invertAffineTransform(matrix)
    return points @ inverse[:, :2].T + inverse[:, 2]


def _covered(geometry: Geometry) -> tuple[int, int]:
    """Count the first rows and columns of the crop, not yet turned over, that show the image."""
    height, width = geometry.scaled_height, geometry.scaled_width
    radians = math.radians(geometry.angle)
    cos, sin = abs(math.cos(radians)), abs(math.sin(radians))
    bottom = (height + cos * height + sin * width) / 2 - geometry.top
    right = (width + cos * width + sin * height) / 2 - geometry.left
    return (
        min(max(math.ceil(bottom), 1), geometry.height),
        min(max(math.ceil(right), 1), geometry.width),
    )


def covered_output(geometry: Geometry) -> tuple[slice, slice]:
    """Return the rows and columns of the output that show the image."""
    rows, columns = _covered(geometry)
    (a, b, x), (c, d, y) = _output_to_crop(geometry)
    # The inverse of a map of this kind is its transpose.
    corners = [(-x, -y), (columns - x, rows - y)]
    left, right = sorted(a * dx + c * dy for dx, dy in corners)
    top, bottom = sorted(b * dx + d * dy for dx, dy in corners)
    return slice(top, bottom), slice(left, right)


def _output_to_crop(geometry: Geometry) -> list[tuple[int, int, int]]:
    """Return the rows of a map from output coordinates to the crop's before its flips and turns."""
    rows = []
    for a, b, offset in ((1, 0, 0), (0, 1, 0)):
        if geometry.flip:
            a, offset = -a, offset + a * geometry.width
        if geometry.vertical_flip:
            b, offset = -b, offset + b * geometry.height
        for turn in range(geometry.quarter_turns):
            # A row from the top of the turned image is a column from the right before the turn.
            width = geometry.height if turn % 2 else geometry.width
            a, b, offset = b, -a, offset + a * width
        rows.append((a, b, offset))
    return rows


def output_to_source(
    source_size: tuple[int, ...], geometry: Geometry, first_row: int = 0, first_column: int = 0
) -> np.ndarray:
    """Map continuous output coordinates to continuous source coordinates.

    Args:
        source_size: (H, W) of the source.
        geometry: The map to the output.
        first_row: Output row at which the computed rectangle starts.
        first_column: Output column at which it starts.

    Returns:
        Matrix (2, 3) for column vectors (x, y, 1).
    """
    scale_x = source_size[1] / geometry.scaled_width
    scale_y = source_size[0] / geometry.scaled_height
    centre_x, centre_y = geometry.scaled_width / 2, geometry.scaled_height / 2
    radians = math.radians(geometry.angle)
    cos, sin = math.cos(radians), math.sin(radians)

    # Output to scaled canvas: undo turns and flips, then shift by the crop's corner.
    (a, b, x), (c, d, y) = _output_to_crop(geometry)
    offset_x = x + a * first_column + b * first_row + geometry.left - centre_x
    offset_y = y + c * first_column + d * first_row + geometry.top - centre_y

    # Canvas to source: turn back about the centre, then undo the scale.
    return np.array(
        [
            [
                scale_x * (cos * a - sin * c),
                scale_x * (cos * b - sin * d),
                scale_x * (cos * offset_x - sin * offset_y + centre_x),
            ],
            [
                scale_y * (sin * a + cos * c),
                scale_y * (sin * b + cos * d),
                scale_y * (sin * offset_x + cos * offset_y + centre_y),
            ],
        ]
    )
