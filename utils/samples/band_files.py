"""A person's own pictures and masks; each band of a picture may be a file of its own."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from utils.cli.extensions import IMAGE_EXTENSIONS, MASK_EXTENSIONS
from utils.files.data_file import DataError
from utils.files.same_files import SameFiles
from utils.samples.file_patterns import affixes_of, fixed_folder, is_pattern
from utils.samples.list_files import Listings, missing_files
from utils.samples.name_rules import (
    Affixes,
    count_pairs,
    find_affixes,
    find_affixes_within,
    find_folders,
    find_kinds,
    find_kinds_within,
    likeness_to_mask,
    match_loosely,
    nfc,
)
from utils.samples.pairing import Pairing, Sample, few, pair
from utils.samples.sources import Source, find_source

PICTURES = (*IMAGE_EXTENSIONS, ".npy")
MASKS = (*MASK_EXTENSIONS, ".npy", ".jpg", ".jpeg")  # JPEG, to be refused with the reason

NO_AFFIXES = Affixes()


def pair_sources(
    image_source: Path,
    mask_source: Path,
    *,
    affixes: Affixes = NO_AFFIXES,
    band_suffixes: Sequence[str] | None = None,
    root: Path | None = None,
) -> Pairing:
    """Match pictures and masks by whole stem.

    Args:
        image_source: A folder, list or pattern of the pictures.
        mask_source: Likewise of the masks; the same, where they stand beside the pictures.
        affixes: What the stems have before and behind the name that they share.
        band_suffixes: What the stems end with where each band is a file of its own.
        root: What a list's lines and a pattern's files may not leave; None: the list's own folder,
            and anything.

    Raises:
        DataError: If there is no such folder or list, it is empty, two files share a stem, or
            pictures are their own masks.
        ValueError: If the suffixes of the bands are none, or do not tell them apart.
    """
    mask_files = find_source(mask_source, MASKS, "mask", root)
    twin = mask_files if image_source == mask_source else None
    masks = _masks_by_key(mask_files, image_source, affixes)
    if band_suffixes is not None:
        different = set(band_suffixes) - {""}
        if not different or len(different) != len(band_suffixes):
            raise ValueError("band_suffixes: expected one a band, all different and none empty")
        image_files = find_source(image_source, PICTURES, "image", root, twin)
        result = pair_bands(
            image_files, masks, mask_source, suffixes=band_suffixes, affixes=affixes
        )
    else:
        image_files = find_source(image_source, PICTURES, "image", root, twin)
        result = _pair_files(image_files, mask_files, masks, affixes)
    _check_existence(result, image_files, mask_files)
    _refuse_same_files(result.samples, image_files, mask_files)
    return result


def _pair_files(
    image_files: Source, mask_files: Source, masks: dict[str, Path], affixes: Affixes
) -> Pairing:
    """Match pictures of one file each with their masks."""
    image_source, mask_source = image_files.path, mask_files.path
    images = _images_by_key(image_files, affixes)
    if image_source == mask_source and image_files.partners is not None:
        partners = image_files.partners
        return pair(
            images, {key: partners[path] for key, path in images.items()}, image_source, mask_source
        )
    selected = affixes_of(image_source, mask_source, affixes)
    if selected.mask_prefix or selected.mask_suffix:
        of_masks = set(masks.values())  # they may stand beside the pictures
        left = {stem: path for stem, path in images.items() if path not in of_masks}
        images = left or images
    if affixes.mask_suffix and image_source == mask_source:
        suffix = affixes.mask_suffix
        images = {stem: path for stem, path in images.items() if not stem.endswith(suffix)}
    if image_files.listed or mask_files.listed:
        masks = match_tails(images, masks)
    masks, guess = match_loosely(images, masks)
    hint = ""
    if not all(stem in masks for stem in images):
        rule = _find_rule(image_files, mask_files)
        if not affixes.given and _in_step(images, masks, image_files, mask_files, rule):
            masks = dict(zip(images, masks.values(), strict=True))
            key = next(iter(images))
            guess = (
                f"{len(images)} pairs line by line, as no name of {image_source} stands in "
                f"{mask_source}: {images[key].name} with {masks[key].name}"
            )
        elif rule is not None:
            hint = _proposal(*rule, image_files, mask_files)
        else:
            hint = (
                _hint_of_masks_below(images, masks, image_files, mask_files)
                or _hint_of_folders(image_files, mask_files)
                or _examples(images, masks)
            )
    result = pair(images, masks, image_source, mask_source, hint)
    result.guesses += [] if guess is None else [guess]
    return result


def _find_rule(image_files: Source, mask_files: Source) -> tuple[Affixes, int] | None:
    """The arguments that pair (nearly) all pictures, and how many pairs they make."""
    images, masks = dict(image_files.files), dict(mask_files.files)
    if image_files.path != mask_files.path:
        return find_affixes(images, masks)
    rule = find_affixes_within({**images, **masks})
    return None if rule is None else (rule, count_pairs(rule, images, masks))


def _hint_of_masks_below(
    images: Mapping[str, Path], masks: Mapping[str, Path], image_files: Source, mask_files: Source
) -> str:
    """The pattern of the images, where the folder of the masks lies within theirs."""
    of_masks = {path for _, path in mask_files.files}
    alone = [path for stem, path in images.items() if stem not in masks]
    others = [path for stem, path in images.items() if stem in masks]
    if not others or not all(path in of_masks for path in alone):
        return ""
    extensions = {path.suffix for path in others}
    name = f"*{extensions.pop()}" if len(extensions) == 1 else "*"
    if any(path.parent != image_files.path for path in others):
        return "; these are the masks: name the folder of the images alone"
    return f'; these are the masks: set "images": "{image_files.argument(name)}"'


def _hint_of_folders(image_files: Source, mask_files: Source) -> str:
    """The sub-folders to name, where only the folders in front of the names differ."""
    sources = {"images": image_files, "masks": mask_files}
    if any(source.listed or is_pattern(source.path) for source in sources.values()):
        return ""
    found = find_folders(*(dict(source.files) for source in sources.values()))
    if found is None:
        kinds = find_kinds(*(dict(source.files) for source in sources.values()))
        return (
            "" if kinds is None else f"; set {patterns_of_kinds(image_files, mask_files, *kinds)}"
        )
    lines = [
        f'"{name}": "{source.argument(folder)}"'
        for (name, source), folder in zip(sources.items(), found, strict=True)
        if folder
    ]
    return f"; set {', '.join(lines)}"


def patterns_of_kinds(images: Source, masks: Source, image_kind: str, mask_kind: str) -> str:
    """The patterns that take images and masks out of folders of these names, below others."""
    lines = []
    for name, source, kind in (("images", images, image_kind), ("masks", masks, mask_kind)):
        paths = [path for _, path in source.files if kind in path.parent.parts]
        extensions = {path.suffix for path in paths}
        file = f"*{extensions.pop()}" if len(extensions) == 1 else "*"
        lines.append(f'"{name}": "{source.argument("**", kind, file)}"')
    return ", ".join(lines)


def _masks_by_key(mask_files: Source, image_source: Path, affixes: Affixes) -> dict[str, Path]:
    """The masks by key.

    Raises:
        DataError: If two share one; with patterns, where the images stand beside them.
    """
    try:
        return mask_files.by_key(affixes.mask_prefix, affixes.mask_suffix)
    except DataError as error:
        patterns = None if affixes.given else _patterns_by_extension(mask_files)
        if mask_files.path != image_source or patterns is None:
            raise
        raise DataError(
            f"{image_source}: holds images and masks of the same stems; tell them apart by "
            f"patterns: {patterns}"
        ) from error


def _images_by_key(image_files: Source, affixes: Affixes) -> dict[str, Path]:
    """The images by key.

    Raises:
        DataError: If two share one, or there is none.
    """
    images = image_files.by_key(affixes.image_prefix, affixes.image_suffix)
    if not images:
        names = few([path.name for _, path in image_files.files], 3)
        raise DataError(
            f"{image_files.path}: holds no image whose stem has "
            f"{Affixes(affixes.image_prefix, affixes.image_suffix).lines()}; there is: {names}"
        )
    return images


def _patterns_by_extension(files: Source) -> str | None:
    """The arguments for a folder that holds `1.jpg` and its mask `1.png`, and so on."""
    by_extension: dict[str, set[str]] = {}
    for stem, path in files.files:
        by_extension.setdefault(path.suffix, set()).add(stem)
    kinds = sorted(by_extension, key=lambda extension: extension.lower() in (".png", ".npy"))
    if len(kinds) != 2 or files.listed or is_pattern(files.path):
        return None
    if by_extension[kinds[0]] - by_extension[kinds[1]]:
        return None
    deep = "**/" if any("/" in stem for stem, _ in files.files) else ""
    return ", ".join(
        f'"{name}": "{files.argument(f"{deep}*{extension}")}"'
        for name, extension in zip(("images", "masks"), kinds, strict=True)
    )


def _patterns_by_name(files: Source) -> str | None:
    """The arguments where each sample has a folder of its own, with files of the same names."""
    names = collections.Counter(path.name for _, path in files.files)
    folders = {path.parent for _, path in files.files}
    everywhere = sorted(name for name, count in names.items() if count == len(folders))
    if len(folders) < 2 or len(everywhere) != 2 or files.listed or is_pattern(files.path):
        return None
    image, mask = sorted(everywhere, key=likeness_to_mask)
    return ", ".join(
        f'"{argument}": "{files.argument("**", name)}"'
        for argument, name in (("images", image), ("masks", mask))
    )


def _in_step(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    image_files: Source,
    mask_files: Source,
    rule: tuple[Affixes, int] | None,
) -> bool:
    """Whether two lists belong together line by line: nothing else pairs any of their names.

    Args:
        images: Key -> picture, in the order of the list.
        masks: Key -> mask, likewise.
        image_files: The list of the pictures.
        mask_files: The list of the masks.
        rule: The arguments that would pair them; where there are any, the lines have to agree.
    """
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


def _proposal(affixes: Affixes, count: int, image_files: Source, mask_files: Source) -> str:
    """The arguments that pair the names, with an example."""
    images = image_files.by_key(affixes.image_prefix, affixes.image_suffix)
    masks, _ = match_loosely(images, mask_files.by_key(affixes.mask_prefix, affixes.mask_suffix))
    example = next((f" ({images[k].name} with {masks[k].name})" for k in images if k in masks), "")
    total = f" of {len(image_files.files)}" if image_files.path != mask_files.path else ""
    return f"; set {affixes.lines()}, which pairs {count}{total}{example}"


def _examples(images: Mapping[str, Path], masks: Mapping[str, Path]) -> str:
    """A name of each side, so that their difference can be seen."""
    alone = min(stem for stem in images if stem not in masks)
    spare = min((stem for stem in masks if stem not in images), default=None)
    if spare is None:
        return ""
    return f"; a picture is called {images[alone].name}, a mask without one {masks[spare].name}"


def _check_existence(result: Pairing, image_files: Source, mask_files: Source) -> None:
    """Leave out samples that lack a file, each missed once, with the list that names it."""
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
    """Refuse pictures that are their own masks.

    Raises:
        DataError: With what would tell them apart.
    """
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
    elif (patterns := _patterns_by_name(image_files)) is not None:
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


def match_tails(images: Mapping[str, Path], masks: Mapping[str, Path]) -> dict[str, Path]:
    """The masks, each by the key of its picture, where one or both come from lists.

    A list may name files of one sub-folder only, so that what its lines have in common is an
    accident. Two lists of the same names in the same order belong together line by line;
    otherwise as many last parts of the paths are compared as pair the most.

    Args:
        images: Key -> picture, in the order of a list.
        masks: Key -> mask, likewise.
    """
    names, mask_names = list(map(_name, images)), list(map(_name, masks))
    if names == mask_names:
        return dict(zip(images, masks.values(), strict=True))
    best: tuple[int, dict[str, Path]] = (len(images.keys() & masks.keys()), dict(masks))
    folders = [_folders(path) for path in images.values()]
    mask_folders = [_folders(path) for path in masks.values()]
    for depth in range(1 + max(map(len, folders), default=0)):
        if best[0] == len(images):
            break
        keys = dict(zip(_tails(folders, names, depth), images, strict=True))
        tails = dict(zip(_tails(mask_folders, mask_names, depth), masks.items(), strict=True))
        count = len(keys.keys() & tails.keys())
        if len(keys) == len(images) and len(tails) == len(masks) and count > best[0]:
            found = {keys.get(tail, key): path for tail, (key, path) in tails.items()}
            best = (count, found)
    return best[1]


def _name(key: str) -> str:
    """The name that pictures and masks share."""
    return nfc(key.rpartition("/")[2])


def _folders(path: Path) -> tuple[str, ...]:
    return tuple(map(nfc, path.parts[:-1]))


def _tails(
    folders: Sequence[tuple[str, ...]], names: Sequence[str], depth: int
) -> Iterable[tuple[str, ...]]:
    """The last parts of paths, with so many folders."""
    pairs = zip(folders, names, strict=True)
    return ((*parts[max(0, len(parts) - depth) :], name) for parts, name in pairs)


def pair_bands(
    image_files: Source,
    masks: Mapping[str, Path],
    mask_source: Path,
    *,
    suffixes: Sequence[str],
    affixes: Affixes | None = None,
) -> Pairing:
    """Match masks with pictures that are spread over several files.

    Args:
        image_files: The files of all bands.
        masks: Key -> mask.
        mask_source: Where the masks come from, for messages.
        suffixes: What the stems of the files end with, one for each band.
        affixes: What else stands around the name that pictures and masks share; None where a
            dataset fixes its names, so that no message proposes others.

    Returns:
        Samples with `bands` in the order of `suffixes`. A picture that lacks one is a problem.

    Raises:
        DataError: If there is no file of any band.
    """
    before, behind = (affixes.image_prefix, affixes.image_suffix) if affixes else ("", "")
    layers = [image_files.by_key(before, behind + suffix) for suffix in suffixes]
    names = sorted(set().union(*layers))
    if not names:
        raise DataError(
            f"{image_files.path}: holds no picture whose stem ends with {' or '.join(suffixes)}"
        )
    lacking = [
        f"{name}{suffix}"
        for name in names
        for suffix, layer in zip(suffixes, layers, strict=True)
        if name not in layer
    ]
    files = {name: [layer[name] for layer in layers if name in layer] for name in names}
    first = {name: found[0] for name, found in files.items() if len(found) == len(layers)}
    guess, hint = None, ""
    if affixes is not None:
        masks, guess = match_loosely(first, masks)
        if not all(name in masks for name in first):
            hint = _hint_of_bands(first, masks, affixes)
    result = pair(first, masks, image_files.path, mask_source, hint)
    result.guesses += [] if guess is None else [guess]
    if lacking:
        result.lost += len(names) - len(first)
        result.problems.append(
            f"{len(lacking)} band files are missing in {image_files.path}: {few(lacking)}; add "
            "them, or remove the other bands of these pictures"
        )
    result.samples = [
        dataclasses.replace(sample, bands=tuple(map(str, files[sample.name])))
        for sample in result.samples
    ]
    return result


def _hint_of_bands(images: Mapping[str, Path], masks: Mapping[str, Path], affixes: Affixes) -> str:
    rule = None if affixes.given else find_affixes(images, masks)
    if rule is None:
        return _examples(images, masks)
    return f"; set {rule[0].lines()}, which pairs {rule[1]} of {len(images)}"
