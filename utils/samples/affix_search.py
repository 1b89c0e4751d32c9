"""Prefixes and suffixes that would pair images and masks: only proposed, never applied."""

import collections
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from utils.samples.affixes import Affixes, cut
from utils.samples.loose_names import NEARLY_ALL, without_zeros

MAX_NAMES = 2000  # searched for prefixes and suffixes
MAX_TRIALS = 200  # names that a rule is tried on before it is tried on all
MAX_AFFIXES = 8  # affixes of each kind that are tried

MASK_WORDS = ("mask", "label", "lbl", "gt", "seg", "annot", "ann", "target", "truth", "trainids")
IMAGE_WORDS = ("image", "img", "sat", "rgb", "photo", "pic", "leftimg", "input")
JPEG = (".jpg", ".jpeg")

# The beginnings, and the ends, of separators, numbers and words.
_BEGINS = re.compile(
    r"(?<=[^\W_])(?=[\W_])|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)|(?<=[a-z])(?=[A-Z])"
)
_ENDS = re.compile(
    r"(?<=[\W_])(?=[^\W_])|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)|(?<=[a-z])(?=[A-Z])"
)


def find_affixes(images: Collection[str], masks: Collection[str]) -> tuple[Affixes, int] | None:
    """Return the arguments that pair (nearly) all images, and the number of pairs.

    Returns:
        None if there are no such arguments, or names are equal already.
    """
    if not images or not masks or set(images) & set(masks):
        return None
    found = _find_affixes(images, masks)
    if found is None:
        # A prefix or suffix with a number may not be in the names as they are.
        plain = [list(map(without_zeros, side)) for side in (images, masks)]
        if len(set(plain[0])) == len(images) and len(set(plain[1])) == len(masks):
            found = _find_affixes(*plain)
        if found is not None and any(map(str.isdigit, found[0].lines())):
            return None
    return found


def _find_affixes(images: Collection[str], masks: Collection[str]) -> tuple[Affixes, int] | None:
    known = set(masks)
    fraction = min(1.0, len(images) / len(masks))
    one, other = _sample(images, MAX_NAMES), _sample(masks, MAX_NAMES)
    image_sides = [*_affixes(one, NEARLY_ALL), *_around(other, one, NEARLY_ALL)]
    mask_sides = [
        *_affixes(other, NEARLY_ALL * fraction),
        *_around(one, other, NEARLY_ALL * fraction),
    ]
    rules = [
        Affixes(*image_side, *mask_side)
        for image_side in dict.fromkeys(image_sides)
        for mask_side in dict.fromkeys(mask_sides)
        if not _is_redundant(image_side, mask_side)
    ]
    best: tuple[Affixes, int] | None = None
    for rule in _promising(rules, images, known, NEARLY_ALL):
        count = count_pairs(rule, images, known)
        if count >= NEARLY_ALL * len(images) and (best is None or count > best[1]):
            best = rule, count
    return best


def find_affixes_within(files: Mapping[str, Path]) -> Affixes | None:
    """Return the arguments that tell images and masks of one folder apart."""
    if len(files) < 2:
        return None
    sides = [*_affixes(_sample(files, MAX_NAMES), 0.2), *_around(list(files), list(files), 0.2)]
    sides = list(dict.fromkeys(sides))
    rules = [
        Affixes(*image_side, *mask_side)
        for image_side in sides
        for mask_side in sides
        if any(mask_side) and not _is_redundant(image_side, mask_side)
    ]
    stems = set(files)
    found = []
    for rule in _promising(rules, stems, stems, 0.2):
        images = {
            stem: core
            for stem in stems
            if cut(stem, rule.mask_prefix, rule.mask_suffix) is None
            and (core := cut(stem, rule.image_prefix, rule.image_suffix))
        }
        pairs = [
            (stem, rule.mask(core)) for stem, core in images.items() if rule.mask(core) in stems
        ]
        if len(pairs) >= max(1, NEARLY_ALL * len(images)) and len(pairs) > 0.3 * len(stems):
            found.append((len(pairs), _likelihood(rule, pairs, files), -len(rule.lines()), rule))
    return max(found, key=lambda entry: entry[:3])[3] if found else None


def _likelihood(rule: Affixes, pairs: Sequence[tuple[str, str]], files: Mapping[str, Path]) -> int:
    """Return how much indicates that the masks are the masks."""
    image, mask = (files[stem].suffix for stem in pairs[0])
    return likeness_to_mask(rule.mask_prefix + rule.mask_suffix + mask) - likeness_to_mask(
        rule.image_prefix + rule.image_suffix + image
    )


def likeness_to_mask(name: str) -> int:
    """Return how much a name, with its extension, is that of a mask: by words, and not a JPEG."""
    text = name.lower()
    words = [any(word in text for word in words) for words in (MASK_WORDS, IMAGE_WORDS)]
    return 2 * words[0] - words[1] - 4 * text.endswith(JPEG)


def _sample(names: Collection[str], most: int) -> list[str]:
    """Return names that are spread over all of them."""
    ordered = sorted(names)
    step = max(1, len(ordered) // most)
    return ordered[::step][:most]


def _affixes(stems: Sequence[str], fraction: float) -> Iterator[tuple[str, str]]:
    """Yield prefixes and suffixes, also empty ones, of at least this fraction of the stems."""
    prefixes: collections.Counter[str] = collections.Counter()
    suffixes: collections.Counter[str] = collections.Counter()
    for stem in stems:
        name = stem.rpartition("/")[2]
        prefixes.update(name[: match.start()] for match in list(_ENDS.finditer(name))[:6])
        suffixes.update(name[match.start() :] for match in list(_BEGINS.finditer(name))[-6:])
    least = max(1.0, fraction * len(stems))
    common = [
        ["", *[text for text, count in counter.most_common(MAX_AFFIXES) if count >= least]]
        for counter in (prefixes, suffixes)
    ]
    yield from ((prefix, suffix) for prefix in common[0] for suffix in common[1])


def _around(
    inner: Sequence[str], outer: Sequence[str], fraction: float
) -> Iterator[tuple[str, str]]:
    """Yield the text around a few of the inner names in the outer ones, also within words."""
    around: collections.Counter[tuple[str, str]] = collections.Counter()
    anchors = [name.rpartition("/")[2] for name in _sample(inner, 3)]
    for stem in outer:
        name = stem.rpartition("/")[2]
        for anchor in anchors:
            prefix, middle, suffix = name.partition(anchor)
            if middle and (prefix or suffix):
                around[prefix, suffix] += 1
    for (prefix, suffix), _ in around.most_common(MAX_AFFIXES):
        having = sum(cut(stem, prefix, suffix) is not None for stem in outer)
        if having >= max(1.0, fraction * len(outer)):
            yield prefix, suffix


def _is_redundant(image_side: tuple[str, str], mask_side: tuple[str, str]) -> bool:
    """Return whether both sides have the same prefix or suffix, which then need not be cut off."""
    return any(
        one == other != "" for one, other in zip(image_side, mask_side, strict=True)
    ) or not (any(image_side) or any(mask_side))


def _promising(
    rules: Iterable[Affixes], images: Collection[str], masks: Collection[str], fraction: float
) -> list[Affixes]:
    """Return the rules that pair this fraction of a few images, the simplest first."""
    trial = _sample(images, MAX_TRIALS)
    good = [rule for rule in rules if count_pairs(rule, trial, masks) >= fraction * len(trial)]
    return sorted(good, key=_plainness)[:MAX_AFFIXES]


def _plainness(rule: Affixes) -> tuple[int, int, int]:
    """Return a sort key: few arguments before many, masks of ids before those of colours."""
    text = rule.lines().lower()
    shown = any(word in text for word in ("color", "colour", "instance", "overlay", "vis"))
    named = any(word in text for word in MASK_WORDS)
    return len(rule.given), shown - named, len(rule.lines())


def count_pairs(rule: Affixes, images: Collection[str], masks: Collection[str]) -> int:
    """Count the images that have a mask by a rule."""
    cores = (cut(stem, rule.image_prefix, rule.image_suffix) for stem in images)
    # An empty name would match any mask.
    return sum(rule.mask(core) in masks for core in cores if core)
