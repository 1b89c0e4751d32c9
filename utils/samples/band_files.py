"""Images whose bands are a file each."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.files.data_file import DataError
from utils.samples.affix_search import find_affixes
from utils.samples.affixes import Affixes
from utils.samples.loose_names import match_loosely
from utils.samples.pair_hints import examples
from utils.samples.pairing import Pairing, few, pair
from utils.samples.sources import Source


def pair_bands(
    image_files: Source,
    masks: Mapping[str, Path],
    mask_source: Path,
    *,
    suffixes: Sequence[str],
    affixes: Affixes | None = None,
) -> Pairing:
    """Match masks with images whose bands are a file each.

    Args:
        image_files: The files of all bands.
        masks: Key -> mask.
        mask_source: Where the masks come from, for messages.
        suffixes: The ends of the files' stems, one for each band.
        affixes: Further prefixes and suffixes around the shared name; None for a dataset with
            fixed names, so that no message proposes others.

    Returns:
        Samples with `bands` in the order of `suffixes`. An image that lacks one is a problem.

    Raises:
        DataError: If there is no file of any band.
    """
    # The files of each band, by the name of the image
    before, behind = (affixes.image_prefix, affixes.image_suffix) if affixes else ("", "")
    layers = [image_files.by_key(before, behind + suffix) for suffix in suffixes]
    names = sorted(set().union(*layers))
    if not names:
        raise DataError(
            f"{image_files.path}: has no image whose stem ends with {' or '.join(suffixes)}"
        )
    lacking = [
        f"{name}{suffix}"
        for name in names
        for suffix, layer in zip(suffixes, layers, strict=True)
        if name not in layer
    ]
    files = {name: [layer[name] for layer in layers if name in layer] for name in names}
    first = {name: found[0] for name, found in files.items() if len(found) == len(layers)}

    # Pair by the first band
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
            "them, or remove the other bands of these images"
        )

    # The other bands
    result.samples = [
        dataclasses.replace(sample, bands=tuple(map(str, files[sample.name])))
        for sample in result.samples
    ]
    return result


def _hint_of_bands(images: Mapping[str, Path], masks: Mapping[str, Path], affixes: Affixes) -> str:
    rule = None if affixes.given else find_affixes(images, masks)
    if rule is None:
        return examples(images, masks)
    return f"; set {rule[0].lines()}, which pairs {rule[1]} of {len(images)}"
