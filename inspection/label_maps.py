"""A `label_map` for masks whose values have no meaning yet: only if there is little doubt."""

import collections
import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from inspection.facts import MaskFacts
from inspection.split import Split
from utils.config.signatures import signature_of

Key = TypeVar("Key", bound=Hashable)

STRAY = 1e-4  # fraction of the pixels: a value with fewer is a slip, and changes no class weight

SIXTEEN_BIT = (257, 256)  # factors from 8 to 16 bits: the byte repeated, or shifted
WHITE = 255
BINARY = {"0": 0, str(WHITE): 1}


@dataclasses.dataclass(frozen=True)
class Proposal:
    """The proposed meaning of the values of a split's masks."""

    # Gives them a meaning; None if they have one, or there is doubt.
    label_map: dict[str, int] | None
    white: bool  # whether 255 may be an object in masks of only 0 and 255
    settled: bool  # whether, with the map, almost every pixel has a meaning

    def is_binary(self, values: Iterable[str]) -> bool:
        """Return whether 255 may be an object in a mask with these values."""
        return self.white and set(values) == set(BINARY)


def propose(splits: Iterable[Split]) -> dict[str, Proposal]:
    """Return a proposal for each split by name; splits of one rule share one."""
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
        # Beside 1, 255 can only mean ignored.
        and not any({"1", str(WHITE)} <= set(mask.values) for mask in masks)
    )
    doubt = white and label_map is None and any(set(m.values) == set(BINARY) for m in masks)
    left = sum(n for value, n in unknown.items() if value not in (label_map or {}))
    settled = not blended and not doubt and left <= STRAY * sum(values.values())
    return Proposal(label_map, white, settled)


def label_map_of(split: Split, values: Mapping[str, int]) -> dict[str, int] | None:
    """Return a `label_map` for masks that hold these values (id or colour -> pixels).

    Ids and colours have a rule each. The map names every known id if there is one: ids that a map
    leaves out are errors, and with a map of colours alone grey is a colour.

    Returns:
        None if the masks need no map, or the meaning of the values is not clear.
    """
    dataset = split.dataset
    # A person has given the colours a meaning, and ids beside them are read by other rules.
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
    """Return a `label_map` that changes nothing but ignores further values."""
    ids = {int(value): -1 for value in unknown if "," not in value}
    colours = {_colour(value): -1 for value in unknown if "," in value}
    has_ids = any("," not in value for value in split.values)
    known = split.known_ids if has_ids or split.dataset.label_map is not None else {}
    table = to_keys({**known, **ids}, {**(split.dataset.colour_map or {}), **colours})
    return {**table, **(label_map or {})}


def label_under(split: Split, label_map: Mapping[str, int], value: str) -> int:
    """Return the class of a value under a map, or without it if the map does not name it."""
    if value in label_map:
        return label_map[value]
    if "," in value:
        return (split.dataset.colour_map or {}).get(_colour(value), -1)
    return split.known_ids.get(int(value), -1)


def to_keys(ids: Mapping[int, int], colours: Mapping[tuple[int, int, int], int]) -> dict[str, int]:
    """Return a table with the keys of a config: `"7"`, `"128,0,64"`."""
    table = {str(value): label for value, label in sorted(ids.items())}
    return table | {",".join(map(str, value)): label for value, label in sorted(colours.items())}


def _colour(value: str) -> tuple[int, int, int]:
    red, green, blue = map(int, value.split(","))
    return red, green, blue


def _of_one_bit(split: Split, masks: Iterable[MaskFacts]) -> dict[str, int] | None:
    """Return a map of black and white that also reads masks of 0 and 1 (one bit a pixel).

    Returns:
        None if white is not a class of the map, or 1 may mean something else.
    """
    known = split.known_ids
    if split.dataset.label_map is None or 1 in known or known.get(WHITE, -1) < 0:
        return None
    with_one = [set(mask.values) for mask in masks if "1" in mask.values]
    # In a mask that holds both, 1 is a class of its own, or damage.
    if not with_one or any(values - {"0", "1"} for values in with_one):
        return None
    return to_keys({**known, 1: known[WHITE]}, {})


def _of_ids(split: Split, ids: Mapping[int, int]) -> dict[int, int] | None:
    return _scaled(split, ids) or _in_order(split, ids)


def _scaled(split: Split, ids: Mapping[int, int]) -> dict[int, int] | None:
    """Return a map for 8-bit ids that a program stretched to 16 bits as if they were brightness."""
    known, classes = split.known_ids, set(range(len(split.dataset.classes)))
    for factor in SIXTEEN_BIT:
        table = {value: known.get(value // factor, -2) for value in ids}
        exact = not any(value % factor for value in ids) and -2 not in table.values()
        if exact and len(classes) > 1 and classes <= set(table.values()):
            return table
    return None


def _in_order(split: Split, ids: Mapping[int, int]) -> dict[int, int] | None:
    """Map as many ids as classes: the ids in ascending order are the classes in theirs.

    White is ignored or, if a class would be left over without it, a class. Ids that are classes
    already are moved only if they are 1 to K: others are right as they are.
    """
    number, total = len(split.dataset.classes), sum(ids.values())
    void = {value for value in ids if split.known_ids.get(value) == -1}
    # An ignored value that the config names is intended.
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
    """Map grey as an id written three times; other colours have to be those of the palette."""
    grey = {red: n for (red, green, blue), n in colours.items() if red == green == blue}
    if len(grey) == len(colours):
        table = _only_known(split.known_ids, grey)
        if table is None and split.dataset.label_map is None:
            table = _in_order(split, grey)
        return None if table is None else {(v, v, v): label for v, label in table.items()}
    palette = {(red, green, blue): n for n, (red, green, blue) in enumerate(split.dataset.palette)}
    return _only_known(palette, colours) if len(palette) == len(split.dataset.palette) else None


def _only_known(known: Mapping[Key, int], values: Iterable[Key]) -> dict[Key, int] | None:
    """Return the labels of the values, if all have one and there are two classes among them."""
    if not all(value in known for value in values):
        return None
    table = {value: known[value] for value in values}
    return table if len({label for label in table.values() if label >= 0}) > 1 else None
