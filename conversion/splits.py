"""Divide pictures into training, validation and test."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from conversion.stratify import Units, deal
from utils.samples.pairing import few

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Split:
    """Who is where, and how much that is.

    Args:
        names: The splits, S of them.
        members: For each split, its pictures, sorted.
        groups: (S,) groups.
        classes: The classes, K of them.
        pixels: (S, K) pixels of each class.
    """

    names: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]
    groups: np.ndarray
    classes: tuple[str, ...]
    pixels: np.ndarray

    def lacks(self) -> list[str]:
        """Which classes a split lacks, a sentence for each split."""
        found = []
        for name, pixels in zip(self.names, self.pixels, strict=True):
            missing = [c for c, count in zip(self.classes, pixels, strict=True) if count == 0]
            if missing:
                found.append(f"{name} has no pixel of class {few(missing, 10)}")
        return found

    def table(self) -> list[list[str]]:
        """A row each for pictures, groups and every class: its name, and each split's share."""
        pictures = np.array([len(members) for members in self.members])
        rows = [["pictures", *map(_with_share, pictures, pictures / pictures.sum())]]
        rows.append(["groups", *map(_with_share, self.groups, self.groups / self.groups.sum())])
        shares = self.pixels / np.maximum(self.pixels.sum(axis=0), 1)
        rows += [
            [f"class {name}", *(f"{100 * share:.1f} %" for share in column)]
            for name, column in zip(self.classes, shares.T, strict=True)
        ]
        return rows


def _with_share(count: int, share: float) -> str:
    return f"{count} ({100 * share:.1f} %)"


def wanted_shares(val: float, test: float) -> dict[str, float]:
    """Split -> share of the pictures; a split of no share is left out.

    Raises:
        ValueError: If a share is none, or nothing is left to train on.
    """
    if not (0 <= val < 1 and 0 <= test < 1 and 0 < val + test < 1):
        raise ValueError(
            f"--val {val:g} --test {test:g}: expected shares between 0 and 1 that leave something "
            "for training, as in --val 0.1 --test 0.1"
        )
    shares = {"train": 1 - val - test, "val": val, "test": test}
    return {name: share for name, share in shares.items() if share > 0}


def make_split(
    counts: Mapping[str, Mapping[str, int]],
    shares: Mapping[str, float],
    *,
    groups: Mapping[str, str] | None = None,
    stratify: bool = False,
    seed: int = 0,
) -> Split:
    """Deal pictures out; the same for every order of the pictures.

    Args:
        counts: Picture -> class -> pixels.
        shares: Split -> its share of the pictures; they add up to 1.
        groups: Picture -> group; without it, each picture is a group.
        stratify: Give each split its share of every class too.
        seed: Another seed gives another split.

    Raises:
        ValueError: If there are fewer groups than splits.
    """
    pictures = sorted(counts)
    classes = tuple(sorted({c for found in counts.values() for c in found}, key=_numbers))
    group_of = {name: name for name in pictures} if groups is None else groups
    units = sorted({group_of[name] for name in pictures})
    if len(units) < len(shares):
        raise ValueError(f"{len(units)} groups cannot fill {len(shares)} splits")
    place = {unit: i for i, unit in enumerate(units)}
    amounts = _amounts(counts, [place[group_of[name]] for name in pictures], pictures, classes)
    targets = np.array(list(shares.values()))
    rng = np.random.default_rng(seed)
    chosen = deal(amounts if stratify else _without_classes(amounts), targets, rng)
    rows = range(len(targets))
    return Split(
        tuple(shares),
        tuple(tuple(n for n in pictures if chosen[place[group_of[n]]] == s) for s in rows),
        np.bincount(chosen, minlength=len(targets)),
        classes,
        np.array([amounts.pixels[chosen == s].sum(axis=0) for s in rows]),
    )


def _numbers(name: str) -> list[int]:
    return [int(word) for word in name.split(",")]


def _amounts(
    counts: Mapping[str, Mapping[str, int]],
    places: Sequence[int],
    pictures: Sequence[str],
    classes: Sequence[str],
) -> Units:
    shape = (max(places) + 1, len(classes))
    column = {name: i for i, name in enumerate(classes)}
    units = Units(
        np.zeros(shape[0], np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    )
    for place, picture in zip(places, pictures, strict=True):
        units.sizes[place] += 1
        for name, count in counts[picture].items():
            units.presence[place, column[name]] += 1
            units.pixels[place, column[name]] += count
    return units


def _without_classes(units: Units) -> Units:
    nothing = np.zeros((len(units.sizes), 0), np.int64)
    return Units(units.sizes, nothing, nothing)
