"""Regions of COCO annotations: their outlines, checked and turned into run lengths."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from utils.files.data_file import DataError

MAX_COORDINATE = 1_000_000  # a rasteriser's time and memory grow with the length of a line
MAX_LENGTH = 2_000_000  # pixels of an outline; the rasteriser takes 40 bytes for each


class RunLengths(msgspec.Struct):
    """The run lengths of a region, plain or in COCO's compressed text."""

    size: tuple[int, int]
    counts: list[int] | str


@dataclasses.dataclass(frozen=True)
class Region:
    """The part of an annotation that is drawn."""

    name: str  # its name in messages
    value: int  # the id of its pixels
    crowd: bool  # whether it is a crowd, which lies under everything else
    outline: bytes  # polygons or run lengths, as JSON


def encode(region: Region, height: int, width: int) -> dict[str, Any]:
    """Return the compressed run lengths of a region.

    Raises:
        DataError: If the outline is neither polygons nor run lengths of the image's size.
    """
    masks = import_pycocotools()
    try:
        outline = msgspec.json.decode(region.outline, type=list[list[float]] | RunLengths | None)
        if isinstance(outline, RunLengths):
            return _check_run_lengths(outline, height, width)
        if not outline:
            raise ValueError("has no outline (a box alone is not a mask)")
        for polygon in outline:
            _check_polygon(polygon)
        return masks.merge(masks.frPyObjects(outline, height, width))
    except (ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{region.name}: {error}") from None


def _check_polygon(polygon: Sequence[float]) -> None:
    # pycocotools would take four numbers for a box.
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(
            f"has a polygon of {len(polygon)} numbers; expected x and y of three points or more"
        )
    far = max(abs(value) for value in polygon)
    if not math.isfinite(far) or far > MAX_COORDINATE:
        raise ValueError(f"has a point at {far:g}, far outside the image")
    points = np.asarray(polygon).reshape(-1, 2)
    length = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
    if length > MAX_LENGTH:
        raise ValueError(f"has an outline of {length:g} pixels; at most {MAX_LENGTH} can be drawn")


def _check_run_lengths(lengths: RunLengths, height: int, width: int) -> dict[str, Any]:
    if lengths.size != (height, width):
        raise ValueError(
            f"has run lengths for {lengths.size[1]}x{lengths.size[0]} in an image of "
            f"{width}x{height}"
        )
    counts, pixels = lengths.counts, height * width
    value = {"size": [height, width], "counts": counts}
    if isinstance(counts, str):
        # Decoding fills up too few counts silently, but refuses too many: the right number fits
        # the image, and not an image with a pixel less.
        complete = _fits(counts, pixels) and not _fits(counts, pixels - 1)
    else:
        complete = min(counts, default=0) >= 0 and sum(counts) == pixels
    if not complete:
        raise ValueError(f"has run lengths that do not add up to {pixels} pixels")
    return (
        value if isinstance(counts, str) else import_pycocotools().frPyObjects(value, height, width)
    )


def _fits(counts: str, pixels: int) -> bool:
    try:
        import_pycocotools().decode({"size": [pixels, 1], "counts": counts})
    except ValueError:
        return False
    return True


def import_pycocotools() -> Any:
    """Return the module `pycocotools.mask`.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise ValueError(
            "polygons and run lengths of COCO need pycocotools: pip install pycocotools"
        ) from None
    return mask
