"""Pairs of images and masks; lists and folders of a dataset."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from utils.files.data_file import DataError
from utils.files.image_io import list_images
from utils.files.paths import Root
from utils.samples.affixes import cut
from utils.samples.listings import Listings


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image of a dataset and, unless it is unlabelled, its mask."""

    name: str  # its name in messages
    image: str  # its file; the first one if each band is a file of its own
    label: str | None = None  # the file of its mask
    # The files of its bands in their order, if each is a file of its own.
    bands: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that the sample is read from."""
        label = () if self.label is None else (self.label,)
        return (*(self.bands or (self.image,)), *label)


@dataclasses.dataclass
class Pairing:
    """The samples of a dataset, and the problems of its lists and folders."""

    samples: list[Sample] = dataclasses.field(default_factory=list)  # the complete samples
    # Problems that training refuses: an image without a mask, a file that is missing.
    problems: list[str] = dataclasses.field(default_factory=list)
    # Oddities that it warns of: a mask without an image.
    notes: list[str] = dataclasses.field(default_factory=list)
    lost: int = 0  # the number of images that are named but cannot be used
    # How images and masks of different names were paired, for a person to check.
    guesses: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: Pairing) -> None:
        """Add the samples and problems of another folder of the dataset."""
        self.samples += other.samples
        self.problems += other.problems
        self.notes += other.notes
        self.lost += other.lost
        self.guesses += other.guesses


def pair(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    image_source: str | Path,
    mask_source: str | Path,
    hint: str = "",
) -> Pairing:
    """Match images and masks by their key, usually the stem."""
    result = Pairing(
        [Sample(k, str(images[k]), str(masks[k])) for k in sorted(images) if k in masks]
    )
    alone = sorted(k for k in images if k not in masks)
    if alone:
        result.lost = len(alone)
        result.problems.append(
            f"{len(alone)} of {len(images)} images in {image_source} have no mask of the same "
            f"stem in {mask_source}: {few(alone)}{hint}; add the masks or remove the images"
        )
    spare = sorted(k for k in masks if k not in images)
    if spare:
        result.notes.append(
            f"{len(spare)} of {len(masks)} masks in {mask_source} belong to no image: {few(spare)}"
        )
    return result


def keep_existing(samples: Iterable[Sample], source: str | Path) -> Pairing:
    """Leave out the samples that lack a file, so that none is missing during an epoch."""
    there = Listings()
    result = Pairing()
    missing: list[str] = []
    for sample in samples:
        absent = [path for path in sample.files if path not in there]
        missing += absent
        result.lost += bool(absent)
        if not absent:
            result.samples.append(sample)
    if missing:
        result.problems.append(
            f"{source}: {len(missing)} of the files that it names do not exist: {few(missing, 3)}"
        )
    return result


def by_stem(source: Path, extensions: tuple[str, ...], *, suffix: str = "") -> dict[str, Path]:
    """Return the files of a folder (with its sub-folders) or a list, by stem below it.

    Args:
        source: A folder, or a text file with one path a line.
        extensions: Lower case, with the dot.
        suffix: The end of the stems, which is cut off; files of other stems are left out.

    Raises:
        DataError: If there is no such folder or list, it is empty, or two files share a stem.
    """
    if source.is_dir():
        paths, top = list_images(source, extensions), source
    elif source.is_file():
        paths, top = read_list(source)
    else:
        raise DataError(f"{source}: no such folder or list file{nearest(source)}")
    if not paths:
        raise DataError(f"{source}: contains no image ({', '.join(extensions)})")
    stems = ((path.relative_to(top).with_suffix("").as_posix(), path) for path in paths)
    return by_key(stems, suffix=suffix)


def by_key(
    files: Iterable[tuple[str, Path]], *, prefix: str = "", suffix: str = ""
) -> dict[str, Path]:
    """Return the files by their stems without prefix and suffix; others are left out.

    Raises:
        DataError: If two files share a key.
    """
    found: dict[str, Path] = {}
    for stem, path in files:
        key = cut(stem, prefix, suffix)
        if key is None:
            continue
        if key in found:
            raise DataError(
                f"{found[key]} and {path} have the same stem; rename one, so that it is clear "
                "which belongs to which"
            )
        found[key] = path
    return found


def read_lines(source: Path) -> list[str]:
    """Return the lines of a list file without blank ones, each once.

    Raises:
        DataError: If it is missing, not text, or empty.
    """
    return list(dict.fromkeys(read_text_lines(source)))


def read_text_lines(source: Path) -> list[str]:
    """Return all lines of a list file except blank ones.

    Byte order marks, CRLF and spaces around a line are ignored.

    Raises:
        DataError: If it is missing, not text, or empty.
    """
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(
            f"{source}: is not UTF-8 text; save it as UTF-8, with one entry a line"
        ) from None
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror})") from None
    if "\0" in text:
        raise DataError(f"{source}: contains NUL characters; save it as UTF-8 text")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{source}: names no file")
    return lines


def read_list(source: Path) -> tuple[list[Path], Path]:
    """Return the files that a list names, relative to its folder, and their common folder.

    Raises:
        DataError: If the list cannot be used, or a line leaves its folder.
    """
    root = Root(source.parent, source)
    paths = [root.inside(line) for line in read_lines(source)]
    return paths, Path(os.path.commonpath([path.parent for path in paths]))


def masks_within(samples: Sequence[Sample], folder: Path) -> list[str]:
    """Return patterns that match the masks in a folder of images, but no image; perhaps none."""
    labels = [Path(sample.label) for sample in samples if sample.label is not None]
    masks = [path for path in labels if path.is_relative_to(folder)]
    if not masks:
        return []
    images = [Path(sample.image) for sample in samples]
    folders = {path.relative_to(folder).parts[0] for path in masks if path.parent != folder}
    names = {path.name for path in masks}
    kinds = {path.suffix for path in masks}
    mixed = {path.relative_to(folder).parts[0] for path in images if path.is_relative_to(folder)}
    if len(folders) == 1 and not folders & mixed and all(path.parent != folder for path in masks):
        return sorted(folders)
    if not kinds & {path.suffix for path in images}:
        return sorted(f"*{kind}" for kind in kinds)
    # If each sample has its own folder, all masks have one name.
    return sorted(names) if len(names) == 1 and not names & {path.name for path in images} else []


def few(names: Sequence[str], most: int = 5) -> str:
    """Return the first names of many, as text."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"


def nearest(path: Path) -> str:
    """Return the nearest existing folder of a path, and its content."""
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        return f" ({parent} is a file)"
    there = sorted(p.name for p in parent.iterdir() if not p.name.startswith("."))
    return f" ({parent} contains: {few(there)})" if there else f" ({parent} is empty)"
