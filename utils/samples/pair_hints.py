"""Hints in messages: what to set in a config so that images and masks pair."""

import collections
from collections.abc import Mapping
from pathlib import Path

from utils.samples.affix_search import (
    count_pairs,
    find_affixes,
    find_affixes_within,
    likeness_to_mask,
)
from utils.samples.affixes import Affixes
from utils.samples.file_patterns import is_pattern
from utils.samples.folder_search import find_folders, find_kinds
from utils.samples.loose_names import match_loosely
from utils.samples.sources import Source


def find_rule(image_files: Source, mask_files: Source) -> tuple[Affixes, int] | None:
    """Return the arguments that pair (nearly) all images, and the number of pairs."""
    images, masks = dict(image_files.files), dict(mask_files.files)
    if image_files.path != mask_files.path:
        return find_affixes(images, masks)
    rule = find_affixes_within({**images, **masks})
    return None if rule is None else (rule, count_pairs(rule, images, masks))


def proposal(affixes: Affixes, count: int, image_files: Source, mask_files: Source) -> str:
    """Return the arguments that pair the names, with an example."""
    images = image_files.by_key(affixes.image_prefix, affixes.image_suffix)
    masks, _ = match_loosely(images, mask_files.by_key(affixes.mask_prefix, affixes.mask_suffix))
    example = next((f" ({images[k].name} with {masks[k].name})" for k in images if k in masks), "")
    total = f" of {len(image_files.files)}" if image_files.path != mask_files.path else ""
    return f"; set {affixes.lines()}, which pairs {count}{total}{example}"


def hint_of_masks_below(
    images: Mapping[str, Path], masks: Mapping[str, Path], image_files: Source, mask_files: Source
) -> str:
    """Return the pattern of the images if the folder of the masks lies within theirs."""
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


def hint_of_folders(image_files: Source, mask_files: Source) -> str:
    """Return the sub-folders to name if only the folders in front of the names differ."""
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
    """Return the patterns of images and masks in folders of these names, below others."""
    lines = []
    for name, source, kind in (("images", images, image_kind), ("masks", masks, mask_kind)):
        paths = [path for _, path in source.files if kind in path.parent.parts]
        extensions = {path.suffix for path in paths}
        file = f"*{extensions.pop()}" if len(extensions) == 1 else "*"
        lines.append(f'"{name}": "{source.argument("**", kind, file)}"')
    return ", ".join(lines)


def patterns_by_extension(files: Source) -> str | None:
    """Return the arguments for a folder with `1.jpg`, its mask `1.png`, and so on."""
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


def patterns_by_name(files: Source) -> str | None:
    """Return the arguments if each sample has its own folder, with files of the same names."""
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


def examples(images: Mapping[str, Path], masks: Mapping[str, Path]) -> str:
    """Return a name of each side, so that their difference can be seen."""
    alone = min(stem for stem in images if stem not in masks)
    spare = min((stem for stem in masks if stem not in images), default=None)
    if spare is None:
        return ""
    return f"; an image is called {images[alone].name}, a mask without one {masks[spare].name}"
