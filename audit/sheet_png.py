"""The contact sheet as one PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from audit.tiles import Tile
from utils.drawing.fonts import drawable, length
from utils.drawing.legend import (
    FAINT,
    FONT_SIZE,
    INK,
    PAPER,
    Entry,
    draw_legend,
    draw_swatch,
    entry_name,
    percent,
    shorten,
    write,
)
from utils.drawing.palette import save_image

COLUMNS = 2
CELL = 332  # pixels; a tile has two cells, the image and its labels
GAP = 8
MARGIN = 24
LINE = 18
WIDTH = 2 * MARGIN + COLUMNS * (2 * CELL + 3 * GAP)

ALARM = "#b42318"
MAX_LINES = 4  # lines of labels below a tile, and as many of messages


def write_png(path: Path, title: str, tiles: Sequence[Tile], legend: Sequence[Entry]) -> None:
    """Draw title, legend and tiles.

    Raises:
        OSError: If it cannot be written.
    """
    rows = [tiles[first : first + COLUMNS] for first in range(0, len(tiles), COLUMNS)]
    blocks = [_legend(title, legend), *(_row(row) for row in rows)]
    sheet = Image.new("RGB", (WIDTH, sum(block.height for block in blocks) + MARGIN), PAPER)
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    save_image(path, np.asarray(sheet), overwrite=True)


def _length(text: str) -> float:
    return length(text, FONT_SIZE)


def _legend(title: str, legend: Sequence[Entry]) -> Image.Image:
    """Draw the title, and the classes in columns."""
    classes = draw_legend(legend, WIDTH - 2 * MARGIN)
    block = Image.new("RGB", (WIDTH, MARGIN + 34 + classes.height + 20), PAPER)
    write(ImageDraw.Draw(block), (MARGIN, MARGIN - 6), drawable(title, 20), INK, 20)
    block.paste(classes, (MARGIN, MARGIN + 34))
    return block


def _row(tiles: Sequence[Tile]) -> Image.Image:
    drawn = [_tile(tile) for tile in tiles]
    block = Image.new("RGB", (WIDTH, max(image.height for image in drawn) + GAP), PAPER)
    for column, image in enumerate(drawn):
        block.paste(image, (MARGIN + column * (2 * CELL + 3 * GAP), 0))
    return block


def _tile(tile: Tile) -> Image.Image:
    """Draw image and labels side by side, the text below."""
    images = [_scaled(image) for image in (tile.image, tile.overlay) if image is not None]
    height = max([image.height for image in images], default=CELL // 3)
    block = Image.new("RGB", (2 * CELL + GAP, height + (2 * MAX_LINES + 2) * LINE), PAPER)
    draw = ImageDraw.Draw(block)
    for cell in range(2):
        x = cell * (CELL + GAP)
        if cell < len(images):
            block.paste(images[cell], (x, 0))
        else:
            text = "cannot be read" if tile.messages or not images else "no labels"
            draw.rectangle((x, 0, x + CELL - 1, height - 1), "#e5e7eb")
            write(draw, (x + CELL / 2, height / 2), text, FAINT, anchor="mm")
    y = height + 4
    size = "" if tile.size is None else f"  {tile.size[0]}x{tile.size[1]}"
    suffix = f"{size}  {tile.split}"
    room = block.width - int(_length(suffix))
    name = shorten(drawable(tile.name, FONT_SIZE), room, keep_end=True)
    write(draw, (0, y), name, INK)
    write(draw, (_length(name), y), suffix, FAINT)
    y = _entries(draw, tile.entries, y + LINE, block.width)
    for line in _wrapped(tile.messages, block.width)[:MAX_LINES]:
        write(draw, (0, y), line, ALARM)
        y += LINE
    return block.crop((0, 0, block.width, y + GAP))


def _scaled(image: np.ndarray) -> Image.Image:
    height = max(1, round(image.shape[0] * CELL / image.shape[1]))
    # A tall image keeps its aspect ratio.
    if height <= CELL * 3 // 2:
        return Image.fromarray(image).resize((CELL, height), Image.Resampling.LANCZOS)
    high = CELL * 3 // 2
    small = Image.fromarray(image).resize(
        (max(1, round(image.shape[1] * high / image.shape[0])), high), Image.Resampling.LANCZOS
    )
    block = Image.new("RGB", (CELL, high), PAPER)
    block.paste(small, ((CELL - small.width) // 2, 0))
    return block


def _entries(draw: ImageDraw.ImageDraw, entries: Sequence[Entry], y: int, width: int) -> int:
    """Draw swatches with names in lines; return where the next line starts."""
    x, lines = 0, 1
    for index, entry in enumerate(entries):
        text = f"{entry_name(entry)} {percent(entry.fraction)}"
        needed = 18 + int(_length(text)) + 12
        if x and x + needed > width:
            x, y, lines = 0, y + LINE, lines + 1
        if lines > MAX_LINES:
            write(draw, (0, y), f"and {len(entries) - index} more", FAINT)
            break
        draw_swatch(draw, x, y, entry)
        write(draw, (x + 18, y), text, INK)
        x += needed
    return y + LINE if entries else y


def _wrapped(texts: Sequence[str], width: int) -> list[str]:
    lines = []
    for text in texts:
        line = ""
        for word in drawable(text, FONT_SIZE).split():
            if line and _length(f"{line} {word}") > width:
                lines.append(line)
                line = ""
            line = f"{line} {word}".strip()
        lines.append(line)
    return lines
