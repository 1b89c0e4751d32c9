"""A person's own pictures and masks; each band of a picture may be a file of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.files.data_file import DataError
from utils.formats import IMAGE_EXTENSIONS, MASK_EXTENSIONS
from utils.pairing import Pairing, by_stem, few, keep_existing, pair

PICTURES = (*IMAGE_EXTENSIONS, ".npy")
MASKS = (*MASK_EXTENSIONS, ".npy", ".jpg", ".jpeg")  # JPEG, to be refused with the reason


def pair_sources(
    image_source: Path,
    mask_source: Path,
    *,
    mask_suffix: str = "",
    band_suffixes: Sequence[str] | None = None,
    root: Path | None = None,
) -> Pairing:
    """Match pictures and masks by whole stem.

    Args:
        image_source: A folder or list of the pictures.
        mask_source: Likewise of the masks; the same, where they stand beside the pictures.
        mask_suffix: What a mask's stem has behind the picture's.
        band_suffixes: What the stems end with where each band is a file of its own.
        root: What a list's lines may not leave; None: the list's own folder.

    Raises:
        DataError: If there is no such folder or list, it is empty, or two files share a stem.
        ValueError: If the suffixes of the bands are none, or do not tell them apart.
    """
    masks = by_stem(mask_source, MASKS, suffix=mask_suffix, root=root)
    if band_suffixes is not None:
        different = set(band_suffixes) - {""}
        if not different or len(different) != len(band_suffixes):
            raise ValueError("band_suffixes: expected one a band, all different and none empty")
        result = pair_bands(
            image_source, masks, mask_source, suffixes=band_suffixes, extensions=PICTURES, root=root
        )
    else:
        images = by_stem(image_source, PICTURES, root=root)
        if mask_suffix and image_source == mask_source:
            images = {stem: path for stem, path in images.items() if not stem.endswith(mask_suffix)}
        if image_source.is_file() or mask_source.is_file():
            masks = match_tails(images, masks)
        alone = next((stem for stem in sorted(images) if stem not in masks), None)
        hint = "" if alone is None else _hint(alone, masks)
        result = pair(images, masks, image_source, mask_source, hint)
    for source in dict.fromkeys((image_source, mask_source)):
        if source.is_file():
            listed, result.samples = result.samples, []
            result.add(keep_existing(listed, source))
    return result


def match_tails(images: Mapping[str, Path], masks: Mapping[str, Path]) -> dict[str, Path]:
    """The masks, each by the key of its picture, where one or both come from lists.

    A list may name files of one sub-folder only, so that what its lines have in common is an
    accident. Two lists of the same names in the same order belong together line by line;
    otherwise as many last parts of the paths are compared as pair the most.

    Args:
        images: Key -> picture, in the order of a list.
        masks: Key -> mask, likewise.
    """
    names = [Path(key).name for key in images]
    if names == [Path(key).name for key in masks]:
        return dict(zip(images, masks.values(), strict=True))
    best: tuple[int, dict[str, Path]] = (len(images.keys() & masks.keys()), dict(masks))
    for depth in range(1, 1 + max(len(path.parts) for path in images.values())):
        keys = {_tail(path, key, depth): key for key, path in images.items()}
        tails = {_tail(path, key, depth): (key, path) for key, path in masks.items()}
        count = len(keys.keys() & tails.keys())
        if len(keys) == len(images) and len(tails) == len(masks) and count > best[0]:
            found = {keys.get(tail, key): path for tail, (key, path) in tails.items()}
            best = (count, found)
    return best[1]


def _tail(path: Path, key: str, depth: int) -> tuple[str, ...]:
    """The last parts of a path, with the name that pictures and masks share."""
    return (*path.parent.parts, Path(key).name)[-depth:]


def _hint(stem: str, masks: Mapping[str, Path]) -> str:
    """The mask_suffix to set, where the masks' stems only have something behind."""
    suffixes = {m.removeprefix(stem) for m in masks if m.startswith(stem)} - {""}
    return f'; set "mask_suffix": "{min(suffixes, key=len)}"?' if suffixes else ""


def pair_bands(
    image_source: Path,
    masks: Mapping[str, Path],
    mask_source: Path,
    *,
    suffixes: Sequence[str],
    extensions: tuple[str, ...],
    root: Path | None = None,
) -> Pairing:
    """Match masks with pictures that are spread over several files.

    Args:
        image_source: A folder or list with the files of all bands.
        masks: Key -> mask.
        mask_source: Where the masks come from, for messages.
        suffixes: What the stems of the files end with, one for each band.
        extensions: Those of pictures, lower case, with the dot.
        root: What a list's lines may not leave; None: the list's own folder.

    Returns:
        Samples with `bands` in the order of `suffixes`. A picture that lacks one is a problem.

    Raises:
        DataError: If there is no file of any band.
    """
    layers = [by_stem(image_source, extensions, suffix=s, root=root) for s in suffixes]
    names = sorted(set().union(*layers))
    if not names:
        raise DataError(
            f"{image_source}: holds no picture whose stem ends with {' or '.join(suffixes)}"
        )
    lacking = [
        f"{name}{suffix}"
        for name in names
        for suffix, layer in zip(suffixes, layers, strict=True)
        if name not in layer
    ]
    files = {name: [layer[name] for layer in layers if name in layer] for name in names}
    first = {name: found[0] for name, found in files.items() if len(found) == len(layers)}
    result = pair(first, masks, image_source, mask_source)
    if lacking:
        result.lost += len(names) - len(first)
        result.problems.append(
            f"{len(lacking)} band files are missing in {image_source}: {few(lacking)}; add them, "
            "or remove the other bands of these pictures"
        )
    result.samples = [
        dataclasses.replace(sample, bands=tuple(map(str, files[sample.name])))
        for sample in result.samples
    ]
    return result
