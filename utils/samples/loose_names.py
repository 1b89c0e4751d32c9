"""Pairs by names that are not equal, but do not differ in anything that matters."""

import collections
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from utils.samples.affixes import nfc

NEARLY_ALL = 0.9  # fraction of the images below which a rule is no rule


def without_zeros(text: str) -> str:
    """Return a name without leading zeros in its numbers."""
    return re.sub(r"\d+", lambda number: number[0].lstrip("0") or "0", text)


LOOSE: dict[str, Callable[[str], str]] = {
    "upper and lower case": str.casefold,
    "zeros in front of numbers": without_zeros,
    "upper and lower case and zeros in front of numbers": lambda t: without_zeros(t.casefold()),
}


def match_loosely(
    images: Mapping[str, Path], masks: Mapping[str, Path]
) -> tuple[dict[str, Path], str | None]:
    """Rename masks to the key of their image if the two do not differ in anything that matters.

    Unicode forms (NFC and NFD) never matter. Case and zeros in front of numbers do not if that
    leaves no doubt: all names stay different on both sides, and no pair of equal names is lost.

    Returns:
        The masks by their new keys, and a note of what the pairs differ in, with the first of
        them; None if that needs no note.
    """
    is_plain = all(map(str.isascii, (*images, *masks)))
    masks = dict(masks) if is_plain else _by_keys_of(images, masks, nfc)
    exact = len(images.keys() & masks.keys())
    if exact >= NEARLY_ALL * len(images):  # the rest is a mistake, not a convention
        return masks, None
    plain = [list(map(nfc, keys)) for keys in (images, masks)]
    for what, simplify in LOOSE.items():
        both = [set(map(simplify, keys)) for keys in plain]
        if [len(both[0]), len(both[1])] != [len(images), len(masks)]:
            continue
        count = len(both[0] & both[1])
        # If some pair as they are, all have to; otherwise two conventions are mixed.
        if count < (len(images) if exact else max(1, NEARLY_ALL * len(images))):
            continue
        found = _by_keys_of(images, masks, lambda key, f=simplify: f(nfc(key)))  # type: ignore[misc]
        key = min(k for k in found if k in images and k not in masks)
        example = f"{images[key].name} with {found[key].name}"
        return found, f"{count} pairs by names that differ in {what}: {example}"
    return masks, None


def _by_keys_of(
    images: Mapping[str, Path], masks: Mapping[str, Path], simplify: Callable[[str], str]
) -> dict[str, Path]:
    """Rename each mask whose simplified key is that of exactly one image without a mask."""
    free: dict[str, list[str]] = collections.defaultdict(list)
    for key in images:
        if key not in masks:
            free[simplify(key)].append(key)
    spare = collections.Counter(simplify(key) for key in masks if key not in images)
    found = {}
    for key, path in masks.items():
        simple = simplify(key)
        if key not in images and len(free.get(simple, ())) == spare[simple] == 1:
            key = free[simple][0]
        found[key] = path
    return found


def match_tails(images: Mapping[str, Path], masks: Mapping[str, Path]) -> dict[str, Path]:
    """Rename masks to the key of their image, if one or both come from lists.

    A list may name files of one sub-folder only, so its common folder is accidental. Two lists of
    the same names in the same order pair line by line; otherwise the number of last path parts
    that pairs the most is compared.
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
    """Return the name that images and masks share."""
    return nfc(key.rpartition("/")[2])


def _folders(path: Path) -> tuple[str, ...]:
    return tuple(map(nfc, path.parts[:-1]))


def _tails(
    folders: Sequence[tuple[str, ...]], names: Sequence[str], depth: int
) -> Iterable[tuple[str, ...]]:
    """Return the last parts of paths, with this many folders."""
    pairs = zip(folders, names, strict=True)
    return ((*parts[max(0, len(parts) - depth) :], name) for parts, name in pairs)
