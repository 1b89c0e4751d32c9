"""Pictures of images, labels and predictions."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from utils.cli.sanitize import one_line
from utils.drawing.fonts import drawable, length
from utils.drawing.legend import FAINT, FONT_SIZE, INK, PAPER, Entry, draw_legend, shorten, write
from utils.drawing.palette import IGNORED_COLOUR, colorize

TITLES = ("image", "label", "prediction")
MARGIN, GAP = 12, 8  # pixels
MAX_SIDE = 400  # larger images are shrunk to it
MIN_SIDE = 160  # smaller images are enlarged by whole factors
MAX_CLASSES_LISTED = 40  # if there are more, the legend names those that occur


class Comparison(NamedTuple):
    """An image, its label and its prediction."""

    name: str  # the name of the sample
    image: np.ndarray  # (H, W, 3) uint8 RGB
    label: np.ndarray  # (H, W) integers
    prediction: np.ndarray  # (H, W) integers in 0..K-1


SHOWN_SPREAD = 2  # standard deviations on each side of the mean, from black to white


def to_rgb(
    image: np.ndarray, bands: Sequence[int], mean: Sequence[float], std: Sequence[float]
) -> np.ndarray:
    """Convert an image of any bands and type to one that people can look at.

    8-bit values stay as they are; for others, black is two standard deviations below the mean of a
    band and white two above.

    Args:
        image: (H, W, C).
        bands: The channels to show as red, green and blue, or one to show in grey.
        mean: The mean of each channel, as for `normalize()`.
        std: The standard deviation of each channel.

    Returns:
        (H, W, 3) uint8.
    """
    chosen = image if list(bands) == list(range(image.shape[2])) else image[..., list(bands)]
    if image.dtype != np.uint8:
        centre = np.array([mean[band] for band in bands], np.float32)
        spread = np.array([std[band] for band in bands], np.float32) * SHOWN_SPREAD
        chosen = (chosen - centre) / (2 * spread) + 0.5
        chosen = np.rint(np.clip(chosen, 0, 1) * 255).astype(np.uint8)
    if chosen.shape[2] == 1:
        chosen = np.repeat(chosen, 3, axis=2)
    return np.ascontiguousarray(chosen)


def comparison_grid(
    shown: Sequence[Comparison],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    ignore_index: int,
) -> np.ndarray:
    """Draw rows of image, label and prediction under a legend of the classes, each with its name.

    Returns:
        (H, W, 3) uint8.
    """
    shown = [_resize(comparison) for comparison in shown]
    rows = [_cells(comparison, palette, ignore_index) for comparison in shown]
    column = max(*(cell.width for row in rows for cell in row), *map(_title_width, TITLES))
    width = len(TITLES) * (column + GAP) - GAP
    legend = draw_legend(_entries(shown, classes, palette, ignore_index), width, fractions=False)
    line = round(1.6 * FONT_SIZE)
    height = MARGIN + legend.height + 2 * GAP + line
    height += sum(line + row[0].height + GAP for row in rows) + MARGIN - GAP
    sheet = Image.new("RGB", (max(width, legend.width) + 2 * MARGIN, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    sheet.paste(legend, (MARGIN, MARGIN))
    top = MARGIN + legend.height + 2 * GAP
    for index, title in enumerate(TITLES):
        write(draw, (MARGIN + index * (column + GAP), top), title, INK)
    top += line
    for comparison, row in zip(shown, rows, strict=True):
        for index, cell in enumerate(row):
            sheet.paste(cell, (MARGIN + index * (column + GAP), top))
        top += row[0].height
        name = drawable(one_line(comparison.name), FONT_SIZE)
        write(draw, (MARGIN, top + 1), shorten(name, width, keep_end=True), FAINT)
        top += line + GAP
    return np.array(sheet)


def _title_width(title: str) -> int:
    return math.ceil(length(title, FONT_SIZE))


def _resize(comparison: Comparison) -> Comparison:
    """Return a comparison at the size of the grid; ids are picked, never mixed."""
    height, width = comparison.label.shape
    longest = max(height, width)
    scale = MAX_SIDE / longest if longest > MAX_SIDE else max(1, MIN_SIDE // longest)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return Comparison(
        comparison.name,
        cv2.resize(comparison.image, size, interpolation=smooth),
        pick(comparison.label, size),
        pick(comparison.prediction, size),
    )


def pick(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return ids (H, W) at a size (width, height), each the id of the nearest pixel."""
    (height, width), (columns, rows) = ids.shape, size
    row = ((np.arange(rows) + 0.5) * height / rows).astype(int)
    column = ((np.arange(columns) + 0.5) * width / columns).astype(int)
    return ids[row[:, None], column]


def _cells(
    comparison: Comparison, palette: Sequence[Sequence[int]], ignore_index: int
) -> list[Image.Image]:
    """Draw image, label and prediction."""
    cells = [
        comparison.image,
        colorize(comparison.label, palette, ignore_index),
        # Predictions of ignored pixels are shown, too.
        colorize(comparison.prediction, palette),
    ]
    return [Image.fromarray(cell) for cell in cells]


def _entries(
    shown: Sequence[Comparison],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    ignore_index: int,
) -> list[Entry]:
    """Return every class, or of many those that occur; and the ignored label if it occurs."""
    labels = {
        int(label)
        for comparison in shown
        for label in np.union1d(comparison.label, comparison.prediction)
    }
    entries = []
    for number, name in enumerate(classes):
        if number in labels or len(classes) <= MAX_CLASSES_LISTED:
            red, green, blue = palette[number]
            entries.append(Entry(name, (red, green, blue), 0.0, str(number)))
    ignored = Entry("ignored", IGNORED_COLOUR, 0.0)
    return [*entries, ignored] if any((c.label == ignore_index).any() for c in shown) else entries
