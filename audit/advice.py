"""What to write into the config, worked out from the files."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import dataloaders
from audit.split import BandStatistics, Split
from base.base_dataset import BaseDataset
from utils import losses
from utils.config import Component, Config, signature_of

# More values that mean nothing are no rule that a person has thought of.
MOST_PROPOSED = 256

BINARY = {"0": 0, "255": 1}
SIXTEEN_BIT = (257, 256)  # from 8-bit values to 16-bit ones, by repeating the byte or a shift


def is_binary(dataset: BaseDataset, values: Mapping[str, int]) -> bool:
    """Whether masks of two classes hold 0 and 255, as drawing programs write them."""
    return set(values) == set(BINARY) and len(dataset.classes) == 2 and dataset.label_map is None


def label_map_to_paste(
    dataset: BaseDataset, values: Mapping[str, int], unknown: Mapping[str, int]
) -> dict[str, int] | None:
    """A `label_map` under which every value of the masks means something.

    Args:
        dataset: With its classes and the map that it has.
        values: Id or colour -> pixels.
        unknown: Those that are neither class nor ignored.

    Returns:
        None if the masks can stay as they are, or no map is to be had.
    """
    if "label_map" not in signature_of(type(dataset)):
        return None
    if is_binary(dataset, values):
        return dict(BINARY)
    if not unknown or len(unknown) > MOST_PROPOSED:
        return None
    colours = any("," in value for value in unknown)
    return _of_colours(dataset, unknown) if colours else _of_ids(dataset, values, unknown)


def _of_ids(
    dataset: BaseDataset, values: Mapping[str, int], unknown: Mapping[str, int]
) -> dict[str, int] | None:
    ids = sorted(int(value) for value in values if "," not in value)
    void = {value for value in ids if value in dataset.void and str(value) not in unknown}
    table = _scaled_ids(dataset, ids)
    if table is None and dataset.label_map is None and len(ids) - len(void) == len(dataset.classes):
        # As many ids as classes: the ids in their order are the classes in theirs.
        classes = iter(range(len(dataset.classes)))
        table = {value: -1 if value in void else next(classes) for value in ids}
    if table is None and 2 * sum(unknown.values()) < sum(values.values()):
        known = dataset.label_map or {n: n for n in range(len(dataset.classes)) if n not in void}
        table = {**known, **dict.fromkeys(sorted({*void, *map(int, unknown)}), -1)}
    return None if table is None else {str(value): label for value, label in table.items()}


def _scaled_ids(dataset: BaseDataset, ids: Sequence[int]) -> dict[int, int] | None:
    """Where a program has taken 8-bit ids for brightness and stretched them to 16 bits."""
    for factor in SIXTEEN_BIT:
        small = [value // factor for value in ids]
        known = all(n < len(dataset.classes) or n in dataset.void for n in small)
        if dataset.label_map is None and known and not any(value % factor for value in ids):
            labels = [-1 if n in dataset.void else n for n in small]
            return dict(zip(ids, labels, strict=True))
    return None


def _of_colours(dataset: BaseDataset, unknown: Mapping[str, int]) -> dict[str, int]:
    """Colours of the palette are its classes; others, the most frequent first, those left over."""
    if dataset.colour_map is not None:
        known = {",".join(map(str, c)): label for c, label in dataset.colour_map.items()}
        return {**known, **dict.fromkeys(unknown, -1)}
    palette = {",".join(map(str, c)): n for n, c in enumerate(dataset.palette)}
    table = {value: palette[value] for value in unknown if value in palette}
    free = iter([n for n in range(len(dataset.classes)) if n not in table.values()])
    for value in sorted(unknown, key=lambda value: -unknown[value]):
        if value not in table:
            table[value] = next(free, -1)
    return table


def class_weights(pixels: Sequence[int]) -> list[float]:
    """The weights of ENet: 1 / ln(1.02 + share of the class in the pixels that count).

    https://arxiv.org/abs/1606.02147, section 5.1. Between 1.4 and 50.5, also for a class that does
    not occur.
    """
    total = max(sum(pixels), 1)
    return [round(1 / math.log(1.02 + count / total), 2) for count in pixels]


def keeps_imagenet(config: Config, dataset: BaseDataset) -> bool:
    """Whether pretrained weights expect the mean and std that are set."""
    set_now, imagenet = (dataset.mean, dataset.std), (BaseDataset.mean, BaseDataset.std)
    same = [list(values) for values in set_now] == [list(values) for values in imagenet]
    return same and bool(config.arch.args.get("pretrained", False))


def lines_to_paste(config: Config, train: Split, val: Split | None) -> dict[str, dict[str, Any]]:
    """Entries of the config by the section that they belong into, `"train_loader.args"`.

    Weights are ENet's, see `class_weights`; mean and std are left out where pretrained weights
    expect ImageNet's.
    """
    dataset = train.dataset
    values, unknown = train.values, train.unknown
    if val is not None:
        values, unknown = values + val.values, unknown + val.unknown
    label_map = label_map_to_paste(dataset, values, unknown)
    void = list(dataset.void)
    entries: dict[str, Any] = {
        "classes": config.train_loader.args.get("classes", list(dataset.classes)),
        "ignore_index": void[0] if len(void) == 1 else void,
        "label_map": label_map,
    }
    if train.bands and not keeps_imagenet(config, dataset):
        entries["mean"] = [_rounded(band.mean) for band in train.bands]
        entries["std"] = [_rounded(_spread(band)) for band in train.bands]
    pasted: dict[str, dict[str, Any]] = {}
    for section in ("train_loader", "val_loader"):
        component: Component | None = getattr(config, section)
        if component is not None:
            taken = signature_of(getattr(dataloaders, component.type))
            found = {k: v for k, v in entries.items() if k in taken and v is not None}
            pasted.update({f"{section}.args": found} if found else {})
    pixels = _pixels(train, label_map)
    for place, term in enumerate(config.loss):
        if sum(pixels) and "weight" in signature_of(getattr(losses, term.type)):
            where = "loss" if len(config.loss) == 1 else f"loss.{place}"
            pasted[f"{where}.args"] = {"weight": class_weights(pixels)}
    return pasted


def _pixels(train: Split, label_map: Mapping[str, int] | None) -> list[int]:
    """Pixels of each class in the training, under the map that is proposed."""
    if label_map is None:
        return [totals.pixels for totals in train.classes]
    counts: collections.Counter[int] = collections.Counter()
    for value, pixels in train.values.items():
        counts[label_map.get(value, -1)] += pixels
    return [counts[number] for number in range(len(train.dataset.classes))]


def _spread(band: BandStatistics) -> float:
    return band.std or 1.0  # a constant channel becomes 0, whatever it is divided by


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
