"""Divide images into training, validation and test."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from conversion.stratify import Units, deal
from utils.samples.pairing import few

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Split:
    """The images of each split, and their totals."""

    names: tuple[str, ...]  # the splits, S of them
    members: tuple[tuple[str, ...], ...]  # the images of each split, sorted
    groups: np.ndarray  # (S,) numbers of groups
    classes: tuple[str, ...]  # the classes, K of them
    pixels: np.ndarray  # (S, K) pixels of each class

    def lacks(self) -> list[str]:
        """Return a sentence for each split that lacks classes."""
        found = []
        for name, pixels in zip(self.names, self.pixels, strict=True):
            missing = [c for c, count in zip(self.classes, pixels, strict=True) if count == 0]
            if missing:
                found.append(f"{name} has no pixel of class {few(missing, 10)}")
        return found

    def table(self) -> list[list[str]]:
        """Return a row each for images, groups and every class: name, fraction in each split."""
        images = np.array([len(members) for members in self.members])
        rows = [["images", *map(_with_percent, images, images / images.sum())]]
        rows.append(["groups", *map(_with_percent, self.groups, self.groups / self.groups.sum())])
        fractions = self.pixels / np.maximum(self.pixels.sum(axis=0), 1)
        rows += [
            [f"class {name}", *(f"{100 * fraction:.1f} %" for fraction in column)]
            for name, column in zip(self.classes, fractions.T, strict=True)
        ]
        return rows


def _with_percent(count: int, fraction: float) -> str:
    return f"{count} ({100 * fraction:.1f} %)"


def check_fractions(val: float, test: float) -> dict[str, float]:
    """Return split -> fraction of the images; a split of fraction 0 is left out.

    Raises:
        ValueError: If a fraction is not between 0 and 1, or nothing is left to train on.
    """
    if not (0 <= val < 1 and 0 <= test < 1 and 0 < val + test < 1):
        raise ValueError(
            f"--val {val:g} --test {test:g}: expected fractions between 0 and 1 that leave images "
            "for training, as in --val 0.1 --test 0.1"
        )
    fractions = {"train": 1 - val - test, "val": val, "test": test}
    return {name: fraction for name, fraction in fractions.items() if fraction > 0}


def make_split(
    counts: Mapping[str, Mapping[str, int]],
    fractions: Mapping[str, float],
    *,
    groups: Mapping[str, str] | None = None,
    stratify: bool = False,
    seed: int = 0,
) -> Split:
    """Deal out images, in the same way for every order of the images.

    Args:
        counts: Image -> class -> pixels.
        fractions: Split -> its fraction of the images; they add up to 1.
        groups: Image -> group; without it, each image is a group.
        stratify: Give each split its fraction of every class too.
        seed: Another seed gives another split.

    Raises:
        ValueError: If there are fewer groups than splits.
    """
    images = sorted(counts)
    classes = tuple(sorted({c for found in counts.values() for c in found}, key=_numbers))
    group_of = {name: name for name in images} if groups is None else groups
    units = sorted({group_of[name] for name in images})
    if len(units) < len(fractions):
        raise ValueError(f"{len(units)} groups cannot fill {len(fractions)} splits")
    index = {unit: i for i, unit in enumerate(units)}
    amounts = _amounts(counts, [index[group_of[name]] for name in images], images, classes)
    targets = np.array(list(fractions.values()))
    rng = np.random.default_rng(seed)
    chosen = deal(amounts if stratify else _without_classes(amounts), targets, rng)
    rows = range(len(targets))
    return Split(
        tuple(fractions),
        tuple(tuple(n for n in images if chosen[index[group_of[n]]] == s) for s in rows),
        np.bincount(chosen, minlength=len(targets)),
        classes,
        np.array([amounts.pixels[chosen == s].sum(axis=0) for s in rows]),
    )


def _numbers(name: str) -> list[int]:
    return [int(word) for word in name.split(",")]


def _amounts(
    counts: Mapping[str, Mapping[str, int]],
    indices: Sequence[int],
    images: Sequence[str],
    classes: Sequence[str],
) -> Units:
    shape = (max(indices) + 1, len(classes))
    column = {name: i for i, name in enumerate(classes)}
    units = Units(
        np.zeros(shape[0], np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    )
    for index, image in zip(indices, images, strict=True):
        units.sizes[index] += 1
        for name, count in counts[image].items():
            units.presence[index, column[name]] += 1
            units.pixels[index, column[name]] += count
    return units


def _without_classes(units: Units) -> Units:
    nothing = np.zeros((len(units.sizes), 0), np.int64)
    return Units(units.sizes, nothing, nothing)
