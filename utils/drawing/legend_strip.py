"""The legend below an image: which classes it names, its size, and its pixels."""

import functools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from utils.drawing.fonts import length
from utils.drawing.legend import (
    FONT_SIZE,
    MAX_ENTRIES,
    PAPER,
    WIDEST,
    Entry,
    draw_legend,
    entry_name,
    least_columns,
    percent,
)

# An outline is one pixel wide in an image of this many, and the font has its usual size.
USUAL_SIDE = 900
MAX_FACTOR = 15  # larger images are mosaics, which nobody looks at as a whole in their full size
MAX_LETTERS_WIDE = 100  # the width of a legend in font sizes; a mosaic is far wider


def size_factor(height: int, width: int) -> float:
    """Return by how much more than in an image of the usual size outlines and letters measure."""
    return min(max(1.0, max(height, width) / USUAL_SIDE), MAX_FACTOR)


def legend_size(height: int, width: int) -> int:
    """Return the size of the font below an image."""
    return round(FONT_SIZE * size_factor(height, width))


def legend_entries(
    counts: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    clear: Sequence[int] = (),
) -> list[Entry]:
    """Return an entry for each class that occurs, the most frequent one first.

    Args:
        counts: How many pixels each class has.
        classes: Their names.
        palette: A colour for each.
        clear: The classes whose colour is not visible in the image.
    """
    entries = []
    for number in np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist():
        red, green, blue = palette[number]
        fraction = float(counts[number]) / int(counts.sum())
        is_tinted = number not in clear
        entries.append(Entry(classes[number], (red, green, blue), fraction, str(number), is_tinted))
    return entries


def draw_legend_strip(
    entries: Sequence[Entry], width: int, size: int, *, fractions: bool = True
) -> np.ndarray:
    """Draw a legend with a margin, to go below an image.

    Args:
        entries: The entries.
        width: The width of the image in pixels.
        size: The size of the font.
        fractions: Whether to show the fraction of the image that each has.

    Returns:
        (h, w, 3) uint8 RGB; w is the width of the image, more if a name needs that, and less below
        a very wide image.
    """
    margin = size
    room = max(1, min(width - 2 * margin, MAX_LETTERS_WIDE * size))
    legend = draw_legend(entries, room, size, fractions=fractions)
    strip = Image.new("RGB", (legend.width + 2 * margin, legend.height + 2 * margin), PAPER)
    strip.paste(legend, (margin, margin))
    return np.asarray(strip)


@functools.lru_cache(64)
def max_strip_width(classes: tuple[str, ...], size: int) -> int:
    """Return an upper bound of the width that a legend of some of these classes needs."""
    entries = [Entry(name, (0, 0, 0), 0.0, str(number)) for number, name in enumerate(classes)]
    fraction = max((f" {percent(n / 100)}" for n in range(101)), key=lambda t: length(t, size))
    longest = max((length(entry_name(e, size) + fraction, size) for e in entries), default=0)
    # The indent of a name, the gap between columns, and one more for what rounding adds.
    column = min(math.ceil(longest + 4 * size), WIDEST * size)
    return least_columns(min(len(classes), MAX_ENTRIES)) * column + 2 * size


def max_strip_height(num_classes: int, size: int) -> int:
    """Return an upper bound of the height of a legend of some of so many classes."""
    return (min(num_classes, MAX_ENTRIES) + 1) * 2 * size + 2 * size
