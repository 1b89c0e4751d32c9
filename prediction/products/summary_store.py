"""What the summary page knows of each image, kept from run to run."""

import contextlib
import hashlib
import heapq
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from prediction.products.journal import Place
from utils.files.atomic_write import new_file

MAX_SHOWN = 200  # images on the page
MAX_FAILED = 200  # failures that are listed
SUFFIX = ".images"

DataUrl = Annotated[str, msgspec.Meta(pattern=r"^data:image/(jpeg|png);base64,[A-Za-z0-9+/=]*$")]
Hex = Annotated[str, msgspec.Meta(pattern=r"^#[0-9a-f]{6}$")]


class ClassPixels(msgspec.Struct, frozen=True):
    """A class in an image."""

    number: int | None  # its id; None for pixels where the model is unsure
    name: str
    colour: Hex
    pixels: int


class Views(msgspec.Struct, frozen=True):
    """A small copy of an image and its mask."""

    image: DataUrl
    mask: DataUrl
    width: int
    height: int


class ImageEntry(msgspec.Struct, frozen=True):
    """An image of a run."""

    key: str  # its name
    height: int = 0
    width: int = 0
    classes: tuple[ClassPixels, ...] = ()  # those in it, the largest first
    views: Views | None = None
    error: str | None = None  # why it failed, if it did


class Totals:
    """What the page shows of all images."""

    def __init__(self) -> None:
        self.num_images = 0  # that were predicted
        self.num_failed = 0
        # Pixels in all images, and number of images that have any, by class (with 0 pixels).
        self.pixels: Counter[ClassPixels] = Counter()
        self.images: Counter[ClassPixels] = Counter()
        self.shown: list[ImageEntry] = []  # the images on the page, by name
        self.failed: list[ImageEntry] = []  # the failures that are listed, by name

    def add(self, entry: ImageEntry) -> None:
        """Count an image."""
        if entry.error is not None:
            self.num_failed += 1
            if self.num_failed <= MAX_FAILED:
                self.failed.append(entry)
            return
        self.num_images += 1
        for item in entry.classes:
            kind = msgspec.structs.replace(item, pixels=0)
            self.pixels[kind] += item.pixels
            self.images[kind] += 1
        if entry.views is not None:
            self.shown.append(entry)


def digest(key: str) -> int:
    """Return a number that decides whether an image is shown: the smallest are."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def read_entries(path: Path) -> Iterator[ImageEntry]:
    """Yield the entries of a store; other lines are left out; no file has none."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        for line in file:
            with contextlib.suppress(ValueError):  # msgspec's too
                yield msgspec.json.decode(line, type=ImageEntry)


def update(path: Path, places: Mapping[str, Place], *, anew: bool) -> Totals:
    """Merge new entries into a store; only so many images keep their views.

    Args:
        path: The store.
        places: The new entries, by key.
        anew: Leave out what the store has.

    Raises:
        OSError: If it cannot be written.
    """
    old = Path(os.devnull) if anew else path
    shown = _choose(_merged(old, places))
    totals = Totals()
    with new_file(path, overwrite=True) as file:
        for entry in _merged(old, places):
            if entry.key not in shown:
                entry = msgspec.structs.replace(entry, views=None)
            file.write(msgspec.json.encode(entry) + b"\n")
            totals.add(entry)
    return totals


def _choose(entries: Iterable[ImageEntry]) -> set[str]:
    keys = (entry.key for entry in entries if entry.views is not None)
    return set(heapq.nsmallest(MAX_SHOWN, keys, key=digest))


def _merged(path: Path, places: Mapping[str, Place]) -> Iterator[ImageEntry]:
    kept = (entry for entry in read_entries(path) if entry.key not in places)
    return heapq.merge(kept, _new(places), key=lambda entry: entry.key)


def _new(places: Mapping[str, Place]) -> Iterator[ImageEntry]:
    for key in sorted(places):
        with contextlib.suppress(msgspec.ValidationError):
            yield msgspec.convert(places[key].read(), ImageEntry)


def to_json(entry: ImageEntry) -> dict[str, Any]:
    """Return an entry as plain data, without its key."""
    tree = json.loads(msgspec.json.encode(entry))
    del tree["key"]
    return tree
