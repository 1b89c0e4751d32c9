"""A `label_map` for masks whose values mean nothing yet: only where there is little doubt."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from inspection.facts import MaskFacts
from inspection.split import Split
from utils.config.signatures import signature_of

Key = TypeVar("Key", bound=Hashable)

# Share of the pixels: a value with fewer is a slip and no class, and changes no class weight.
STRAY = 1e-4

SIXTEEN_BIT = (257, 256)  # from 8-bit values to 16-bit ones, by repeating the byte or a shift
WHITE = 255
BINARY = {"0": 0, str(WHITE): 1}


@dataclasses.dataclass(frozen=True)
class Proposal:
    """What is known of the values of a split's masks.

    Args:
        label_map: Under it they mean something; None if they can stay, or there is a doubt.
        white: Whether masks of 0 and 255 alone may mean an object by 255.
        settled: Whether, with the map, almost every pixel means something.
    """

    label_map: dict[str, int] | None
    white: bool
    settled: bool

    def is_binary(self, values: Iterable[str]) -> bool:
        """Whether a mask with these values may mean an object by 255."""
        return self.white and set(values) == set(BINARY)


def propose(splits: Iterable[Split]) -> dict[str, Proposal]:
    """A proposal for each split by its name; splits of one rule have one, from all their masks."""
    groups: dict[str, list[Split]] = collections.defaultdict(list)
    for split in splits:
        of = split.dataset
        rule = (type(of), of.classes, of.palette, of.void, of.label_map, of.colour_map)
        groups[repr(rule)].append(split)
    proposals = {}
    for group in groups.values():
        proposals.update(dict.fromkeys([split.name for split in group], _of(group)))
    return proposals


def _of(group: Sequence[Split]) -> Proposal:
    dataset = group[0].dataset
    masks = [
        facts.mask
        for split in group
        for facts in split.facts
        if facts.mask is not None and not split.is_blended(facts.mask)
    ]
    values: collections.Counter[str] = collections.Counter()
    unknown: collections.Counter[str] = collections.Counter()
    for split in group:
        values += split.values
        unknown += split.unknown
    blended = any(split.blended for split in group)
    label_map = None if blended else label_map_of(group[0], values)
    if label_map is None and not blended:
        label_map = _of_one_bit(group[0], masks)
    white = (
        len(dataset.classes) == 2
        and dataset.label_map is None
        and group[0].known_ids.get(WHITE) == -1
        # Beside 1, 255 can only be what does not count.
        and not any({"1", str(WHITE)} <= set(mask.values) for mask in masks)
    )
    doubt = white and label_map is None and any(set(m.values) == set(BINARY) for m in masks)
    left = sum(n for value, n in unknown.items() if value not in (label_map or {}))
    settled = not blended and not doubt and left <= STRAY * sum(values.values())
    return Proposal(label_map, white, settled)


def label_map_of(split: Split, values: Mapping[str, int]) -> dict[str, int] | None:
    """A `label_map` for masks that hold these values.

    Ids and colours have a rule each. The map names every known id where there is one: ids that a
    map leaves out are errors, and with a map of colours alone grey stands for a colour.

    Args:
        split: With its classes and the map that it has.
        values: Id or colour -> pixels.

    Returns:
        None if the masks can stay as they are, or it is not clear what the values mean.
    """
    dataset = split.dataset
    # A person has said what the colours mean, and ids beside them are read by other rules.
    if "label_map" not in signature_of(type(dataset)) or dataset.colour_map is not None:
        return None
    ids = {int(value): n for value, n in values.items() if "," not in value}
    colours = {_colour(value): n for value, n in values.items() if "," in value}
    of_ids = None if dataset.label_map is not None else _of_ids(split, ids)
    of_colours = _of_colours(split, colours) if colours else None
    if of_ids is None and of_colours is None:
        return None
    if of_ids is None:
        of_ids = split.known_ids if ids or dataset.label_map is not None else {}
    return to_keys(of_ids, of_colours or {})


def ignoring(
    split: Split, label_map: Mapping[str, int] | None, unknown: Iterable[str]
) -> dict[str, int]:
    """A `label_map` that leaves all as it is and ignores further values.

    Args:
        split: With the map that it has.
        label_map: The one that is proposed for other values.
        unknown: The values.
    """
    ids = {int(value): -1 for value in unknown if "," not in value}
    colours = {_colour(value): -1 for value in unknown if "," in value}
    has_ids = any("," not in value for value in split.values)
    known = split.known_ids if has_ids or split.dataset.label_map is not None else {}
    table = to_keys({**known, **ids}, {**(split.dataset.colour_map or {}), **colours})
    return {**table, **(label_map or {})}


def label_under(split: Split, label_map: Mapping[str, int], value: str) -> int:
    """The class of a value under a map: what it does not name has the meaning that it had."""
    if value in label_map:
        return label_map[value]
    if "," in value:
        return (split.dataset.colour_map or {}).get(_colour(value), -1)
    return split.known_ids.get(int(value), -1)


def to_keys(ids: Mapping[int, int], colours: Mapping[tuple[int, int, int], int]) -> dict[str, int]:
    """The keys of a config: `"7"`, `"128,0,64"`."""
    table = {str(value): label for value, label in sorted(ids.items())}
    return table | {",".join(map(str, value)): label for value, label in sorted(colours.items())}


def _colour(value: str) -> tuple[int, int, int]:
    red, green, blue = map(int, value.split(","))
    return red, green, blue


def _of_one_bit(split: Split, masks: Iterable[MaskFacts]) -> dict[str, int] | None:
    """A map of black and white that also reads masks of 0 and 1, as files of one bit a pixel hold.

    Args:
        split: With the map that it has.
        masks: Of all splits with this map.

    Returns:
        None if the map does not name white as a class, or 1 may mean something else.
    """
    known = split.known_ids
    if split.dataset.label_map is None or 1 in known or known.get(WHITE, -1) < 0:
        return None
    with_one = [set(mask.values) for mask in masks if "1" in mask.values]
    # A mask that holds both has 1 for a class of its own, or by damage.
    if not with_one or any(values - {"0", "1"} for values in with_one):
        return None
    return to_keys({**known, 1: known[WHITE]}, {})


def _of_ids(split: Split, ids: Mapping[int, int]) -> dict[int, int] | None:
    return _scaled(split, ids) or _in_order(split, ids)


def _scaled(split: Split, ids: Mapping[int, int]) -> dict[int, int] | None:
    """Where a program has taken 8-bit ids for brightness and stretched them to 16 bits."""
    known, classes = split.known_ids, set(range(len(split.dataset.classes)))
    for factor in SIXTEEN_BIT:
        table = {value: known.get(value // factor, -2) for value in ids}
        exact = not any(value % factor for value in ids) and -2 not in table.values()
        if exact and len(classes) > 1 and classes <= set(table.values()):
            return table
    return None


def _in_order(split: Split, ids: Mapping[int, int]) -> dict[int, int] | None:
    """As many ids as classes: the ids in their order are the classes in theirs.

    White is what does not count or, where a class would be left over without it, a class. Ids that
    are classes already are moved only if all start at 1: others are right as they are.
    """
    number, total = len(split.dataset.classes), sum(ids.values())
    void = {value for value in ids if split.known_ids.get(value) == -1}
    # An ignored value that a person has named is believed.
    for ignored in (void,) if split.dataset.void is not None else (void, void - {WHITE}):
        kept = sorted(set(ids) - ignored)
        if len(kept) != number or number < 2 or kept[0] < 0:
            continue
        moved = set(kept) & set(range(1, number))
        rare = min(ids[value] for value in kept) < STRAY * total
        if not rare and (not moved or kept == list(range(1, number + 1))):
            return {value: n for n, value in enumerate(kept)} | dict.fromkeys(ignored, -1)
    return None


def _of_colours(
    split: Split, colours: Mapping[tuple[int, int, int], int]
) -> dict[tuple[int, int, int], int] | None:
    """Grey is an id written three times; other colours have to be those of the palette."""
    grey = {red: n for (red, green, blue), n in colours.items() if red == green == blue}
    if len(grey) == len(colours):
        table = _only_known(split.known_ids, grey)
        if table is None and split.dataset.label_map is None:
            table = _in_order(split, grey)
        return None if table is None else {(v, v, v): label for v, label in table.items()}
    palette = {(red, green, blue): n for n, (red, green, blue) in enumerate(split.dataset.palette)}
    return _only_known(palette, colours) if len(palette) == len(split.dataset.palette) else None


def _only_known(known: Mapping[Key, int], values: Iterable[Key]) -> dict[Key, int] | None:
    """The labels of the values, if all have one and there are two classes among them."""
    if not all(value in known for value in values):
        return None
    table = {value: known[value] for value in values}
    return table if len({label for label in table.values() if label >= 0}) > 1 else None
