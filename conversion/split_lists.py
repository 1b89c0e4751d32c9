"""The images and masks to split, and the list files of the splits."""

import csv
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from conversion.masks import refuse_existing, to_json
from conversion.splits import SPLITS, Split
from inspection.counts import count_values
from utils.files.atomic_write import new_file
from utils.files.data_file import DataError
from utils.files.image_io import read_mask
from utils.samples.affixes import NO_AFFIXES, Affixes, cut
from utils.samples.file_patterns import affixes_of
from utils.samples.list_files import read_list_file
from utils.samples.pairing import Sample, few, read_lines
from utils.samples.source_pairs import pair_sources

MAX_COLOURS = 256  # colours in one mask


def find_pairs(
    data: str,
    images: str | None,
    masks: str | None,
    affixes: Affixes = NO_AFFIXES,
    band_suffixes: Sequence[str] | None = None,
) -> tuple[list[Sample], list[str]]:
    """Pair images with their masks as `Folder` does.

    Args:
        data: The folder that the others are relative to, or a list of images.
        images: Folder, list or pattern of the images; None: `images`.
        masks: Folder, list or pattern of the masks; None: `masks`, or the list of the images if it
            names them too.
        affixes: The text before and behind the name that the stems share.
        band_suffixes: The ends of the stems if each band is a file of its own.

    Returns:
        The pairs, and notes about files without a partner.

    Raises:
        DataError: If an image has no mask, or nothing is found.
        ValueError: If the arguments contradict each other.
    """
    if Path(data).is_file():
        alone = masks is None and read_list_file(Path(data)).masks is None
        if images is not None or alone:
            raise ValueError(f"{data} is a list of images: --masks goes with it, not --images")
        image_source, mask_source = Path(data), Path(data if masks is None else masks)
    else:
        image_source, mask_source = Path(data, images or "images"), Path(data, masks or "masks")
    found = pair_sources(image_source, mask_source, affixes=affixes, band_suffixes=band_suffixes)
    if found.problems:
        raise DataError(found.problems[0])
    return found.samples, [*found.guesses, *found.notes]


def names_to_cut(
    samples: Sequence[Sample],
    images: str | None,
    masks: str | None,
    affixes: Affixes,
    band_suffixes: Sequence[str] | None,
) -> Affixes | None:
    """Return what `Folder` has to cut off so that two lists of these samples pair by name.

    Returns:
        None if names do not pair, so that one list has to name both.
    """
    if band_suffixes:
        return affixes
    rule = affixes_of(Path(images or ""), Path(masks or ""), affixes)
    names = [(Path(sample.image).stem, Path(sample.label or "").stem) for sample in samples]
    cores = [
        (
            cut(image, rule.image_prefix, rule.image_suffix),
            cut(mask, rule.mask_prefix, rule.mask_suffix),
        )
        for image, mask in names
    ]
    return rule if all(one == other and one is not None for one, other in cores) else None


def count_classes(path: str, ignored: Sequence[int] = (255,)) -> dict[str, int]:
    """Count the pixels of each value of a mask (`3`, `128,64,0`), ignored ones left out.

    Raises:
        DataError: If it cannot be read, or has too many colours to be classes.
    """
    mask = read_mask(path)
    values, counts = count_values(mask)
    pairs = zip(values.tolist(), counts.tolist(), strict=True)
    if mask.ndim == 2:
        return {str(value): count for value, count in pairs if value not in ignored}
    if len(values) > MAX_COLOURS:
        raise DataError(
            f"{path}: has {len(values)} colours; make ids of them first: convert.py colours"
        )
    return {",".join(map(str, value)): count for value, count in pairs}


def decide_white(counts: Collection[dict[str, int]]) -> bool:
    """Decide whether 255 is a class: it is if the masks contain only 0 and 255.

    Args:
        counts: The values of each mask; 255 is removed if it is not a class.
    """
    values = set().union(*counts)
    if "255" in values and values <= {"0", "255"}:
        return True
    for values_of_mask in counts:
        values_of_mask.pop("255", None)
    return False


def find_groups(samples: Sequence[Sample], groups: str) -> dict[str, str]:
    """Return image -> group, from a file if there is one of that name, else by a regex.

    Raises:
        ValueError: If `groups` is neither, or an image has no group.
    """
    if Path(groups).is_file():
        return _groups_by_file(samples, Path(groups))
    return _groups_by_pattern(samples, groups)


def _groups_by_pattern(samples: Sequence[Sample], pattern: str) -> dict[str, str]:
    """Return image -> group: the match of a regex in its name, or the regex's first group."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"--groups: '{pattern}' is neither a file nor a regular expression ({error})"
        ) from None
    groups = {}
    for sample in samples:
        match = compiled.search(sample.name)
        if not match or not match[1 if compiled.groups else 0]:
            raise ValueError(f"--groups: '{pattern}' finds nothing in '{sample.name}'")
        groups[sample.name] = match[1 if compiled.groups else 0]
    return groups


def _groups_by_file(samples: Sequence[Sample], path: Path) -> dict[str, str]:
    """Return image -> group, from lines `image,group`; the image with or without extension."""
    table: dict[str, str] = {}
    for row in csv.reader(read_lines(path)):
        if len(row) != 2:
            raise DataError(f"{path}: expected 'image,group' on a line, not {','.join(row)!r}")
        name, group = (word.strip() for word in row)
        if table.setdefault(name, group) != group:
            raise DataError(f"{path}: puts {name} into the groups {table[name]} and {group}")
    groups = {}
    for sample in samples:
        keys = (sample.name, sample.name + Path(sample.image).suffix)
        found = [table[key] for key in keys if key in table]
        if not found:
            raise DataError(f"{path}: has no group for {sample.name}")
        groups[sample.name] = found[0]
    return groups


def check_lists(output: Path, names: Sequence[str], overwrite: bool) -> None:
    """Check before the work that the lists may be written.

    Raises:
        DataError: If a list exists that may not be replaced, or that belongs to an earlier split.
    """
    stale = [
        str(path)
        for name in set(SPLITS) - set(names)
        for path in list_paths(output, name)
        if path.exists()
    ]
    if stale:
        raise DataError(
            f"{few(sorted(stale))} would stay from an earlier split and share images with the "
            "new one; remove it"
        )
    refuse_existing([path for name in names for path in list_paths(output, name)], overwrite)


def write_lists(
    split: Split,
    samples: Mapping[str, Sample],
    output: Path,
    *,
    overwrite: bool = False,
    together: bool = False,
) -> None:
    """Write `train.txt` and `train_masks.txt` and so on, or with `together` one list of both.

    Raises:
        DataError: If a name cannot be in a list; then nothing is written.
        OSError: If one cannot be written.
    """
    texts = {}
    for name, members in zip(split.names, split.members, strict=True):
        chosen = [samples[member] for member in members]
        images, masks = list_paths(output, name)
        if together:
            texts[images] = _lines(((s.image, s.label or "") for s in chosen), output)
            continue
        texts[images] = _lines(((file,) for s in chosen for file in s.bands or (s.image,)), output)
        texts[masks] = _lines(((sample.label or "",) for sample in chosen), output)
    output.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        with new_file(path, overwrite=overwrite) as file:
            file.write(text)


def _lines(rows: Iterable[Sequence[str]], folder: Path) -> bytes:
    def relative(file: str) -> str:
        return Path(os.path.relpath(file, folder)).as_posix()

    lines = ["\t".join(map(relative, files)) + "\n" for files in rows]
    try:
        return "".join(lines).encode()
    except UnicodeEncodeError as error:
        line = lines[error.object.count("\n", 0, error.start)].strip()
        raise DataError(
            f"{line!r}: a name that is not UTF-8 cannot be in a list; rename the file"
        ) from None


def list_paths(output: Path, name: str) -> tuple[Path, Path]:
    """Return the two lists of a split: images and masks."""
    return output / f"{name}.txt", output / f"{name}_masks.txt"


def common_folder(output: Path, samples: Iterable[Sample]) -> Path:
    """Return the folder above the lists and all files that they name; relative if `output` is."""
    files = (os.path.abspath(file) for sample in samples for file in sample.files)
    common = os.path.commonpath([os.path.abspath(output), *map(os.path.dirname, files)])
    return Path(common if output.is_absolute() else os.path.relpath(common))


def config_lines(
    output: Path,
    name: str,
    root: Path,
    affixes: Affixes | None = NO_AFFIXES,
    band_suffixes: Sequence[str] | None = None,
) -> str:
    """Return the arguments of `Folder` for a split as lines of a config; no affixes: one list."""
    images, masks = (Path(os.path.relpath(path, root)) for path in list_paths(output, name))
    arguments: dict[str, object] = {"data_dir": str(root), "images": images.as_posix()}
    if affixes is not None:
        arguments |= {"masks": masks.as_posix(), **affixes.given}
    if band_suffixes:
        arguments["band_suffixes"] = band_suffixes
    return ", ".join(f'"{key}": {to_json(v)}' for key, v in arguments.items())
