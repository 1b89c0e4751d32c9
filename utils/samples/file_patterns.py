"""Files that match a pattern, such as `photos/*_mask.png`."""

import fnmatch
import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from utils.files.data_file import DataError, StrPath
from utils.files.paths import Root
from utils.samples.affixes import Affixes, cut

MAGIC = re.compile(r"\*\*|\*|\?|\[[^\]]+\]")


def is_pattern(source: StrPath) -> bool:
    """Return whether a path has wildcards (`*`, `?`, `[a-z]`) and is not an existing file."""
    return glob.has_magic(os.fspath(source)) and not os.path.lexists(source)


def fixed_folder(pattern: Path) -> Path:
    """Return the folder in front of the first part that has a wildcard."""
    folder = Path()
    for part in pattern.parts:
        # A folder may be called `[1]`.
        if glob.has_magic(part) and not os.path.lexists(folder / part):
            break
        folder = folder / part
    return folder


def fixed_text(pattern: PurePath) -> tuple[str, str]:
    """Return the text before the first wildcard and after the last one in the files' stems.

    The extension does not belong to a stem: of `img_*_mask.png` and `img_*_mask.*` it is `img_` and
    `_mask`. Of a name without wildcards, both are empty.
    """
    stem = os.path.splitext(pattern.name)[0]
    found = [match.span() for match in MAGIC.finditer(stem)]
    return (stem[: found[0][0]], stem[found[-1][1] :]) if found else ("", "")


def files_of_pattern(
    pattern: Path, extensions: Sequence[str], root: Path | None = None
) -> list[tuple[str, Path]]:
    """Return the files that a pattern matches, in order, each with the match of its wildcards.

    `**` matches any number of folders. Hidden files and folders are left out unless the pattern
    has their leading dot.

    Args:
        pattern: With a wildcard in at least one part.
        extensions: The extensions that names must have, lower case, with the dot.
        root: The folder that no file may leave, links included; None: no limit.

    Returns:
        Key and file. A key joins the folders with wildcards and the last part without its extension
        and its fixed text: `1` for `photos/1_mask.png` of `photos/*_mask.png`, and for
        `cases/1/mask.png` of `cases/*/mask.png`.

    Raises:
        DataError: If `..` follows a wildcard, the pattern matches no file, or a link leaves `root`.
    """
    parts = list(pattern.parts)
    folder = fixed_folder(pattern)
    rest = parts[len(folder.parts) :]
    if os.pardir in rest:
        raise DataError(
            f"{pattern}: '..' is not allowed after a wildcard; write the path without it"
        )
    rest = [part for i, part in enumerate(rest) if rest[i : i + 2] != ["**", "**"]]
    if rest[-1] == "**":
        rest.append("*")
    compiled = [None if part == "**" else _matcher(part) for part in rest]
    prefix, suffix = fixed_text(PurePath(rest[-1]))
    varies = [glob.has_magic(part) for part in rest]
    found: dict[Path, str] = {}
    names = 0
    for captured, path in _walk(folder, compiled, varies, (), ()):
        names += 1
        if not path.name.lower().endswith(tuple(extensions)):
            continue
        core = cut(path.stem, prefix, suffix)
        stem = "" if not varies[-1] else path.stem if core is None else core
        found.setdefault(path, "/".join(filter(None, (*captured, stem))))
    if not found:
        raise DataError(f"{pattern}: {_why_nothing(pattern, folder, names, extensions)}")
    if root is not None:
        inside = Root(root, pattern)
        found = {inside.inside(path, Path()): key for path, key in found.items()}
    return sorted(((key, path) for path, key in found.items()), key=lambda entry: entry[1])


def _walk(
    folder: Path,
    matchers: Sequence[re.Pattern[str] | None],
    varies: Sequence[bool],
    captured: tuple[str, ...],
    above: tuple[str, ...],
) -> Iterator[tuple[tuple[str, ...], Path]]:
    """Yield the files below a folder whose parts match, with the names of varying folders."""
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError:
        return
    matcher = matchers[0]
    if matcher is None:
        real = os.path.realpath(folder)
        if real in above:  # a link to a folder above would be followed for ever
            return
        yield from _walk(folder, matchers[1:], varies[1:], captured, above)
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_dir():
                below = Path(folder, entry.name)
                yield from _walk(below, matchers, varies, (*captured, entry.name), (*above, real))
        return
    last = len(matchers) == 1
    for entry in entries:
        if not matcher.match(entry.name) or (entry.is_dir() if last else not entry.is_dir()):
            continue
        path = Path(folder, entry.name)
        if last:
            yield captured, path
        else:
            names = (*captured, entry.name) if varies[0] else captured
            yield from _walk(path, matchers[1:], varies[1:], names, above)


def _matcher(part: str) -> re.Pattern[str]:
    """Compile a part of a pattern, which matches hidden names only if it begins with a dot."""
    return re.compile(("" if part.startswith(".") else r"(?!\.)") + fnmatch.translate(part))


def _why_nothing(pattern: Path, folder: Path, names: int, extensions: Sequence[str]) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}"
    if names:
        return f"matches {names} files, none of them {', '.join(extensions)}"
    if "{" in str(pattern):
        return "matches no file; '{a,b}' is not supported, use '*' or '?'"
    return "matches no file (the case of letters matters)"


def affixes_of(images: Path, masks: Path, affixes: Affixes) -> Affixes:
    """Return the prefixes and suffixes of arguments and fixed text of patterns together."""
    sides = []
    for source, prefix, suffix in (
        (images, affixes.image_prefix, affixes.image_suffix),
        (masks, affixes.mask_prefix, affixes.mask_suffix),
    ):
        before, behind = fixed_text(source) if is_pattern(source) else ("", "")
        sides += [before + prefix, suffix + behind]
    return Affixes(*sides)


def mark_of_masks(images: Path, masks: Path, affixes: Affixes) -> tuple[str, str]:
    """Return the prefix and suffix that tell a mask from an image beside it.

    Returns:
        Two empty strings if images have them too, or masks have none.
    """
    all_of = affixes_of(images, masks, affixes)
    shared = all_of.image_prefix.startswith(all_of.mask_prefix) and all_of.image_suffix.endswith(
        all_of.mask_suffix
    )
    return ("", "") if shared else (all_of.mask_prefix, all_of.mask_suffix)
