"""Findings about a set as a whole: duplicates, sizes and crops, statistics, batches."""

import collections
import statistics
from collections.abc import Iterator, Sequence

import numpy as np

from audit.advice import keeps_imagenet
from base.compatibility import check_same
from inspection.finding import Finding, count
from inspection.sizes import crop_within, one_size, output_sizes, why_sizes_differ
from inspection.split import BandStatistics, Split
from utils.config.sections import Config
from utils.transforms.augmentation import Augmentation
from utils.transforms.scale_and_crop import SCALE_RANGE, Crop, Scale

MAX_PADDING = 1 / 3  # fraction of a crop
MIN_SEEN = 0.05  # fraction of an image that a crop shows
MAX_SHIFT = 0.25  # difference of the means, in standard deviations
MAX_STRETCH = 4 / 3  # ratio of the standard deviations, either way
MIN_IMAGES = 10  # fewer say little about the mean of a set


def find(split: Split, config: Config) -> Iterator[Finding]:
    """Yield what does not suit a training in the images of the training split."""
    yield from _duplicates(split)
    yield from _batch_shapes(split)
    yield from _crops(split)
    yield from _constant_bands(split)
    yield from _statistics(split, config)
    yield from _batches(split)


def find_leaks(train: Split, other: Split) -> Iterator[Finding]:
    """Yield images that are both trained on and tested on."""
    seen = {f.image.sha256: f.files[0] for f in train.facts if f.image.sha256}
    files = {
        f.files[0]: f"is {seen[f.image.sha256]}" for f in other.facts if f.image.sha256 in seen
    }
    if files:
        yield Finding(
            "error", "leak", other.name,
            f"{count(len(files), 'image')} of {len(other.facts)} identical to training images",
            f"remove them from one of the two: metrics of {other.name} would be too good",
            files,
        )  # fmt: skip


def _duplicates(split: Split) -> Iterator[Finding]:
    first: dict[str, str] = {}
    files = {}
    for facts in split.facts:
        if facts.image.sha256:
            before = first.setdefault(facts.image.sha256, facts.name)
            if before != facts.name:
                files[facts.files[0]] = f"is {before}"
    if files:
        yield Finding(
            "warning", "duplicates", split.name,
            f"{count(len(files), 'image')} of {len(split.facts)} are duplicates",
            "remove the copies: they get double weight, and their masks may differ",
            files,
        )  # fmt: skip


def _batch_shapes(split: Split) -> Iterator[Finding]:
    """Yield an error if a batch's images have several sizes after the augmentation."""
    if split.options.batch_size == 1:
        return
    shapes = set().union(*output_sizes(split.augmentation, list(set(split.sizes))))
    reason = f"images have several sizes{why_sizes_differ(split.augmentation)}"
    if len(shapes) > 1:
        smallest = min(min(size) for size in split.sizes)
        yield Finding(
            "error", "mixed-sizes", split.name,
            f"{reason}, which cannot be stacked to a batch of {split.options.batch_size}",
            f"{one_size(split.augmentation, crop_within(smallest))}, or set a batch_size of 1",
        )  # fmt: skip


def _crops(split: Split) -> Iterator[Finding]:
    crop = split.augmentation.operation(Crop).crop_size
    base = split.augmentation.operation(Scale).base_size
    if crop is None or not split.augmentation.augment or not split.sizes:
        return
    sizes = collections.Counter(split.sizes)
    fractions = [_crop_fractions(split.augmentation, *size) for size in sizes]
    padding, seen = np.average(fractions, axis=0, weights=list(sizes.values()))
    if padding > MAX_PADDING:
        fix = "raise base_size" if base else "scale the images up with base_size"
        yield Finding(
            "warning", "small-pictures", split.name,
            f"{100 * padding:.0f} % of what the model sees is padding: "
            f"{_smaller(split.sizes, crop, base)} images are smaller than crop_size {crop}"
            f"{f' at base_size {base}' if base else ''}",
            f"set crop_size to {_usual_short_side(split.sizes, base)}, or {fix}",
        )  # fmt: skip
    if seen < MIN_SEEN:
        now = base or round(statistics.median(max(size) for size in split.sizes))
        yield Finding(
            "warning", "large-pictures", split.name,
            f"a crop of {crop} shows {100 * seen:.1f} % of an image on average",
            f"set base_size (the long side, {now} now) to {2 * crop}, or cut the images into "
            "tiles",
        )  # fmt: skip


def _crop_fractions(augmentation: Augmentation, width: int, height: int) -> tuple[float, float]:
    """Return the fractions of a crop that is padding and of an image in a crop, over all scales."""
    crop, scale = augmentation.operation(Crop).crop_size or 1, augmentation.operation(Scale)
    base = scale.base_size
    scales = np.linspace(*SCALE_RANGE, 31) if base and scale.scale else np.ones(1)
    ratio = scales * _base_ratio(width, height, base)
    w, h = width * ratio, height * ratio
    shown = np.minimum(w, crop) * np.minimum(h, crop)
    return float(np.mean(1 - shown / crop**2)), float(np.mean(shown / (w * h)))


def _base_ratio(width: int, height: int, base: int | None) -> float:
    return base / max(width, height) if base else 1.0


def _smaller(sizes: Sequence[tuple[int, int]], crop: int, base: int | None) -> str:
    """Count the images that are smaller than the crop: `"3 of 10"`."""
    small = sum(min(size) * _base_ratio(*size, base) < crop for size in sizes)
    return f"{small} of {len(sizes)}"


def _usual_short_side(sizes: Sequence[tuple[int, int]], base: int | None) -> int:
    """Return a multiple of 32 within the median of the short sides."""
    sides = [min(size) * _base_ratio(*size, base) for size in sizes]
    return max(int(statistics.median(sides)) // 32 * 32, 32)


def _constant_bands(split: Split) -> Iterator[Finding]:
    constant = [str(n + 1) for n, band in enumerate(split.bands) if band.low == band.high]
    if constant:
        yield Finding(
            "warning", "constant-band", split.name,
            f"{'bands' if len(constant) > 1 else 'band'} {', '.join(constant)} of "
            f"{len(split.bands)} with a single value",
            "a model learns nothing from it: leave it out (bands), or check how it was exported",
        )  # fmt: skip


def find_missing_statistics(split: Split) -> Iterator[Finding]:
    """Yield an error if a section lacks the mean and std that its images need."""
    if split.lacks_statistics:
        yield Finding(
            "error", "mean-std", split.name,
            f"{split.section} has no mean and std for its images of "
            f"{count(split.dataset.channels, 'band')}",
            "set those of the training images, as in the lines to paste",
        )  # fmt: skip


def find_differences(train: Split, val: Split) -> Iterator[Finding]:
    """Yield an error if training and validation differ in classes or bands."""
    try:
        check_same(train.dataset, val.dataset)
    except ValueError as error:
        yield Finding(
            "error", "splits-differ", "", str(error),
            "give both loaders the classes and the bands of the training",
        )  # fmt: skip


def _statistics(split: Split, config: Config) -> Iterator[Finding]:
    if split.lacks_statistics or keeps_imagenet(config, split.dataset):
        return
    if len(split.usable) < MIN_IMAGES:
        return
    known = zip(split.bands, split.dataset.mean, split.dataset.std, strict=False)
    odd = [(n, *three) for n, three in enumerate(known, 1) if _is_far(*three)]
    if odd:
        measured = ", ".join(f"{n}: {band.mean:.4g} and {band.std:.4g}" for n, band, *_ in odd[:4])
        expected = ", ".join(f"{mean:.4g} and {std:.4g}" for *_, mean, std in odd[:4])
        yield Finding(
            "warning", "mean-std", split.name,
            f"mean and std of the images (band {measured}) are far from those set ({expected})",
            "set mean and std as in the lines to paste",
        )  # fmt: skip


def _is_far(band: BandStatistics, mean: float, std: float) -> bool:
    """Return whether a band that varies is far from the mean and std that are set."""
    if band.low == band.high:
        return False
    stretched = std <= 0 or not 1 / MAX_STRETCH < band.std / std < MAX_STRETCH
    return stretched or abs(band.mean - mean) > MAX_SHIFT * band.std


def _batches(split: Split) -> Iterator[Finding]:
    images, batch = len(split.facts), split.options.batch_size
    if (images < batch and split.options.drop_last) or images == 1 < batch:
        yield Finding(
            "error", "batch-size", split.name,
            f"{count(images, 'image')} cannot fill a batch of {batch}",
            f"set batch_size to {images}, or add images",
        )  # fmt: skip
        return
    if images % batch == 1 < batch and not split.options.drop_last:
        yield Finding(
            "warning", "batch-size", split.name,
            f"{images} images in batches of {batch} leave a last batch of one image, which "
            "batch normalisation cannot train on: each epoch leaves out a different image",
            f"set batch_size to {_without_rest(images, batch)}",
        )  # fmt: skip
    batches = -(-images // batch)
    if split.options.num_workers > batches:
        yield Finding(
            "warning", "num-workers", split.name,
            f"{split.options.num_workers} loader processes for {count(batches, 'batch')} an epoch",
            f"set num_workers to {batches} or less",
        )  # fmt: skip


def _without_rest(images: int, batch: int) -> int:
    """Return the nearest batch size that does not leave a single image over."""
    sizes = [size for size in range(2, 3 * batch + 3) if images % size != 1]
    return min(sizes, key=lambda size: (abs(size - batch), size), default=1)
