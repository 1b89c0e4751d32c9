"""Classes drawn over an image: tints, outlines and a legend below."""

from collections.abc import Sequence

import cv2
import numpy as np

from utils.drawing.legend_strip import draw_legend_strip, legend_entries, legend_size, size_factor
from utils.drawing.palette import blend, colorize

OPACITY = 0.45
BRIGHT = 210  # lower bound of the largest of an outline's red, green and blue

# Names of classes that mean "nothing here": their regions are not tinted. Compared in
# lower case, without spaces, underscores and hyphens.
BACKGROUNDS = frozenset(
    ("background", "bg", "void", "unlabelled", "unlabeled", "none", "nothing", "other", "others",
     "empty", "unknown", "unclassified", "ignore", "ignored")
)  # fmt: skip


def is_background(name: str) -> bool:
    """Return whether a class means "nothing here", by its name: `_background_`, `Void`."""
    return name.casefold().translate(str.maketrans("", "", " _-")) in BACKGROUNDS


def draw_overlay(
    image: np.ndarray, ids: np.ndarray, classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> np.ndarray:
    """Draw the classes over an image, and a legend of those that occur below it.

    Args:
        image: (H, W, 3) uint8 RGB.
        ids: (H, W) integers in 0..K-1.
        classes: K names.
        palette: A colour for each.

    Returns:
        (H + legend, W or, for narrow images, more, 3) uint8 RGB; the image is at its top left,
        pixel for pixel.
    """
    clear = [number for number, name in enumerate(classes) if is_background(name)]
    height, width = ids.shape
    tinted = lay_over(image, ids, palette, clear=clear, thickness=outline_thickness(height, width))
    counts = np.bincount(ids.ravel(), minlength=len(classes))
    entries = legend_entries(counts, classes, palette, clear)
    strip = draw_legend_strip(entries, width, legend_size(height, width))
    sheet = np.full((height + len(strip), max(width, strip.shape[1]), 3), 255, np.uint8)  # PAPER
    sheet[:height, :width] = tinted
    sheet[height:, : strip.shape[1]] = strip
    return sheet


def outline_thickness(height: int, width: int) -> int:
    """Return the thickness of outlines in an image of a size, for `lay_over`."""
    return round(size_factor(height, width))


def lay_over(
    image: np.ndarray,
    ids: np.ndarray,
    palette: Sequence[Sequence[int]],
    *,
    clear: Sequence[int] = (),
    opacity: float = OPACITY,
    thickness: int = 1,
) -> np.ndarray:
    """Tint the regions of an image, and outline them in their full colour on their inner side.

    Args:
        image: (H, W, 3) uint8 RGB.
        ids: (H, W) integers in 0..K-1.
        palette: A colour for each.
        clear: The ids whose regions are left as they are.
        opacity: Opacity of the tint, 0..1.
        thickness: Thickness of an outline on each side of a boundary, in pixels.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    colours = colorize(ids, palette)
    result = blend(image, colours, opacity)
    edges: np.ndarray = np.zeros(ids.shape, np.uint8)
    beside, below = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edges[:, 1:] |= beside
    edges[:, :-1] |= beside
    edges[1:] |= below
    edges[:-1] |= below
    if thickness > 1:
        edges = cv2.dilate(edges, np.ones((2 * thickness - 1,) * 2, np.uint8))
    cv2.copyTo(colorize(ids, outline_colours(palette)), edges, result)
    if len(clear):
        is_clear = np.zeros(len(palette), np.uint8)
        is_clear[list(clear)] = 1
        cv2.copyTo(np.ascontiguousarray(image), is_clear[ids], result)
    return result


def outline_colours(palette: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return colours that stand out: dark ones are brighter, of the same hue; black is grey."""
    colours = []
    for colour in palette:
        brightest = max(colour)
        factor = max(1.0, BRIGHT / brightest) if brightest else 0.0
        colours.append([round(value * factor) if brightest else BRIGHT for value in colour])
    return colours
