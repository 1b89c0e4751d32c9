"""Pictures of which each band is a file of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.files.data_file import DataError
from utils.pairing import Pairing, by_stem, few, pair


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
        root: What a list's lines may not leave.

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
        result.problems.append(
            f"{len(lacking)} band files are missing in {image_source}: {few(lacking)}; add them, "
            "or remove the other bands of these pictures"
        )
    result.samples = [
        dataclasses.replace(sample, bands=tuple(map(str, files[sample.name])))
        for sample in result.samples
    ]
    return result
