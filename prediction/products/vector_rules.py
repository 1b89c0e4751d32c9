"""What all formats of polygons have in common."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, Protocol

import numpy as np

from prediction.products.map_facts import pixel_area
from prediction.products.regions import Regions
from prediction.products.rows import ImageFacts
from utils.drawing.overlay import is_background
from utils.files.data_file import DataError


class VectorSettings(Protocol):
    """The settings of products that polygons follow."""

    @property
    def overwrite(self) -> bool:
        """Return whether a file that exists is replaced."""

    @property
    def min_area(self) -> float:
        """Return the smallest area of a region that is written, in units of the map or pixels."""

    @property
    def simplify(self) -> float:
        """Return how far outlines may move to need fewer points, in units of the map or pixels."""

    @property
    def max_regions(self) -> int | None:
        """Return how many regions an image may have; None for any number."""


def choose(regions: Regions, facts: ImageFacts, settings: VectorSettings) -> Regions:
    """Return the regions that are written.

    Left out are small ones, pixels where the model is unsure, and the classes whose name means
    "nothing here", as in overlays: who asks for polygons wants the things, not what is between
    them.
    """
    classes = [number for number, name in enumerate(facts.classes) if not is_background(name)]
    wanted = np.isin(regions.ids, classes) & (regions.ids != facts.ignore_index)
    return regions.take(wanted & (regions.pixels * pixel_area(facts.geo) >= settings.min_area))


def check_count(regions: Iterable[Regions], facts: ImageFacts, settings: VectorSettings) -> None:
    """Refuse an image with too many regions, before they are drawn.

    Raises:
        DataError: If there are more than the settings allow.
    """
    count = sum(len(each.firsts) for each in regions)
    if settings.max_regions is not None and count > settings.max_regions:
        raise DataError(
            f"{facts.path}: has {count} regions, and {settings.max_regions} become polygons at "
            "most; leave out small ones with min_area"
        )


def tolerance(facts: ImageFacts, settings: VectorSettings) -> float:
    """Return how far outlines may move, in pixels."""
    return settings.simplify / (math.sqrt(pixel_area(facts.geo)) or 1.0)


def write_members(
    file: BinaryIO, head: Mapping[str, Any], name: str, members: Iterable[Mapping[str, Any]]
) -> None:
    """Write a JSON object: what is in `head`, and one list of members, a line each."""
    # Letters beyond ASCII are escaped: names of files may be no valid text.
    file.write(f'{json.dumps(head)[:-1]}, "{name}": ['.encode())
    for number, member in enumerate(members):
        file.write(f"{',' if number else ''}\n{json.dumps(member, allow_nan=False)}".encode())
    file.write(b"\n]}\n")
