"""Masks from COCO instance annotations."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from conversion.masks import Legend, MaskJob, mask_path
from utils.files.coco_file import CocoImage, Instances
from utils.files.data_file import DataError, check_pixels
from utils.files.file_facts import file_facts
from utils.files.image_head import SWAPPING
from utils.files.paths import Root
from utils.samples.coco_regions import Region, encode, import_pycocotools


@dataclasses.dataclass
class CocoPlan:
    """The masks to write for a file of annotations, and the annotations left out."""

    jobs: list[MaskJob] = dataclasses.field(default_factory=list)  # the masks to write
    # Annotations whose image the file does not describe.
    strays: list[str] = dataclasses.field(default_factory=list)
    # Annotations of chosen categories that have no outline.
    boxes: list[str] = dataclasses.field(default_factory=list)


def plan_coco(
    instances: Instances,
    values: Mapping[int, int],
    legend: Legend,
    output: Path,
    images: Path | None = None,
) -> CocoPlan:
    """Plan a mask for each image, also for those without an object.

    Raises:
        DataError: If a category is not described, no annotation has an outline, or an image's
            name leads out of `output`.
    """
    # Sort the annotations by image
    known = {category.id for category in instances.categories}
    regions: dict[int | str, list[Region]] = {image.id: [] for image in instances.images}
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
            f"none of the {len(plan.boxes)} annotations has an outline; boxes alone are not masks, "
            "export polygons or run lengths"
        )

    # A mask for each image
    root = Root(output, "--output")
    plan.jobs = [
        MaskJob(
            image.file_name,
            mask_path(root, image.file_name),
            functools.partial(draw_mask, image, regions[image.id], images),
        )
        for image in instances.images
    ]
    return plan


def draw_mask(image: CocoImage, regions: Sequence[Region], images: Path | None) -> np.ndarray:
    """Draw the mask of an image.

    Raises:
        DataError: If the image is missing or of another size, or an outline is broken.
    """
    check_pixels(image.file_name, image.width, image.height)
    if images is not None:
        name = image.file_name.replace("\\", "/")
        _compare_size(image, Root(images, image.file_name).inside(name))
    return draw_regions(image.height, image.width, regions)


def draw_regions(height: int, width: int, regions: Sequence[Region]) -> np.ndarray:
    """Draw regions over each other, (H, W) ids: crowds first, then from the largest on.

    Otherwise a small object in front of a large one would be lost, while a large object behind a
    small one loses little. Of two regions of one size the later one is on top.

    Raises:
        DataError: If an outline is broken.
    """
    masks = import_pycocotools()
    encoded = [(region, encode(region, height, width)) for region in regions]
    encoded.sort(key=lambda pair: (not pair[0].crowd, -int(masks.area(pair[1]))))
    ids = np.zeros((height, width), np.uint16)
    for region, lengths in encoded:
        ids[masks.decode(lengths) != 0] = region.value
    return ids


def _compare_size(image: CocoImage, path: Path) -> None:
    facts = file_facts(path)
    size, turned = (facts.width, facts.height), facts.exif_orientation in SWAPPING
    if size != (image.width, image.height):
        shown = f"is {size[0]}x{size[1]}, but annotated as {image.width}x{image.height}"
        hint = "; its EXIF orientation turns it: store the turned pixels instead" if turned else ""
        raise DataError(shown + hint)
