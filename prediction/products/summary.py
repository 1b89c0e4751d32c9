"""index.html: all images of a folder with their masks, to look at."""

import heapq
from collections.abc import Iterable
from pathlib import Path, PurePath

import numpy as np

from prediction.products import summary_store
from prediction.products.image_name import image_name
from prediction.products.journal import Journal, Place
from prediction.products.rows import ImageFacts, Product, Rows
from prediction.products.summary_page import MARK, RunFacts, render
from prediction.products.summary_store import ClassPixels, ImageEntry, Views, digest
from prediction.products.thumbnail import Thumbnail
from utils.cli.sanitize import first_line, one_line
from utils.drawing.palette import IGNORED_COLOUR
from utils.files.atomic_write import write_text
from utils.files.output_files import check_page
from utils.pages.images import jpeg, mask_png
from utils.pages.text import hexadecimal

NAME = "index.html"
THUMBNAIL_SIDE = 320  # pixels

__all__ = ["RunFacts", "SummaryPage"]


class SummaryPage:
    """One page without other files: image and mask of up to 200 images, and the classes of all.

    Of more images it shows a random part, always the same of the same images. Images of earlier
    runs stay on the page unless they are predicted again; what is known of them lies beside it, in
    `index.html.images`. Until `close` what a run has finished lies in a journal, as for `RunTable`.

    Args:
        folder: Where the page is, or will be.

    Raises:
        ValueError: If there is an `index.html` that something else has written, or the folder
            cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._page = folder / NAME
        check_page("--save summary", [self._page], MARK)
        self._store = folder / (NAME + summary_store.SUFFIX)
        self._journal = Journal(self._page)
        waiting = self._journal.waiting().items()
        self._images = {key for key, place in waiting if _is_good(place)}
        if self._page.exists():  # who has removed it begins anew
            entries = summary_store.read_entries(self._store)
            self._images |= {entry.key for entry in entries if entry.error is None}
        self._smallest: list[int] = []  # the digests of images with thumbnails, negative

    def has(self, relative: PurePath) -> bool:
        """Return whether the page knows an image, by its path below the folder of images."""
        return image_name(relative) in self._images

    def is_complete(self) -> bool:
        """Return whether the page is there, with all images that were finished."""
        return self._page.exists() and not self._journal.waiting()

    def product(self, facts: ImageFacts) -> Product:
        """Return the product that adds an image, when it is finished."""
        return _PageImage(self, facts, shown=self._may_be_shown(facts.relative))

    def add(self, entry: ImageEntry) -> None:
        """Keep what is known of an image until the page is written.

        Raises:
            OSError: If it cannot be written.
        """
        self._journal.append(entry.key, summary_store.to_json(entry))
        self._images.add(entry.key)

    def add_failure(self, relative: PurePath, reason: object) -> None:
        """Keep why an image failed.

        Raises:
            OSError: If it cannot be written.
        """
        text = one_line(first_line(reason))
        self._journal.append(image_name(relative), {"error": text})

    def close(self, run: RunFacts) -> Path:
        """Write the page with the images of all processes so far; return its path.

        Of several processes, the one that ends last calls it.

        Raises:
            ValueError: If something else has written an `index.html` meanwhile.
            OSError: If it cannot be written; what is known of the images is kept.
        """
        check_page("--save summary", [self._page], MARK)
        with self._journal.merge() as places:
            anew = not self._page.exists()
            totals = summary_store.update(self._store, places, anew=anew)
            write_text(self._page, render(totals, run), overwrite=True)
        return self._page

    def _may_be_shown(self, relative: PurePath) -> bool:
        """Return whether an image is among those of this process that can be on the page."""
        number = -digest(image_name(relative))
        if len(self._smallest) < summary_store.MAX_SHOWN:
            heapq.heappush(self._smallest, number)
            return True
        return heapq.heappushpop(self._smallest, number) != number


def _is_good(place: Place) -> bool:
    """Return whether an entry is of an image that was predicted."""
    try:
        return place.read().get("error") is None
    except FileNotFoundError:  # merged meanwhile
        return False


class _PageImage:
    """Count the classes of an image and shrink it."""

    def __init__(self, page: SummaryPage, facts: ImageFacts, *, shown: bool) -> None:
        self.needs: Iterable[str] = ("image",) if shown else ()
        self._page, self._facts = page, facts
        ids = [len(facts.classes) - 1, facts.ignore_index]
        self._pixels = np.zeros(1 + max(number for number in ids if number is not None), np.int64)
        self._small = Thumbnail(facts.height, facts.width, THUMBNAIL_SIDE) if shown else None

    def write(self, rows: Rows) -> None:
        """Take the next rows."""
        self._pixels += np.bincount(rows.ids.ravel(), minlength=len(self._pixels))
        if self._small is not None:
            assert rows.image is not None
            self._small.add(rows.top, rows.image, rows.ids)

    def finish(self) -> None:
        """Keep what the page shows of the image.

        Raises:
            OSError: If it cannot be written.
        """
        facts = self._facts
        order = np.argsort(-self._pixels, kind="stable")
        classes = tuple(self._class(number) for number in order.tolist() if self._pixels[number])
        name = image_name(facts.relative)
        self._page.add(ImageEntry(name, facts.height, facts.width, classes, self._views()))

    def discard(self) -> None:
        """Do nothing: an image that is not finished is not on the page."""

    def _class(self, number: int) -> ClassPixels:
        pixels = int(self._pixels[number])
        if number == self._facts.ignore_index:
            return ClassPixels(
                None, f"({self._facts.ignored})", hexadecimal(IGNORED_COLOUR), pixels
            )
        name = one_line(self._facts.classes[number])
        return ClassPixels(number, name, hexadecimal(self._facts.palette[number]), pixels)

    def _views(self) -> Views | None:
        if self._small is None:
            return None
        image, ids = self._small.image(), self._small.ids
        mask = mask_png(ids, self._facts.palette, self._facts.ignore_index)
        return Views(jpeg(image), mask, image.shape[1], image.shape[0])
