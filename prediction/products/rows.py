"""What a product is made of: the image, and the rows of its prediction as they become complete."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from utils.files.geo_file import GeoReference

# What `Rows` has beside the ids, for products that ask for it.
FIELDS = ("confidence", "entropy", "probabilities", "image")


class Rows(NamedTuple):
    """Complete rows of a prediction over the full width of the image, from the top down.

    A small image comes as one `Rows`; a large one as many, each with as many rows as fit into
    memory. What no product of the image `needs` is None.
    """

    top: int  # the first row's number in the image
    ids: np.ndarray  # (h, W) class ids, uint8 or uint16; the ignored id where the model is unsure
    # (h, W) float32: the probability of the predicted class; NaN where the image has no data, as in
    # the next two.
    confidence: np.ndarray | None = None
    # (h, W) float32, 0..1: the entropy of the probabilities, divided by that of equal ones.
    entropy: np.ndarray | None = None
    probabilities: np.ndarray | None = None  # (K, h, W) float32
    image: np.ndarray | None = None  # (h, W, 3) uint8: the image as RGB to look at


@dataclasses.dataclass(frozen=True)
class ImageFacts:
    """An image whose prediction is written, and the meaning of its ids."""

    path: Path  # the file
    relative: Path  # its path below the folder that was named; names it in tables
    height: int
    width: int
    classes: tuple[str, ...]  # the names of the K classes
    palette: tuple[tuple[int, int, int], ...]  # a colour for each class
    ignore_index: int | None = None  # the id where the model is unsure; None if that is not asked
    geo: GeoReference | None = None  # where the image lies, if its file says so
    ignored: str = "unsure"  # why pixels have the ignored id
    may_miss: bool = False  # whether pixels can have no data: their numbers are NaN


class Product(Protocol):
    """One kind of output of one image: made row by row, named when it is complete.

    The constructor opens what it needs: a temporary file beside the final one (`new_file` does it).
    """

    needs: Iterable[str]  # the fields of `Rows` that it reads beside `ids`, from `FIELDS`

    def write(self, rows: Rows) -> None:
        """Take the next rows; each row of the image comes once, in order."""

    def finish(self) -> None:
        """Complete the files and give them their names."""

    def discard(self) -> None:
        """Remove what has been written; may be called at any time, also twice."""
