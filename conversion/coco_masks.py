"""Masks from COCO instance annotations."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from conversion.coco_file import Instances, Picture
from conversion.conversion import MAX_COORDINATE, Legend, MaskJob, mask_path
from utils.files.data_file import DataError, check_pixels
from utils.files.file_facts import file_facts
from utils.files.paths import Root

TURNED_FROM = 5  # EXIF orientations 5 to 8: on its side
# Of an outline, in pixels: the rasteriser takes 40 bytes for each.
MAX_LENGTH = 2_000_000


class RunLengths(msgspec.Struct):
    """A region as run lengths, plain or in COCO's compressed text."""

    size: tuple[int, int]
    counts: list[int] | str


@dataclasses.dataclass
class CocoPlan:
    """What becomes of a file of instance annotations.

    Args:
        jobs: The masks to write.
        strays: Annotations that belong to no picture.
        boxes: Annotations of chosen categories that have no outline.
    """

    jobs: list[MaskJob] = dataclasses.field(default_factory=list)
    strays: list[str] = dataclasses.field(default_factory=list)
    boxes: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Region:
    """What is drawn of an annotation.

    Args:
        name: What messages call it.
        value: The id of its pixels.
        crowd: Whether it is a crowd, which lies under everything.
        outline: Polygons or run lengths, as JSON.
    """

    name: str
    value: int
    crowd: bool
    outline: bytes


def plan_coco(
    instances: Instances,
    values: Mapping[int, int],
    legend: Legend,
    output: Path,
    images: Path | None = None,
) -> CocoPlan:
    """A mask for each picture, also for those without an object.

    Args:
        instances: The annotations.
        values: Category id -> id in the mask; the others are background.
        legend: The classes.
        output: The folder of the masks.
        images: The folder of the pictures, whose sizes are then compared.

    Raises:
        DataError: If a category is not described, all annotations are boxes, or a picture's name
            leads out of `output`.
    """
    known = {category.id for category in instances.categories}
    regions: dict[int | str, list[Region]] = {picture.id: [] for picture in instances.images}
    plan = CocoPlan()
    for number, item in enumerate(instances.annotations):
        name = f"annotation {number if item.id is None else item.id}"
        if item.category_id not in known:
            raise DataError(f"{name} is of category {item.category_id}, which is not described")
        if item.image_id not in regions:
            plan.strays.append(name)
        elif item.category_id in values and item.is_box:
            plan.boxes.append(name)
        elif item.category_id in values:
            crowd, value = bool(item.iscrowd), values[item.category_id]
            if crowd and value != 0:
                value = legend.ignore_index
            regions[item.image_id].append(Region(name, value, crowd, bytes(item.segmentation)))
    if plan.boxes and not any(regions.values()):
        raise DataError(
            f"none of the {len(plan.boxes)} annotations has an outline; boxes alone are no masks, "
            "export polygons or run lengths"
        )
    root = Root(output, "--output")
    plan.jobs = [
        MaskJob(
            picture.file_name,
            mask_path(root, picture.file_name),
            functools.partial(draw_picture, picture, regions[picture.id], images),
        )
        for picture in instances.images
    ]
    return plan


def draw_picture(picture: Picture, regions: Sequence[Region], images: Path | None) -> np.ndarray:
    """The mask of a picture.

    Raises:
        DataError: If the picture is missing or of another size, or an outline is broken.
    """
    check_pixels(picture.file_name, picture.width, picture.height)
    if images is not None:
        name = picture.file_name.replace("\\", "/")
        _compare_size(picture, Root(images, picture.file_name).inside(name))
    return draw_regions(picture.height, picture.width, regions)


def draw_regions(height: int, width: int, regions: Sequence[Region]) -> np.ndarray:
    """Draw regions over each other: crowds first, then from the largest to the smallest.

    A small object in front of a large one would otherwise be lost, and of a large one behind a
    small one little is. Of two of one size the later one is on top.

    Args:
        height: Of the picture, pixels.
        width: Likewise.
        regions: What to draw.

    Returns:
        (H, W) ids; 0 where there is no region.

    Raises:
        DataError: If an outline is broken.
    """
    masks = coco_masks()
    encoded = [(region, encode(region, height, width)) for region in regions]
    encoded.sort(key=lambda pair: (not pair[0].crowd, -int(masks.area(pair[1]))))
    ids = np.zeros((height, width), np.uint16)
    for region, lengths in encoded:
        ids[masks.decode(lengths) != 0] = region.value
    return ids


def encode(region: Region, height: int, width: int) -> dict[str, Any]:
    """The compressed run lengths of a region.

    Raises:
        DataError: If it is neither polygons nor run lengths of the picture's size.
    """
    masks = coco_masks()
    try:
        outline = msgspec.json.decode(region.outline, type=list[list[float]] | RunLengths | None)
        if isinstance(outline, RunLengths):
            return _check_run_lengths(outline, height, width)
        if not outline:
            raise ValueError("has no outline (a box alone is no mask)")
        for polygon in outline:
            _check_polygon(polygon)
        return masks.merge(masks.frPyObjects(outline, height, width))
    except (ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{region.name}: {error}") from None


def _check_polygon(polygon: Sequence[float]) -> None:
    # With four numbers pycocotools would take it for a box.
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(
            f"has a polygon of {len(polygon)} numbers; expected x and y of three points or more"
        )
    far = max(abs(value) for value in polygon)
    if not math.isfinite(far) or far > MAX_COORDINATE:
        raise ValueError(f"has a point at {far:g}, far outside the picture")
    points = np.asarray(polygon).reshape(-1, 2)
    length = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
    if length > MAX_LENGTH:
        raise ValueError(f"has an outline of {length:g} pixels; at most {MAX_LENGTH} can be drawn")


def _check_run_lengths(lengths: RunLengths, height: int, width: int) -> dict[str, Any]:
    if lengths.size != (height, width):
        raise ValueError(
            f"has run lengths for {lengths.size[1]}x{lengths.size[0]} in a picture of "
            f"{width}x{height}"
        )
    counts, pixels = lengths.counts, height * width
    value = {"size": [height, width], "counts": counts}
    if isinstance(counts, str):
        # Too few are filled up in silence; exactly enough are too many for one pixel less.
        complete = _fits(counts, pixels) and not _fits(counts, pixels - 1)
    else:
        complete = min(counts, default=0) >= 0 and sum(counts) == pixels
    if not complete:
        raise ValueError(f"has run lengths that do not add up to {pixels} pixels")
    return value if isinstance(counts, str) else coco_masks().frPyObjects(value, height, width)


def _fits(counts: str, pixels: int) -> bool:
    try:
        coco_masks().decode({"size": [pixels, 1], "counts": counts})
    except ValueError:
        return False
    return True


def coco_masks() -> Any:
    """The module `pycocotools.mask`.

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


def _compare_size(picture: Picture, path: Path) -> None:
    facts = file_facts(path)
    size, turned = (facts.width, facts.height), (facts.exif_orientation or 1) >= TURNED_FROM
    if size != (picture.width, picture.height):
        shown = f"is {size[0]}x{size[1]}, and annotated as {picture.width}x{picture.height}"
        hint = "; its EXIF note turns it: store it turned, without the note" if turned else ""
        raise DataError(shown + hint)
