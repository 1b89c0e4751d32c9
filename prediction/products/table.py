"""One table of all images of a folder: how much of each class is in them."""

import csv
import functools
import heapq
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np

from prediction.products.image_name import image_name
from prediction.products.journal import Entry, Journal, Place
from prediction.products.map_facts import area_unit, pixel_area
from prediction.products.regions import RegionFinder, Regions
from prediction.products.rows import ImageFacts, Product, Rows
from utils.files.atomic_write import new_file
from utils.files.data_file import DataError
from utils.runs.metrics_csv import column_name

NAME = "table.csv"
COLUMNS = (
    "image", "class_id", "class", "pixels", "share", "area", "unit", "mean_confidence", "regions",
)  # fmt: skip

Line = list[str]


class RunTable:
    """A CSV file, `table.csv`, with a line for each class and image, also for absent classes.

    `area` is in the unit that `unit` names, and empty for images without a geo-reference.
    `regions` counts regions whose pixels touch at their sides. Where the model may be unsure, or
    the image may have no data, the pixels of the ignored id have a line of their own, so that the
    shares of all pixels add up to 1.

    Lines of images that are not predicted again are kept. Until `close` the lines of a run lie in a
    journal beside the table, so that a run that is killed loses unfinished images only; the next
    one takes them over. Several processes may write to one folder.

    Args:
        folder: Where the table is, or will be.

    Raises:
        DataError: If there is a `table.csv` that something else has written.
        OSError: If it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._journal = Journal(self._path)
        self._images = {line[0] for line in _read_table(self._path)} | set(self._journal.waiting())

    def has(self, relative: PurePath) -> bool:
        """Return whether the table has an image, by its path below the folder of images."""
        return _cell(relative) in self._images

    def is_complete(self) -> bool:
        """Return whether the table is there, with the lines of all images that were finished."""
        return self._path.exists() and not self._journal.waiting()

    def product(self, facts: ImageFacts) -> Product:
        """Return the product that adds the lines of an image, when it is finished."""
        return ImageLines(facts, functools.partial(self.add, facts))

    def add(self, facts: ImageFacts, lines: Sequence[Line]) -> None:
        """Keep the lines of an image, without its name, until the table is written.

        Raises:
            OSError: If they cannot be written.
        """
        name = _cell(facts.relative)
        self._journal.append(name, {"lines": lines})
        self._images.add(name)

    def close(self) -> None:
        """Write the table with the lines of all processes so far.

        Raises:
            DataError: If something else has written a `table.csv` meanwhile.
            OSError: If it cannot be written; the lines are kept for the next time.
        """
        with self._journal.merge() as places:
            if not places:
                return
            kept = (line for line in _read_table(self._path) if line[0] not in places)
            with new_file(self._path, overwrite=True) as file:
                text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
                rows = csv.writer(text, lineterminator="\n")
                rows.writerow(COLUMNS)
                merged: Iterator[Line] = heapq.merge(kept, _new_lines(places), key=_first)
                rows.writerows(merged)
                text.detach()


class ImageLines:
    """Count the pixels, confidence and regions of each class of an image.

    Args:
        facts: The image.
        add: Takes its lines when it is finished: the columns but the first, which is its name.
    """

    needs: Iterable[str] = ("confidence",)

    def __init__(self, facts: ImageFacts, add: Callable[[Sequence[Line]], None]) -> None:
        self._facts, self._add = facts, add
        self._finder = RegionFinder(facts.width)
        ids = [*range(len(facts.classes)), facts.ignore_index]
        self._size = 1 + max(number for number in ids if number is not None)
        self._pixels = np.zeros(self._size, np.int64)
        self._regions = np.zeros(self._size, np.int64)
        self._confidence = np.zeros(self._size)

    def write(self, rows: Rows) -> None:
        """Take the next rows."""
        for found in self._finder.add(rows.ids, rows.confidence):
            self._count(found.ended)

    def finish(self) -> None:
        """Hand the lines of the image on.

        Raises:
            OSError: If they cannot be written.
        """
        self._count(self._finder.rest())
        names = dict(enumerate(self._facts.classes))
        if self._facts.ignore_index is not None:
            names[self._facts.ignore_index] = f"({self._facts.ignored})"
        lines = [self._line(number, name) for number, name in sorted(names.items())]
        self._add(lines)

    def discard(self) -> None:
        """Do nothing: an image that is not finished has no lines."""

    def _count(self, regions: Regions) -> None:
        np.add.at(self._pixels, regions.ids, regions.pixels)
        np.add.at(self._confidence, regions.ids, regions.confidence)
        self._regions += np.bincount(regions.ids, minlength=self._size)

    def _line(self, number: int, name: str) -> Line:
        facts, pixels = self._facts, int(self._pixels[number])
        area = f"{pixels * pixel_area(facts.geo):.12g}" if facts.geo else ""
        mean = self._confidence[number] / pixels if pixels else np.nan
        return [
            str(number), column_name(name), str(pixels),
            f"{pixels / (facts.height * facts.width):.8g}", area, area_unit(facts.geo),
            "" if np.isnan(mean) else f"{mean:.6g}", str(self._regions[number]),
        ]  # fmt: skip


def _cell(relative: PurePath) -> str:
    """Return the cell of an image; a name that would be a formula gets an apostrophe."""
    return column_name(image_name(relative))


def _first(line: Line) -> str:
    return line[0]


def _new_lines(places: dict[str, Place]) -> Iterator[Line]:
    for name in sorted(places):
        entry: Entry = places[name].read()
        for line in entry["lines"]:
            yield [name, *line]


def _read_table(path: Path) -> Iterator[Line]:
    """Yield the lines of a table, without its heading.

    Raises:
        DataError: If it is not a table of this program.
        OSError: If it cannot be read.
    """
    try:
        file = open(path, encoding="utf-8-sig", newline="")  # noqa: SIM115
    except FileNotFoundError:
        return
    with file:
        try:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != COLUMNS:
                raise ValueError("it has other columns")
            for row in rows:
                if len(row) not in (0, len(COLUMNS)):
                    raise ValueError(f"line {rows.line_num} has {len(row)} columns")
                if row:
                    yield row
        except (ValueError, csv.Error) as error:
            raise DataError(
                f"{path}: was not written by this program ({error}), so it is not replaced; move "
                "it, or choose another folder"
            ) from None
