"""A legend of classes: swatches, names and fractions in columns."""

import dataclasses
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from utils.cli.sanitize import one_line
from utils.drawing.fonts import drawable, font_for, length

PAPER, INK, FAINT, BORDER = "#ffffff", "#1d2129", "#6b7280", "#9ca3af"
FONT_SIZE = 13
MAX_LETTERS = 200  # letters of a name from an untrusted file, before it is measured
MAX_ENTRIES = 200  # entries of a legend, for the same reason
WIDEST = 20  # width of a column, in font sizes

Colour = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A label in an image."""

    name: str  # the name of the class
    colour: Colour  # the colour that it is drawn in
    fraction: float  # its fraction of the image, 0..1
    number: str = ""  # the class id, shown if no font has the characters of the name
    tinted: bool = True  # whether the colour is visible in the image; else the swatch is empty


def draw_legend(
    entries: Sequence[Entry], width: int, size: int = FONT_SIZE, *, fractions: bool = True
) -> Image.Image:
    """Draw the entries in as many columns as fit, from top to bottom.

    Args:
        entries: The entries; those beyond `MAX_ENTRIES` are only counted.
        width: The width of the legend in pixels; it becomes wider if a name needs that.
        size: The size of the font, which everything else follows.
        fractions: Whether to show the fraction of the image that each has.

    Returns:
        (width, height) RGB, without a margin.
    """
    shown = entries[:MAX_ENTRIES]
    texts = [
        (entry_name(entry, size), f" {percent(entry.fraction)}" * fractions) for entry in shown
    ]
    gap, line = 1.2 * size, round(1.45 * size)
    indent = round(1.4 * size)
    needed = max((indent + length("".join(pair), size) for pair in texts), default=0) + gap
    wide = min(math.ceil(needed) + 1, WIDEST * size)
    columns = max(int((width + gap) // max(wide, 1)), least_columns(len(shown)))
    lines = -(-len(shown) // columns)
    more = len(entries) - len(shown)
    columns = -(-len(shown) // max(lines, 1))
    size_of_block = (max(width, math.ceil(columns * wide - gap)), (lines + bool(more)) * line)
    block = Image.new("RGB", size_of_block, PAPER)
    draw = ImageDraw.Draw(block)
    for index, (entry, (name, fraction)) in enumerate(zip(shown, texts, strict=True)):
        column, row = divmod(index, lines)
        x, y = round(column * wide), row * line
        draw_swatch(draw, x, y, entry, size)
        room = wide - gap - indent - length(fraction, size)
        name = shorten(name, room, size)
        write(draw, (x + indent, y), name, INK, size)
        write(draw, (x + indent + length(name, size), y), fraction, FAINT, size)
    if more:
        write(draw, (0, lines * line), f"and {more} more", FAINT, size)
    return block


def least_columns(entries: int) -> int:
    """Return how many columns so many entries have even if the image is too narrow for them."""
    return max(1, round(entries**0.5 / 2.5))  # a single column would be far too long


def draw_swatch(
    draw: ImageDraw.ImageDraw, x: int, y: int, entry: Entry, size: int = FONT_SIZE
) -> None:
    """Draw the colour of an entry beside a line of text at (x, y)."""
    top = y + round(0.15 * size)
    colour = entry.colour if entry.tinted else PAPER
    border = max(1, size // 13)
    draw.rectangle((x, top, x + size - 1, top + size - 1), colour, BORDER, border)


def entry_name(entry: Entry, size: int = FONT_SIZE) -> str:
    """Return the name of an entry in characters that can be drawn, on one line."""
    return drawable(one_line(entry.name[:MAX_LETTERS]), size, entry.number)


def percent(fraction: float) -> str:
    """Return a fraction in per cent: `<1 %`, `12 %`."""
    return "<1 %" if fraction < 0.01 else f"{100 * fraction:.0f} %"


def shorten(text: str, width: float, size: int = FONT_SIZE, *, keep_end: bool = False) -> str:
    """Return a line of text, cut to `width` pixels: at its end, or at its start with `keep_end`."""
    if length(text, size) <= width:
        return text

    def cut(letters: int) -> str:
        return f"…{text[len(text) - letters :]}" if keep_end else f"{text[:letters]}…"

    fits, too_many = 0, len(text)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if length(cut(middle), size) <= width:
            fits = middle
        else:
            too_many = middle
    return cut(fits)


def write(
    draw: ImageDraw.ImageDraw,
    xy: tuple[float, float],
    text: str,
    colour: str,
    size: int = FONT_SIZE,
    anchor: str | None = None,
) -> None:
    """Write a line of text in a font that has its characters."""
    draw.text(xy, text, colour, font_for(text, size), anchor=anchor)
