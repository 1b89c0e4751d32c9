"""Folders below which images and masks have equal names."""

import collections
from collections.abc import Collection, Iterable

from utils.samples.affix_search import likeness_to_mask
from utils.samples.loose_names import NEARLY_ALL

MAX_FOLDERS = 8  # folders of each side that are tried


def find_folders(images: Collection[str], masks: Collection[str]) -> tuple[str, str] | None:
    """Return the sub-folders below which names are equal; "" for the folder itself."""
    if set(images) & set(masks):
        return None
    best: tuple[int, str, str] | None = None
    below = [
        {folder: _below(folder, names) for folder in _folders(names)} for names in (images, masks)
    ]
    for one, inner in below[0].items():
        for other, outer in below[1].items():
            count = len(inner & outer)
            # Either side may have more, if the other is named as a whole.
            whole = len(inner) == len(images) or (
                len(outer) == len(masks) and count >= NEARLY_ALL * len(outer)
            )
            if count >= NEARLY_ALL * len(inner) and whole and (best is None or count > best[0]):
                best = count, one, other
    return None if best is None or not (best[1] or best[2]) else best[1:]


def find_kinds(images: Collection[str], masks: Collection[str]) -> tuple[str, str] | None:
    """Return folder names that separate images and masks below others: `1/img`, `1/lab`."""
    for one in _in_all(images):
        for other in _in_all(masks):
            if one == other:
                continue
            cores = [
                {stem.replace(f"/{kind}/", "/", 1) for stem in side}
                for kind, side in ((one, images), (other, masks))
            ]
            if len(cores[0] & cores[1]) >= NEARLY_ALL * len(images):
                return one, other
    return None


def find_kinds_within(stems: Collection[str]) -> tuple[str, str] | None:
    """Return names of folders that separate images and masks within one, if words tell which."""
    kinds = {part for stem in stems for part in stem.split("/")[:-1]}
    words = {kind: likeness_to_mask(kind) for kind in kinds}
    for one in sorted(kind for kind, word in words.items() if word <= 0):
        for other in sorted(kind for kind, word in words.items() if word > 0):
            images, masks = (
                {
                    f"/{stem}".replace(f"/{kind}/", "/", 1)
                    for stem in stems
                    if kind in stem.split("/")[:-1]
                }
                for kind in (one, other)
            )
            if len(images & masks) >= NEARLY_ALL * len(images) > 0.3 * len(stems):
                return one, other
    return None


def _in_all(stems: Collection[str]) -> list[str]:
    """Return the folders in every path, except its first part, the last ones first."""
    if not stems:
        return []
    common = set.intersection(*(set(stem.split("/")[1:-1]) for stem in stems))
    return [part for part in reversed(next(iter(stems)).split("/")) if part in common]


def _folders(stems: Iterable[str]) -> list[str]:
    """Return the folders with most of the names, and the one above all."""
    counts: collections.Counter[str] = collections.Counter()
    for stem in stems:
        parts = stem.split("/")[:-1]
        counts.update("/".join(parts[:i]) for i in range(1, 1 + len(parts)))
    return ["", *[folder for folder, _ in counts.most_common(MAX_FOLDERS)]]


def _below(folder: str, stems: Iterable[str]) -> set[str]:
    start = f"{folder}/" if folder else ""
    return {stem[len(start) :] for stem in stems if stem.startswith(start)}
