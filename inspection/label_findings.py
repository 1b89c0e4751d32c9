"""Findings about labels: values without a meaning, classes that do not occur."""

import json
from collections.abc import Iterator, Mapping, Sequence

from inspection.facts import SampleFacts
from inspection.finding import Finding, count
from inspection.label_maps import BINARY, WHITE, Proposal, ignoring
from inspection.split import Split
from utils.config.signatures import signature_of
from utils.samples.pairing import few

RARE = 1e-4  # fraction of the valid pixels
MAX_SHOWN = 24  # values of a map to be filled in


def find(split: Split, proposal: Proposal) -> Iterator[Finding]:
    """Yield everything that is wrong with the masks of a split."""
    masks = [facts for facts in split.facts if facts.mask is not None and not facts.mask.error]
    if not masks:
        return
    yield from _blended(split)
    yield from _unknown(split, proposal, colours=False)
    yield from _unknown(split, proposal, colours=True)
    yield from _binary(split, proposal)
    yield from _ignored(split, masks)


def holds_black_and_white_only(split: Split) -> bool:
    """Return whether the masks contain only 0 and 255, and 255 is ignored only by default."""
    values = set(split.values)
    return (
        str(WHITE) in values
        and values <= set(BINARY)
        and split.dataset.void is None
        and "ignore_index" in signature_of(type(split.dataset))
        and split.known_ids.get(WHITE) == -1
    )


def find_undecided_white(splits: Sequence[Split]) -> Iterator[Finding]:
    """Yield splits whose masks hold 0 and 255 without a config that says what 255 is.

    With 255 ignored, one class would be left, and all its metrics perfect; so a training refuses
    such masks. Beside a 1, 255 can only mean ignored, and then it does in the other split as well.
    """
    masks = [set(facts.mask.values) for split in splits for facts in split.facts if facts.mask]
    if any({"1", str(WHITE)} <= values for values in masks):
        return
    for split in splits:
        if not holds_black_and_white_only(split):
            continue
        names = [json.dumps(str(name), ensure_ascii=False) for name in split.dataset.classes]
        yield Finding(
            "error", "binary-mask", split.name,
            "the masks contain only 0 and 255, and 255 is ignored unless the config says what it "
            f"is, so that {names[0]} would be the only class",
            f"add to {split.section}.args\n"
            f'    "label_map": {json.dumps(BINARY)}    if 255 is {names[1]}\n'
            f'    "label_map": {json.dumps({"0": 1, str(WHITE): 0})}    if 0 is {names[1]}\n'
            f'    "ignore_index": {WHITE}                if 255 is to be ignored',
            {split.mask_key(facts): "" for facts in split.facts if facts.mask},
        )  # fmt: skip


def find_classes(train: Split, val: Split | None) -> Iterator[Finding]:
    """Yield classes that are absent or rare in training or validation."""
    yield from _duplicates(train)
    names = list(train.dataset.classes)
    if any(train.labels.values()):
        absent = [n for n, totals in zip(names, train.classes, strict=True) if not totals.pixels]
        if absent:
            yield Finding(
                "warning", "class-without-pixels", train.name,
                f"{_of(absent, names)} without a pixel: {few(absent)}",
                "nothing can be learned about them: check the ids of the masks (label_map), add "
                "images, or remove the classes",
            )  # fmt: skip
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
            "warning", "class-missing-in-val", val.name,
            f"{_of(lacking, names)} of the training without a pixel: {few(lacking)}",
            "their IoU cannot be measured: move images with these classes to the validation",
        )  # fmt: skip


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
            "warning", "rare-class", train.name,
            f"{_of(rare, names)} with less than {100 * RARE:g} % of the pixels: {few(rare)}",
            "weight the classes (see the lines to paste), or show these images more often",
        )  # fmt: skip


def _blended(split: Split) -> Iterator[Finding]:
    if split.blended:
        yield Finding(
            "error", "blended-mask", split.name,
            f"{count(len(split.blended), 'mask')} with mixtures of labels, as from smoothing",
            "export the masks without anti-aliasing and scale them with nearest neighbour",
            {
                split.mask_key(f): f"{len(f.mask.unknown)} odd values"
                for f in split.blended
                if f.mask
            },
        )  # fmt: skip


def _unknown(split: Split, proposal: Proposal, *, colours: bool) -> Iterator[Finding]:
    """Yield ids, or colours, without a meaning: a set may hold both, each with its own map."""
    unknown = {value: n for value, n in split.unknown.most_common() if ("," in value) == colours}
    if not unknown:
        return
    kind, text = "unknown-ids", "ids that are neither class nor ignored"
    if colours and split.dataset.colour_map is None:
        kind, text = "colours-for-ids", "colours where class ids were expected"
    elif colours:
        kind, text = "unknown-colours", "colours that are not a class"
    files = {}
    for facts in split.facts:
        if facts.mask is not None and not split.is_blended(facts.mask):
            odd = [value for value in facts.mask.unknown if value in unknown]
            files.update({split.mask_key(facts): ", ".join(odd[:8])} if odd else {})
    shown = [f"{value} ({count(n, 'pixel')})" for value, n in unknown.items()]
    message = f"{count(len(files), 'mask')} with {text}: {few(shown)}"
    yield Finding("error", kind, split.name, message, _fix(split, proposal, unknown), files)


def _fix(split: Split, proposal: Proposal, unknown: Mapping[str, int]) -> str:
    fix = f"correct the masks{_map_fix(split, proposal, unknown)}"
    ids = [int(value) for value in unknown if "," not in value]
    named = "classes" in signature_of(type(split.dataset))
    if ids and named and split.dataset.label_map is None:
        most = max(ids) + 1
        if len(split.dataset.classes) < most <= 2 * len(split.dataset.classes) + 1:
            fix += f"; or, if they are classes, name {most} in classes"
    return fix


def _map_fix(split: Split, proposal: Proposal, unknown: Mapping[str, int]) -> str:
    """Return the map to set: as proposed, with odd values ignored, or to be filled in."""
    dataset = split.dataset
    kinds = {"," in value for value in split.values}
    # Beside a palette, ids are read by rules that a map would disable.
    reads_both = len(kinds) > 1 and dataset.colour_map is not None and dataset.label_map is None
    if split.blended or reads_both or "label_map" not in signature_of(type(dataset)):
        return ""
    if proposal.label_map is not None and all(value in proposal.label_map for value in unknown):
        return f', or set "label_map": {_short(proposal.label_map)} (-1 ignores a value)'
    of_kind = sum(
        n for v, n in split.values.items() if any("," in u for u in unknown) == ("," in v)
    )
    if 2 * sum(unknown.values()) < of_kind:
        label_map = ignoring(split, proposal.label_map, unknown)
        return f', or ignore them with "label_map": {_short(label_map)}'
    lines = [f'"{value}": ? ({count(n, "pixel")})' for value, n in unknown.items()]
    return f', or name their classes in "label_map" (-1 ignores): {few(lines, MAX_SHOWN)}'


def _short(label_map: Mapping[str, int]) -> str:
    text = json.dumps(label_map)
    return text if len(text) <= 400 else f"{text[:380]} ...}}"


def _binary(split: Split, proposal: Proposal) -> Iterator[Finding]:
    masks = [f for f in split.facts if f.mask and proposal.is_binary(f.mask.values)]
    # If all are, `find_undecided_white` says more; an ignored value that is named is intended.
    if not masks or split.dataset.void is not None or holds_black_and_white_only(split):
        return
    label_map = json.dumps(BINARY)
    fix = f'set "label_map": {label_map} if 255 is the object'
    if proposal.label_map is None:
        fix = "write 1 for 255 in them if 255 is the object; leave them if it is ignored"
        if "label_map" in signature_of(type(split.dataset)):
            both = json.dumps({"0": 0, "1": 1, str(WHITE): 1})
            fix = (
                f'set "label_map": {both} if 255 is the object as well; leave it if 255 is ignored'
            )
    yield Finding(
        "warning", "binary-mask", split.name,
        f"{count(len(masks), 'mask')} with 0 and 255 only, and 255 is not a class",
        fix,
        {split.mask_key(facts): "" for facts in masks},
    )  # fmt: skip


def _ignored(split: Split, masks: list[SampleFacts]) -> Iterator[Finding]:
    classes = range(len(split.dataset.classes))
    files = {
        split.mask_key(f): ""
        for f in masks
        if f.mask and not f.mask.unknown and not any(n in f.mask.labels for n in classes)
    }
    if files:
        everything = len(files) == len(masks)
        yield Finding(
            "error" if everything else "warning", "all-ignored", split.name,
            f"{count(len(files), 'mask')} of {len(masks)} without a valid pixel",
            "nothing is learned from them: check the ids of the masks (label_map, ignore_index), "
            "or remove the images",
            files,
        )  # fmt: skip


def _duplicates(train: Split) -> Iterator[Finding]:
    names, palette = list(train.dataset.classes), [tuple(c) for c in train.dataset.palette]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        yield Finding(
            "warning", "duplicate-names", "", f"classes of the same name: {few(repeated)}",
            "rename them, so that metrics and images can be told apart",
        )  # fmt: skip
    same = sorted({c for c in palette[: len(names)] if palette.count(c) > 1})
    # The colours of a dataset without this argument are those of its authors.
    if same and "palette" in signature_of(type(train.dataset)):
        shown = [f"{list(c)} ({', '.join(_named(names, palette, c))})" for c in same]
        yield Finding(
            "warning", "duplicate-colours", "", f"classes of the same colour: {few(shown, 3)}",
            "give each its own in palette, so that classes can be told apart",
        )  # fmt: skip


def _named(names: list[str], palette: list[tuple[int, ...]], colour: tuple[int, ...]) -> list[str]:
    return [name for name, own in zip(names, palette, strict=False) if own == colour]
