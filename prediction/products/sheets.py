"""Products to look at: the classes in their colours, or over the image, and a legend below."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from prediction.products.rows import ImageFacts, Rows
from utils.drawing.legend import Entry
from utils.drawing.legend_strip import (
    draw_legend_strip,
    legend_entries,
    legend_size,
    max_strip_height,
    max_strip_width,
)
from utils.drawing.overlay import is_background, lay_over, outline_thickness
from utils.drawing.palette import IGNORED_COLOUR, colorize, voc_palette
from utils.files.atomic_write import open_spool, refuse_existing
from utils.files.jpeg_writer import JpegWriter, check_jpeg_size
from utils.files.png_file import RGB
from utils.files.png_writer import PngWriter
from utils.files.row_writer import RowWriter

if TYPE_CHECKING:
    from prediction.products.kinds import Settings

PIECE_PIXELS = 4 << 20  # that are drawn at once; drawing takes some 30 bytes for each
_IN_MEMORY = 64 << 20  # bytes of rows that wait for the legend without a file of their own
_IGNORED = "ignored"


class Colour:
    """The classes in their colours."""

    needs: Iterable[str] = ()

    def __init__(self, path: Path, facts: ImageFacts, settings: Settings) -> None:
        self._names, self._palette = names_and_colours(facts)
        self._counts = np.zeros(len(self._names), np.int64)
        self._size = legend_size(facts.height, facts.width)
        self._sheet = Sheet(path, facts, settings, is_flat=True)

    def write(self, rows: Rows) -> None:
        """Take the next rows."""
        for piece in _pieces(len(rows.ids), rows.ids.shape[1]):
            ids = rows.ids[piece]
            self._counts += np.bincount(ids.ravel(), minlength=len(self._names))
            self._sheet.write(colorize(ids, self._palette))

    def finish(self) -> None:
        """Draw the legend, complete the file and give it its name."""
        self._sheet.finish(legend_entries(self._counts, self._names, self._palette))

    def discard(self) -> None:
        """Remove what has been written, unless the file is complete."""
        self._sheet.discard()


class Overlay:
    """The classes over the image: tinted regions with outlines, as `draw_overlay` draws them.

    Outlines reach over some rows on both sides of a border. So as many rows wait for the next ones,
    and as many drawn ones are kept for them.
    """

    needs: Iterable[str] = ("image",)

    def __init__(self, path: Path, facts: ImageFacts, settings: Settings) -> None:
        self._names, self._palette = names_and_colours(facts)
        self._clear = [i for i, name in enumerate(self._names) if is_background(name)]
        self._opacity = 0.0 if settings.outlines_only else settings.strength
        self._reach = outline_thickness(facts.height, facts.width)
        self._height = facts.height
        self._counts = np.zeros(len(self._names), np.int64)
        self._ids = np.empty((0, facts.width), np.uint8)
        self._image = np.empty((0, facts.width, 3), np.uint8)
        self._top = 0  # the row of the image that is the first in `_ids` and `_image`
        self._drawn = 0  # rows of the image
        self._sheet = Sheet(path, facts, settings, is_flat=False)

    def write(self, rows: Rows) -> None:
        """Take the next rows."""
        assert rows.image is not None  # `needs` asks for it
        for piece in _pieces(len(rows.ids), rows.ids.shape[1], 2 * self._reach):
            self._counts += np.bincount(rows.ids[piece].ravel(), minlength=len(self._names))
            self._draw(rows.ids[piece], rows.image[piece])

    def finish(self) -> None:
        """Draw the legend, complete the file and give it its name."""
        self._sheet.finish(legend_entries(self._counts, self._names, self._palette, self._clear))

    def discard(self) -> None:
        """Remove what has been written, unless the file is complete."""
        self._sheet.discard()

    def _draw(self, ids: np.ndarray, image: np.ndarray) -> None:
        if len(self._ids):
            ids = np.concatenate([self._ids, ids])
            image = np.concatenate([self._image, image])
        end = self._top + len(ids)
        ready = end if end == self._height else end - self._reach
        # Few rows at a time would be drawn again with each of the next ones.
        if end == self._height or ready >= self._drawn + self._reach:
            drawn = lay_over(
                image, ids, self._palette, clear=self._clear, opacity=self._opacity,
                thickness=self._reach,
            )  # fmt: skip
            self._sheet.write(drawn[self._drawn - self._top : ready - self._top])
            self._drawn = ready
        top = max(self._top, self._drawn - self._reach)
        self._ids, self._image = ids[top - self._top :].copy(), image[top - self._top :].copy()
        self._top = top


class Sheet:
    """An RGB image that comes row by row, and a legend below.

    Which classes the legend names, and so its size, is known only at the end. Where it may be wider
    than the image, the rows wait for it in memory or, if they are many, in a file without a name.
    """

    def __init__(self, path: Path, facts: ImageFacts, settings: Settings, *, is_flat: bool) -> None:
        self._path, self._facts, self._settings = path, facts, settings
        self._is_flat = is_flat
        self._size = legend_size(facts.height, facts.width)
        names = (*facts.classes, _IGNORED)
        if path.suffix == ".jpg":
            below = max_strip_height(len(names), self._size) if settings.legend else 0
            check_jpeg_size(path, facts.width, facts.height, below)
        self._writer: RowWriter | None = None
        self._spool: IO[bytes] | None = None
        if settings.legend and max_strip_width(names, self._size) > facts.width:
            if not settings.overwrite:
                refuse_existing(path)
            self._spool = open_spool(path, _IN_MEMORY)
        else:
            self._writer = self._open(facts.width)

    def write(self, rows: np.ndarray) -> None:
        """Take the next rows, (h, W, 3) uint8."""
        if self._writer is None:
            assert self._spool is not None
            self._spool.write(np.ascontiguousarray(rows).data)
        else:
            self._writer.write(rows)

    def finish(self, entries: Sequence[Entry]) -> None:
        """Add the legend, if one is wanted, complete the file and give it its name."""
        try:
            strip = np.empty((0, 0, 3), np.uint8)
            if self._settings.legend:
                strip = draw_legend_strip(entries, self._facts.width, self._size)
            width = max(self._facts.width, strip.shape[1])
            writer = self._writer = self._writer or self._open(width)
            for rows in itertools.chain(self._spooled(), _in_pieces(strip)):
                writer.write(_widened(rows, width))
            writer.finish()
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what has been written, unless the file is complete."""
        if self._spool is not None:
            self._spool.close()
        if self._writer is not None:
            self._writer.discard()

    def _spooled(self) -> Iterator[np.ndarray]:
        """Yield the rows that have waited."""
        if self._spool is None:
            return
        self._spool.seek(0)
        width = self._facts.width
        for piece in _pieces(self._facts.height, width):
            data = self._spool.read((piece.stop - piece.start) * width * 3)
            yield np.frombuffer(data, np.uint8).reshape(-1, width, 3)

    def _open(self, width: int) -> RowWriter:
        overwrite = self._settings.overwrite
        if self._path.suffix == ".jpg":
            return JpegWriter(self._path, width, overwrite=overwrite)
        height = None if self._settings.legend else self._facts.height
        return PngWriter(
            self._path, width, height, colour=RGB, flat=self._is_flat, overwrite=overwrite
        )


def names_and_colours(facts: ImageFacts) -> tuple[list[str], list[Sequence[int]]]:
    """Return the name and the colour of each id that may come, the ignored one's too."""
    names, colours = list(facts.classes), list[Sequence[int]](facts.palette)
    if facts.ignore_index is not None:
        missing = facts.ignore_index + 1 - len(names)
        if missing > 0:
            names += [""] * missing
            colours += voc_palette(len(names))[-missing:]
        names[facts.ignore_index] = _IGNORED
        colours[facts.ignore_index] = IGNORED_COLOUR
    return names, colours


def _pieces(height: int, width: int, least: int = 1) -> Iterator[slice]:
    """Yield slices of at least `least` rows, which have `PIECE_PIXELS` pixels if they are more."""
    step = max(least, PIECE_PIXELS // width, 1)
    for top in range(0, height, step):
        yield slice(top, min(height, top + step))


def _in_pieces(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[piece] for piece in _pieces(len(rows), max(1, rows.shape[1])))


def _widened(rows: np.ndarray, width: int) -> np.ndarray:
    """Return rows (h, w, 3) with white on their right."""
    if rows.shape[1] == width:
        return rows
    wide = np.full((len(rows), width, 3), 255, np.uint8)
    wide[:, : rows.shape[1]] = rows
    return wide
