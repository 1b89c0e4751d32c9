"""Findings about labels: values that mean nothing, classes that do not occur."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from audit.advice import is_binary, label_map_to_paste
from audit.facts import SampleFacts
from audit.finding import Finding, count
from audit.split import Split
from utils.config import signature_of
from utils.pairing import few

RARE = 1e-4  # share of the pixels that count
MOST_STRAY_VALUES = 16  # a mask with more values that mean nothing was smoothed


def find(split: Split) -> Iterator[Finding]:
    """Everything that is wrong with the masks of a split."""
    masks = [facts for facts in split.facts if facts.mask is not None and not facts.mask.error]
    if not masks:
        return
    blended = [f for f in masks if f.mask and len(f.mask.unknown) > MOST_STRAY_VALUES]
    yield from _blended(split, blended)
    yield from _unknown(split, [f for f in masks if f not in blended])
    yield from _binary(split)
    yield from _ignored(split, masks)


def find_classes(train: Split, val: Split | None) -> Iterator[Finding]:
    """Classes that training or validation will not see, or hardly."""
    yield from _duplicates(train)
    names = list(train.dataset.classes)
    if any(train.labels.values()):
        absent = [n for n, totals in zip(names, train.classes, strict=True) if not totals.pixels]
        if absent:
            yield Finding(
                "warning",
                "class-without-pixels",
                train.name,
                f"{_of(absent, names)} without a pixel: {few(absent)}",
                "nothing can be learnt about them: check the ids of the masks (label_map), add "
                "pictures, or remove the classes",
            )
        yield from _rare(train, names)
    if val is None or not any(val.labels.values()):
        return
    lacking = [
        name
        for name, here, there in zip(names, train.classes, val.classes, strict=False)
        if here.pixels and not there.pixels
    ]
    if lacking:
        yield Finding(
            "warning",
            "class-missing-in-val",
            val.name,
            f"{_of(lacking, names)} of the training without a pixel: {few(lacking)}",
            "their IoU cannot be measured: move pictures with these classes to the validation",
        )


def _of(some: list[str], names: list[str]) -> str:
    return f"{len(some)} of {count(len(names), 'class')}"


def _rare(train: Split, names: list[str]) -> Iterator[Finding]:
    rare = [
        f"{name} ({100 * totals.share:.2g} %)"
        for name, totals in zip(names, train.classes, strict=True)
        if 0 < totals.share < RARE
    ]
    if rare:
        yield Finding(
            "warning",
            "rare-class",
            train.name,
            f"{_of(rare, names)} with less than {100 * RARE:g} % of the pixels: {few(rare)}",
            "weigh the classes (see the lines to paste), or show these pictures more often",
        )


def _blended(split: Split, blended: list[SampleFacts]) -> Iterator[Finding]:
    if blended:
        yield Finding(
            "error",
            "blended-mask",
            split.name,
            f"{count(len(blended), 'mask')} with mixtures of labels, as smoothing makes them",
            "export the masks without anti-aliasing and scale them with nearest neighbour",
            {f.files[-1]: f"{len(f.mask.unknown)} odd values" for f in blended if f.mask},
        )


def _unknown(split: Split, masks: list[SampleFacts]) -> Iterator[Finding]:
    odd = [facts for facts in masks if facts.mask and facts.mask.unknown]
    if not odd:
        return
    colours = any(facts.mask and facts.mask.holds_colours for facts in odd)
    kind, text = "unknown-ids", "ids that are neither class nor ignored"
    if colours and split.dataset.colour_map is None:
        kind, text = "colours-for-ids", "colours where class ids were expected"
    elif colours:
        kind, text = "unknown-colours", "colours that are no class"
    shown = [f"{v} ({count(n, 'pixel')})" for v, n in split.unknown.most_common()]
    yield Finding(
        "error",
        kind,
        split.name,
        f"{count(len(odd), 'mask')} with {text}: {few(shown)}",
        _map_fix(split),
        {f.files[-1]: ", ".join(f.mask.unknown[:8]) for f in odd if f.mask},
    )


def _map_fix(split: Split) -> str:
    proposal = label_map_to_paste(split.dataset, split.values, split.unknown)
    fix = "put the masks right"
    if proposal is not None:
        fix += f', or set "label_map": {_short(proposal)} (-1 ignores a value)'
    ids = [int(value) for value in split.unknown if "," not in value]
    if ids and len(ids) == len(split.unknown) and split.dataset.label_map is None:
        most = max(ids) + 1
        if most <= 2 * len(split.dataset.classes) + 1:
            fix += f"; or, if they are classes, name {most} in classes"
    return fix


def _short(label_map: Mapping[str, int]) -> str:
    text = json.dumps(label_map)
    return text if len(text) <= 120 else f"{text[:100]} ...}} (see the lines to paste)"


def _binary(split: Split) -> Iterator[Finding]:
    if is_binary(split.dataset, split.values):
        yield Finding(
            "warning",
            "binary-mask",
            split.name,
            "the masks hold 0 and 255 only, and 255 is not a class",
            'set "label_map": {"0": 0, "255": 1} if 255 is the object',
        )


def _ignored(split: Split, masks: list[SampleFacts]) -> Iterator[Finding]:
    classes = range(len(split.dataset.classes))
    files = {
        f.files[-1]: ""
        for f in masks
        if f.mask and not f.mask.unknown and not any(n in f.mask.labels for n in classes)
    }
    if files:
        everything = len(files) == len(masks)
        yield Finding(
            "error" if everything else "warning",
            "all-ignored",
            split.name,
            f"{count(len(files), 'mask')} of {len(masks)} without a pixel that counts",
            "nothing is learnt from them: check the ids of the masks (label_map, ignore_index), or "
            "remove the pictures",
            files,
        )


def _duplicates(train: Split) -> Iterator[Finding]:
    names, palette = list(train.dataset.classes), [tuple(c) for c in train.dataset.palette]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield Finding(
            "warning", "duplicate-names", "", f"classes of the same name: {few(twice)}",
            "rename them, so that figures and pictures can be told apart",
        )  # fmt: skip
    same = sorted({c for c in palette[: len(names)] if palette.count(c) > 1})
    # A dataset with colours of its own has them from its makers.
    if same and "palette" in signature_of(type(train.dataset)):
        shown = [f"{list(c)} ({', '.join(_named(names, palette, c))})" for c in same]
        yield Finding(
            "warning", "duplicate-colours", "", f"classes of the same colour: {few(shown, 3)}",
            "give each its own in palette, so that pictures can be told apart",
        )  # fmt: skip


def _named(names: list[str], palette: list[tuple[int, ...]], colour: tuple[int, ...]) -> list[str]:
    return [name for name, own in zip(names, palette, strict=False) if own == colour]
