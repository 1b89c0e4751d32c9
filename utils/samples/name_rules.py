"""Names of images and masks that belong together although they differ."""

from __future__ import annotations

import collections
import dataclasses
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

NEARLY_ALL = 0.9  # of the images: below, a rule is no rule
MAX_NAMES = 2000  # that prefixes and suffixes are looked for in
MAX_TRIALS = 200  # names that a rule is tried on before it is tried on all
MAX_AFFIXES = 8  # of each kind that are tried

MASK_WORDS = ("mask", "label", "lbl", "gt", "seg", "annot", "ann", "target", "truth", "trainids")
IMAGE_WORDS = ("image", "img", "sat", "rgb", "photo", "pic", "leftimg", "input")
JPEG = (".jpg", ".jpeg")

# Where a separator, a number or a word begins, and where a separator, a number or a word ends.
_BEGINS = re.compile(
    r"(?<=[^\W_])(?=[\W_])|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)|(?<=[a-z])(?=[A-Z])"
)
_ENDS = re.compile(
    r"(?<=[\W_])(?=[^\W_])|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)|(?<=[a-z])(?=[A-Z])"
)


@dataclasses.dataclass(frozen=True)
class Affixes:
    """What the stems of images and masks have before and behind the name that they share.

    Args:
        image_prefix: Before, in the last part of an image's path.
        image_suffix: Behind, at the end of its stem.
        mask_prefix: Likewise of the masks.
        mask_suffix: Likewise of the masks.
    """

    image_prefix: str = ""
    image_suffix: str = ""
    mask_prefix: str = ""
    mask_suffix: str = ""

    @property
    def given(self) -> dict[str, str]:
        """Those that are not empty, by the name of the argument."""
        return {name: text for name, text in dataclasses.asdict(self).items() if text}

    def lines(self) -> str:
        """The arguments as they stand in a config."""
        return ", ".join(
            f'"{name}": {json.dumps(text, ensure_ascii=False)}' for name, text in self.given.items()
        )

    def image(self, core: str) -> str:
        """The stem of the image with this shared name."""
        return _join(core, self.image_prefix, self.image_suffix)

    def mask(self, core: str) -> str:
        """The stem of the mask with this shared name."""
        return _join(core, self.mask_prefix, self.mask_suffix)


def nfc(text: str) -> str:
    """Return a name in the one form in which an umlaut is a single character."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def cut(stem: str, prefix: str, suffix: str) -> str | None:
    """The stem without prefix and suffix, in whichever Unicode form it has them, or None.

    Args:
        stem: With its folders, separated by `/`.
        prefix: What its last part begins with.
        suffix: What it ends with.
    """
    if not (prefix.isascii() and suffix.isascii()):
        for form in ("NFC", "NFD"):
            one, other = (unicodedata.normalize(form, text) for text in (prefix, suffix))
            if (core := _cut(stem, one, other)) is not None:
                return core
    return _cut(stem, prefix, suffix)


def _cut(stem: str, prefix: str, suffix: str) -> str | None:
    if not stem.endswith(suffix):
        return None
    stem = stem[: len(stem) - len(suffix)]
    if not prefix:
        return stem
    folder, slash, name = stem.rpartition("/")
    return folder + slash + name[len(prefix) :] if name.startswith(prefix) else None


def _join(core: str, prefix: str, suffix: str) -> str:
    folder, slash, name = core.rpartition("/")
    return f"{folder}{slash}{prefix}{name}{suffix}"


# --------------------------------------------------------------------------------------------------
# Differences that need no argument: Unicode forms, case, zeros in front of numbers


def without_zeros(text: str) -> str:
    """Return a name whose numbers have no zeros in front."""
    return re.sub(r"\d+", lambda number: number[0].lstrip("0") or "0", text)


LOOSE: dict[str, Callable[[str], str]] = {
    "upper and lower case": str.casefold,
    "zeros in front of numbers": without_zeros,
    "upper and lower case and zeros in front of numbers": lambda t: without_zeros(t.casefold()),
}


def match_loosely(
    images: Mapping[str, Path], masks: Mapping[str, Path]
) -> tuple[dict[str, Path], str | None]:
    """The masks, each by the key of its image where the two differ in nothing that matters.

    Unicode forms (NFC and NFD) never matter. Case and zeros in front of numbers do not where that
    leaves no doubt: all names stay different on both sides, and no pair of equal names is lost.

    Args:
        images: Key -> image.
        masks: Key -> mask.

    Returns:
        The masks by their new keys, and what the pairs differ in, with the first of them; None
        where that is nothing to speak of.
    """
    is_plain = all(map(str.isascii, (*images, *masks)))
    masks = dict(masks) if is_plain else _by_keys_of(images, masks, nfc)
    exact = len(images.keys() & masks.keys())
    if exact >= NEARLY_ALL * len(images):  # the rest is a mistake, not a manner
        return masks, None
    plain = [list(map(nfc, keys)) for keys in (images, masks)]
    for what, simplify in LOOSE.items():
        both = [set(map(simplify, keys)) for keys in plain]
        if [len(both[0]), len(both[1])] != [len(images), len(masks)]:
            continue
        count = len(both[0] & both[1])
        # Where some pair as they are, all have to, or two manners are mixed.
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
    """Rename the masks whose key differs from that of one image alone, and as simplified not."""
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


# --------------------------------------------------------------------------------------------------
# Prefixes and suffixes: never applied by themselves, only proposed


def find_affixes(images: Collection[str], masks: Collection[str]) -> tuple[Affixes, int] | None:
    """The arguments that pair (nearly) all images, and how many pairs they make.

    Args:
        images: The stems of the images as they are.
        masks: Those of the masks.

    Returns:
        None if there are no such arguments, or they would part names that are equal.
    """
    if not images or not masks or set(images) & set(masks):
        return None
    found = _find_affixes(images, masks)
    if found is None:
        # What is cut off must stand in the names as they are, so it may hold no number.
        plain = [list(map(without_zeros, side)) for side in (images, masks)]
        if len(set(plain[0])) == len(images) and len(set(plain[1])) == len(masks):
            found = _find_affixes(*plain)
        if found is not None and any(map(str.isdigit, found[0].lines())):
            return None
    return found


def _find_affixes(images: Collection[str], masks: Collection[str]) -> tuple[Affixes, int] | None:
    known = set(masks)
    share = min(1.0, len(images) / len(masks))
    one, other = _sample(images, MAX_NAMES), _sample(masks, MAX_NAMES)
    image_sides = [*_affixes(one, NEARLY_ALL), *_around(other, one, NEARLY_ALL)]
    mask_sides = [*_affixes(other, NEARLY_ALL * share), *_around(one, other, NEARLY_ALL * share)]
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
    """The arguments that tell images and masks of one folder apart.

    Args:
        files: Stem -> file, of images and masks alike.
    """
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
    """How much speaks for the masks being the masks."""
    image, mask = (files[stem].suffix for stem in pairs[0])
    return likeness_to_mask(rule.mask_prefix + rule.mask_suffix + mask) - likeness_to_mask(
        rule.image_prefix + rule.image_suffix + image
    )


def likeness_to_mask(name: str) -> int:
    """How much of a name, with its extension, speaks for a mask: words, and that it is no JPEG."""
    text = name.lower()
    words = [any(word in text for word in words) for words in (MASK_WORDS, IMAGE_WORDS)]
    return 2 * words[0] - words[1] - 4 * text.endswith(JPEG)


def _sample(names: Collection[str], most: int) -> list[str]:
    """Names spread over all of them."""
    ordered = sorted(names)
    step = max(1, len(ordered) // most)
    return ordered[::step][:most]


def _affixes(stems: Sequence[str], share: float) -> Iterator[tuple[str, str]]:
    """Prefixes and suffixes, also none, that at least this share of the stems has."""
    prefixes: collections.Counter[str] = collections.Counter()
    suffixes: collections.Counter[str] = collections.Counter()
    for stem in stems:
        name = stem.rpartition("/")[2]
        prefixes.update(name[: match.start()] for match in list(_ENDS.finditer(name))[:6])
        suffixes.update(name[match.start() :] for match in list(_BEGINS.finditer(name))[-6:])
    least = max(1.0, share * len(stems))
    common = [
        ["", *[text for text, count in counter.most_common(MAX_AFFIXES) if count >= least]]
        for counter in (prefixes, suffixes)
    ]
    yield from ((prefix, suffix) for prefix in common[0] for suffix in common[1])


def _around(inner: Sequence[str], outer: Sequence[str], share: float) -> Iterator[tuple[str, str]]:
    """What stands around a few of the inner names in the outer ones, where no word begins."""
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
        if having >= max(1.0, share * len(outer)):
            yield prefix, suffix


def _is_redundant(image_side: tuple[str, str], mask_side: tuple[str, str]) -> bool:
    """Whether both have the same in front or behind, so that it need not be cut off."""
    return any(
        one == other != "" for one, other in zip(image_side, mask_side, strict=True)
    ) or not (any(image_side) or any(mask_side))


def _promising(
    rules: Iterable[Affixes], images: Collection[str], masks: Collection[str], share: float
) -> list[Affixes]:
    """The rules that pair so many of a few images, the plainest first."""
    trial = _sample(images, MAX_TRIALS)
    good = [rule for rule in rules if count_pairs(rule, trial, masks) >= share * len(trial)]
    return sorted(good, key=_plainness)[:MAX_AFFIXES]


def _plainness(rule: Affixes) -> tuple[int, int, int]:
    """Few arguments before many; of masks of several kinds, those of ids before colours."""
    text = rule.lines().lower()
    shown = any(word in text for word in ("color", "colour", "instance", "overlay", "vis"))
    named = any(word in text for word in MASK_WORDS)
    return len(rule.given), shown - named, len(rule.lines())


def count_pairs(rule: Affixes, images: Collection[str], masks: Collection[str]) -> int:
    """How many images have a mask by a rule.

    Args:
        rule: What is cut off.
        images: Their stems.
        masks: Their stems, in something that is quick to look up.
    """
    cores = (cut(stem, rule.image_prefix, rule.image_suffix) for stem in images)
    # An empty name would belong to any.
    return sum(rule.mask(core) in masks for core in cores if core)


def find_folders(images: Collection[str], masks: Collection[str]) -> tuple[str, str] | None:
    """The sub-folders, below which images and masks have equal names; "" for the folder itself.

    Args:
        images: The stems of the images, with their folders.
        masks: Those of the masks.
    """
    if set(images) & set(masks):
        return None
    best: tuple[int, str, str] | None = None
    below = [
        {folder: _below(folder, names) for folder in _folders(names)} for names in (images, masks)
    ]
    for one, inner in below[0].items():
        for other, outer in below[1].items():
            count = len(inner & outer)
            # Either side may hold more, if the other is named as a whole.
            whole = len(inner) == len(images) or (
                len(outer) == len(masks) and count >= NEARLY_ALL * len(outer)
            )
            if count >= NEARLY_ALL * len(inner) and whole and (best is None or count > best[0]):
                best = count, one, other
    return None if best is None or not (best[1] or best[2]) else best[1:]


def find_kinds(images: Collection[str], masks: Collection[str]) -> tuple[str, str] | None:
    """The names of folders that part images and masks below others: `1/img/a` and `1/lab/a`.

    Args:
        images: The stems of the images, with their folders.
        masks: Those of the masks.

    Returns:
        That of the images and that of the masks, which differ; None if there are none such.
    """
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
    """The names of folders that part images from masks where one folder holds both.

    Args:
        stems: Of images and masks alike, with their folders.

    Returns:
        That of the images and that of the masks; None unless words tell which is which.
    """
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
    """The folders that every name has, but for the first of its path, the last ones first."""
    if not stems:
        return []
    common = set.intersection(*(set(stem.split("/")[1:-1]) for stem in stems))
    return [part for part in reversed(next(iter(stems)).split("/")) if part in common]


def _folders(stems: Iterable[str]) -> list[str]:
    """The folders that hold the most of the names, and the one above all."""
    counts: collections.Counter[str] = collections.Counter()
    for stem in stems:
        parts = stem.split("/")[:-1]
        counts.update("/".join(parts[:i]) for i in range(1, 1 + len(parts)))
    return ["", *[folder for folder, _ in counts.most_common(MAX_AFFIXES)]]


def _below(folder: str, stems: Iterable[str]) -> set[str]:
    start = f"{folder}/" if folder else ""
    return {stem[len(start) :] for stem in stems if stem.startswith(start)}
