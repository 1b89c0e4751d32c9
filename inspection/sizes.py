"""Sizes of images: whether masks fit them, and whether a batch can hold them."""

import logging
from collections.abc import Sequence

import numpy as np

from base.base_dataloader import BaseDataLoader
from base.base_dataset import fits
from inspection.look import Survey
from utils.config.signatures import signature_of
from utils.distributed.collectives import world_size
from utils.files.data_file import DataError
from utils.transforms.albumentations_pipeline import Albumentations, AlbumentationsPipeline
from utils.transforms.augmentation import Augmentation
from utils.transforms.rotate_and_flip import Turns
from utils.transforms.scale_and_crop import Crop, Scale

logger = logging.getLogger(__name__)


def output_sizes(
    augmentation: Augmentation, sizes: Sequence[tuple[int, int]]
) -> list[set[tuple[int, int]]]:
    """Return the (width, height) of augmented images, a set for each input size.

    Sizes that are drawn at random are represented by a few draws. A pipeline of Albumentations is
    tried on two of the sizes, and the other sets are empty.
    """
    crop, scale = augmentation.operation(Crop).crop_size, augmentation.operation(Scale)
    pipeline = augmentation.operation(Albumentations).pipeline
    training = augmentation.augment and not augmentation.val
    if training and pipeline is not None:
        tried = [_piped_sizes(pipeline, size) for size in sizes[:2]]
        return [*tried, *(set[tuple[int, int]]() for _ in sizes[2:])]
    if crop is not None and (training or augmentation.val):
        return [{(crop, crop)} for _ in sizes]
    if not training:
        return [{size} for size in sizes]
    result = []
    for width, height in sizes:
        shapes = {(width, height)}
        if scale.base_size is not None:
            draws = [np.random.default_rng(seed) for seed in range(4 if scale.scale else 1)]
            shapes = {scale.sample_size(rng, height, width)[::-1] for rng in draws}
        turned = {(h, w) for w, h in shapes} if augmentation.operation(Turns).rotate90 else set()
        result.append(shapes | turned)
    return result


def _piped_sizes(pipeline: AlbumentationsPipeline, size: tuple[int, int]) -> set[tuple[int, int]]:
    """Return the sizes that a pipeline makes of one size in a few draws; empty if it fails."""
    width, height = size
    image, label = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    try:
        made = [
            pipeline(image, label, np.random.default_rng(seed), ignore_index=0)[1].shape
            for seed in range(4)
        ]
    except DataError:
        return set()  # made for other channels; the first batch raises the error
    return {(w, h) for h, w in made}


def why_sizes_differ(augmentation: Augmentation) -> str:
    """Name the operations of an augmentation without crop that change sizes; may be empty."""
    if not augmentation.augment or augmentation.val:
        return ""
    words = ["albumentations"] if augmentation.operation(Albumentations).active else []
    scale = augmentation.operation(Scale)
    if scale.base_size is not None:
        words.append(f"base_size {scale.base_size}{' and scale' * scale.scale}")
    words += ["rotate90"] if augmentation.operation(Turns).rotate90 else []
    return f" after {' and '.join(words)}" if words else ""


def crop_within(side: int) -> int:
    """Return the largest multiple of 32 within the shortest side, or that side where it is less."""
    return side // 32 * 32 or side


def one_size(augmentation: Augmentation, crop: int) -> str:
    """Return what to set so that all images have the size of a crop."""
    if augmentation.operation(Albumentations).active:
        return f"end the pipeline with RandomCrop of {crop}x{crop}, always applied"
    return f'set "augment": true and "crop_size": {crop} (which needs no padding)'


def check_files(found: Survey) -> None:
    """Refuse files that are empty or end within their header."""
    if found.broken:
        more = len(found.broken) - 1
        others = f"; {more} more cannot be read: python check.py names them" if more else ""
        raise DataError(f"{found.split.section}: {found.broken[min(found.broken)]}{others}")


def check_sizes(found: Survey) -> None:
    """Refuse masks whose size is not that of their image."""
    dataset = found.split.dataset
    rule = "shown_size" if dataset.exif == "apply" else "stored_size"
    pairs = zip(found.indices, found.heads, strict=True)
    odd = [
        (i, pair) for i, pair in pairs if pair and getattr(pair[0], rule) != getattr(pair[1], rule)
    ]
    if not odd:
        return
    index, (image, mask) = odd[0]
    sample = dataset.samples[index]
    sizes = ("{}x{}".format(*getattr(head, rule)) for head in (mask, image))
    raise DataError(
        f"{found.split.section}: {len(odd)} of {len(found.indices)} masks have another size than "
        f"their image; {sample.label} is {next(sizes)} and its image {sample.image} is "
        f"{next(sizes)}; {_mixed_rules(found) or dataset.size_advice(index)}"
    )


def _mixed_rules(found: Survey) -> str:
    """Return what to do if some masks fit only the stored image, and others only the turned one."""
    dataset = found.split.dataset
    pairs = [(i, *pair) for i, pair in zip(found.indices, found.heads, strict=True) if pair]
    stored = [i for i, a, b in pairs if fits(a, b, "ignore") and not fits(a, b, "apply")]
    shown = [i for i, a, b in pairs if fits(a, b, "apply") and not fits(a, b, "ignore")]
    if not (stored and shown):
        return ""
    names = [dataset.samples[indices[0]].image for indices in (shown, stored)]
    rule = ' and set "exif": "ignore"' if "exif" in signature_of(type(dataset)) else ""
    return (
        f"{len(shown)} masks fit the image as its EXIF orientation shows it (the first: {names[0]})"
        f", and {len(stored)} as it is stored ({names[1]}), so no rule fits all: turn the pixels "
        f"of the former with mogrify -auto-orient on copies{rule}"
    )


def warn_of_orientation(surveys: Sequence[Survey]) -> None:
    """Warn of an image whose EXIF orientation may not fit its mask.

    If a quarter turn changes the size, the size of the mask tells which rule is right.
    """
    doubtful = [
        (found.split, index, pair[0].orientation)
        for found in surveys
        for index, pair in zip(found.indices, found.heads, strict=True)
        if found.split.dataset.exif is None and pair
        if pair[0].orientation != pair[1].orientation
        if fits(*pair, "apply") and fits(*pair, "ignore")
    ]
    if not doubtful:
        return
    split, index, orientation = doubtful[0]
    sections = " and ".join(dict.fromkeys(f"{one.section}.args" for one, *_ in doubtful))
    fix = "if the masks fit the turned images, turn the pixels with mogrify -auto-orient on copies"
    if "exif" in signature_of(type(split.dataset)):
        fix = (
            f'write "exif": "apply" into {sections} if the masks were drawn on images as a '
            'person sees them, "exif": "ignore" if they were drawn on the stored pixels'
        )
    logger.warning(
        "%d of %d images carry an EXIF orientation, which is not applied, and their sizes do not "
        "tell whether the masks fit the stored or the turned image; the first: %s (orientation "
        "%d); %s",
        len(doubtful), sum(len(found.indices) for found in surveys),
        split.dataset.samples[index].image, orientation, fix,
    )  # fmt: skip


def check_batches(found: Survey, loader: BaseDataLoader) -> None:
    """Refuse augmented images of several sizes, which cannot be stacked to a batch."""
    split, batch = found.split, loader.batches.batch_size
    if batch // world_size() < 2 or len(found.indices) < 2:
        return
    rule = "shown_size" if split.dataset.exif == "apply" else "stored_size"
    first: dict[tuple[int, int], int] = {}
    for index, pair in zip(found.indices, found.heads, strict=True):
        if pair:
            first.setdefault(getattr(pair[0], rule), index)
    outputs = output_sizes(split.augmentation, list(first))
    if len(set().union(*outputs)) < 2:
        return
    shown = list(first)[:2]
    files = " and ".join(
        f"{split.dataset.samples[first[size]].image} is {size[0]}x{size[1]}" for size in shown
    )
    crop = crop_within(min(min(size) for size in first))
    raise DataError(
        f"{split.section}: images have several sizes{why_sizes_differ(split.augmentation)}, which "
        f"cannot be stacked to a batch of {batch} ({files}); {one_size(split.augmentation, crop)}, "
        'or set "batch_size": 1'
    )
