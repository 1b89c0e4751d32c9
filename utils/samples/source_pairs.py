"""Pairs of images and masks from folders, lists or patterns that a person names."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from utils.cli.extensions import IMAGE_EXTENSIONS, MASK_EXTENSIONS
from utils.files.data_file import DataError
from utils.files.same_files import SameFiles
from utils.samples.affix_search import find_affixes_within
from utils.samples.affixes import NO_AFFIXES, Affixes
from utils.samples.band_files import pair_bands
from utils.samples.file_patterns import affixes_of, fixed_folder, is_pattern
from utils.samples.folder_search import find_kinds_within
from utils.samples.list_files import missing_files
from utils.samples.listings import Listings
from utils.samples.loose_names import match_loosely, match_tails
from utils.samples.pair_hints import (
    examples,
    find_rule,
    hint_of_folders,
    hint_of_masks_below,
    patterns_by_extension,
    patterns_by_name,
    patterns_of_kinds,
    proposal,
)
from utils.samples.pairing import Pairing, Sample, few, pair
from utils.samples.sources import Source, find_source

IMAGES = (*IMAGE_EXTENSIONS, ".npy")
MASKS = (*MASK_EXTENSIONS, ".npy", ".jpg", ".jpeg")  # JPEG, to refuse it with the reason


def pair_sources(
    image_source: Path,
    mask_source: Path,
    *,
    affixes: Affixes = NO_AFFIXES,
    band_suffixes: Sequence[str] | None = None,
    root: Path | None = None,
) -> Pairing:
    """Match images and masks by whole stem.

    Args:
        image_source: A folder, list or pattern of the images.
        mask_source: The source of the masks; the same if they lie beside the images.
        affixes: Prefixes and suffixes of the stems around the name that they share.
        band_suffixes: The ends of the stems if each band is a file of its own.
        root: The folder that no line of a list and no file of a pattern may leave; None: the
            list's own folder, and no limit.

    Raises:
        DataError: If there is no such folder or list, it is empty, two files share a stem, or
            images are their own masks.
        ValueError: If there are no band suffixes, or they do not tell the bands apart.
    """
    mask_files = find_source(mask_source, MASKS, "mask", root)
    twin = mask_files if image_source == mask_source else None
    masks = _masks_by_key(mask_files, image_source, affixes)
    if band_suffixes is not None:
        different = set(band_suffixes) - {""}
        if not different or len(different) != len(band_suffixes):
            raise ValueError(
                "band_suffixes: expected one for each band, all different and none empty"
            )
        image_files = find_source(image_source, IMAGES, "image", root, twin)
        result = pair_bands(
            image_files, masks, mask_source, suffixes=band_suffixes, affixes=affixes
        )
    else:
        image_files = find_source(image_source, IMAGES, "image", root, twin)
        result = _pair_files(image_files, mask_files, masks, affixes)
    _check_existence(result, image_files, mask_files)
    _refuse_same_files(result.samples, image_files, mask_files)
    return result


def _pair_files(
    image_files: Source, mask_files: Source, masks: dict[str, Path], affixes: Affixes
) -> Pairing:
    """Match images of one file each with their masks."""
    image_source, mask_source = image_files.path, mask_files.path
    images = _images_by_key(image_files, affixes)
    if image_source == mask_source and image_files.partners is not None:
        partners = image_files.partners
        return pair(
            images, {key: partners[path] for key, path in images.items()}, image_source, mask_source
        )

    # Leave masks out of the images beside them
    selected = affixes_of(image_source, mask_source, affixes)
    if selected.mask_prefix or selected.mask_suffix:
        of_masks = set(masks.values())  # they may lie beside the images
        left = {stem: path for stem, path in images.items() if path not in of_masks}
        images = left or images
    if affixes.mask_suffix and image_source == mask_source:
        suffix = affixes.mask_suffix
        images = {stem: path for stem, path in images.items() if not stem.endswith(suffix)}

    # Match names that differ in nothing that matters
    if image_files.listed or mask_files.listed:
        masks = match_tails(images, masks)
    masks, guess = match_loosely(images, masks)
    hint = ""
    if not all(stem in masks for stem in images):
        rule = find_rule(image_files, mask_files)
        if not affixes.given and _in_step(images, masks, image_files, mask_files, rule):
            masks = dict(zip(images, masks.values(), strict=True))
            key = next(iter(images))
            guess = (
                f"{len(images)} pairs line by line, as no name of {image_source} is in "
                f"{mask_source}: {images[key].name} with {masks[key].name}"
            )
        elif rule is not None:
            hint = proposal(*rule, image_files, mask_files)
        else:
            hint = (
                hint_of_masks_below(images, masks, image_files, mask_files)
                or hint_of_folders(image_files, mask_files)
                or examples(images, masks)
            )
    result = pair(images, masks, image_source, mask_source, hint)
    result.guesses += [] if guess is None else [guess]
    return result


def _masks_by_key(mask_files: Source, image_source: Path, affixes: Affixes) -> dict[str, Path]:
    """Return the masks by key.

    Raises:
        DataError: If two share one; it proposes patterns if the images lie beside them.
    """
    try:
        return mask_files.by_key(affixes.mask_prefix, affixes.mask_suffix)
    except DataError as error:
        patterns = None if affixes.given else patterns_by_extension(mask_files)
        if mask_files.path != image_source or patterns is None:
            raise
        raise DataError(
            f"{image_source}: has images and masks of the same stems; tell them apart by "
            f"patterns: {patterns}"
        ) from error


def _images_by_key(image_files: Source, affixes: Affixes) -> dict[str, Path]:
    """Return the images by key."""
    images = image_files.by_key(affixes.image_prefix, affixes.image_suffix)
    if not images:
        names = few([path.name for _, path in image_files.files], 3)
        raise DataError(
            f"{image_files.path}: has no image whose stem has "
            f"{Affixes(affixes.image_prefix, affixes.image_suffix).lines()}; there are: {names}"
        )
    return images


def _in_step(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    image_files: Source,
    mask_files: Source,
    rule: tuple[Affixes, int] | None,
) -> bool:
    """Return whether two lists pair line by line: nothing else pairs any of their names."""
    if not (image_files.in_order and mask_files.in_order and len(images) == len(masks)):
        return False
    if images.keys() & masks.keys() or len(images) != len(image_files.files):
        return False
    if rule is None:
        return True
    affixes, count = rule
    pairs = zip(image_files.by_key(), mask_files.by_key(), strict=True)
    cores = {affixes.image(core): affixes.mask(core) for core in _cores(image_files, affixes)}
    return count == len(images) and all(cores.get(image) == mask for image, mask in pairs)


def _cores(files: Source, affixes: Affixes) -> Iterable[str]:
    return files.by_key(affixes.image_prefix, affixes.image_suffix)


def _check_existence(result: Pairing, image_files: Source, mask_files: Source) -> None:
    """Leave out samples that lack a file, and report the files by the list that names them."""
    there = Listings()
    missing: dict[Path, list[str]] = {}
    complete = []
    for sample in result.samples:
        absent = [
            (source.path, file)
            for source, files in (
                (image_files, sample.bands or (sample.image,)),
                (mask_files, (sample.label or "",)),
            )
            if source.listed
            for file in files
            if file not in there
        ]
        for source, file in absent:
            missing.setdefault(source, []).append(file)
        if not absent:
            complete.append(sample)
    result.lost += len(result.samples) - len(complete)
    result.samples = complete
    for source, files in sorted(missing.items()):
        result.problems.append(missing_files(source, files, lambda names: few(names, 3)))


def _refuse_same_files(samples: Sequence[Sample], image_files: Source, mask_files: Source) -> None:
    """Refuse images that are their own masks."""
    files = SameFiles()
    same = [s for s in samples if files.in_any(s.bands or (s.image,), s.label or "")]
    if not same:
        return
    first = same[0]
    image = next(f for f in first.bands or (first.image,) if files.are_same(f, first.label or ""))
    other = "" if first.label == image else f", which its mask {first.label} is a link to"
    stems = dict((*image_files.files, *mask_files.files))
    rule = find_affixes_within(stems)
    if rule is not None:
        fix = f"set {rule.lines()}, as the names show"
    elif (patterns := patterns_by_name(image_files)) is not None:
        fix = f"set {patterns}, as the names show"
    elif not image_files.listed and (kinds := find_kinds_within(stems)) is not None:
        fix = f"set {patterns_of_kinds(image_files, mask_files, *kinds)}, as the folders show"
    elif image_files.listed:
        fix = (
            'name the list of the masks as "masks", or give each line its mask, separated by a tab'
        )
    else:
        path = mask_files.path
        folder = fixed_folder(path) if is_pattern(path) else path
        example = dataclasses.replace(mask_files, path=folder).argument("*_mask.png")
        fix = (
            'name the folder of the masks as "masks", or tell both apart by patterns such as '
            f'"masks": "{example}"'
        )
    raise DataError(
        f"{len(same)} of {len(samples)} images are their own masks, the first {image}{other}: "
        f"{image_files.path} and {mask_files.path} name the same files; {fix}"
    )
