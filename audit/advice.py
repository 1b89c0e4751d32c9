"""Lines for the config, derived from the files."""

import collections
from collections.abc import Mapping
from typing import Any

import dataloaders
from base.base_dataset import BaseDataset
from inspection.label_maps import Proposal, label_under
from inspection.split import BandStatistics, Split
from utils import losses
from utils.config.sections import Component, Config
from utils.config.signatures import signature_of
from utils.samples.class_weights import class_weights


def keeps_imagenet(config: Config, dataset: BaseDataset) -> bool:
    """Return whether mean and std are ImageNet's, as pretrained weights expect them."""
    set_now, imagenet = (dataset.mean, dataset.std), (BaseDataset.mean, BaseDataset.std)
    same = [list(values) for values in set_now] == [list(values) for values in imagenet]
    return same and bool(config.arch.args.get("pretrained", False))


def lines_to_paste(
    config: Config, splits: Mapping[str, Split], proposals: Mapping[str, Proposal]
) -> dict[str, dict[str, Any]]:
    """Return entries of the config by the section that they belong in, `"train_loader.args"`.

    Mean and std are the training's in every section, because all images are normalised by them;
    they are left out if pretrained weights expect ImageNet's. Weights are ENet's, see
    `utils/samples/class_weights.py`, and given only once the masks are clear.
    """
    train = splits["train"]
    pasted: dict[str, dict[str, Any]] = {}
    for name, split in splits.items():
        if split.held_out:
            continue
        component: Component = getattr(config, split.section)
        taken = signature_of(getattr(dataloaders, component.type))
        entries = _entries(component, split, proposals[name])
        if list(split.dataset.classes) != list(train.dataset.classes):
            del entries["classes"]  # only a person knows which of the two is right
        entries.update({} if keeps_imagenet(config, train.dataset) else statistics(train, split))
        found = {k: v for k, v in entries.items() if k in taken and v is not None}
        pasted.update({f"{split.section}.args": found} if found else {})
    pixels = _pixels(train, proposals["train"].label_map)
    for index, term in enumerate(config.loss):
        weighted = "class_weights" in signature_of(getattr(losses, term.type))
        if sum(pixels) and weighted and proposals["train"].settled:
            several = isinstance(config.tree.get("loss"), list)
            where = f"loss.{index}" if several else "loss"
            pasted[f"{where}.args"] = {"class_weights": class_weights(pixels)}
    return pasted


def _entries(component: Component, split: Split, proposal: Proposal) -> dict[str, Any]:
    void = None if split.dataset.void is None else list(split.dataset.void)
    return {
        "classes": component.args.get("classes", list(split.dataset.classes)),
        "ignore_index": void[0] if void and len(void) == 1 else void,
        "label_map": proposal.label_map,
    }


def statistics(train: Split, split: Split) -> dict[str, list[float]]:
    """Return the mean and std of the training for a split with images of the same bands."""
    if not train.bands or split.dataset.channels != train.dataset.channels:
        return {}
    return {
        "mean": [_rounded(band.mean) for band in train.bands],
        "std": [_rounded(_spread(band)) for band in train.bands],
    }


def _pixels(train: Split, label_map: Mapping[str, int] | None) -> list[int]:
    """Count the pixels of each class in the training, under the proposed map."""
    if label_map is None:
        return [totals.pixels for totals in train.classes]
    counts: collections.Counter[int] = collections.Counter()
    for value, pixels in train.values.items():
        counts[label_under(train, label_map, value)] += pixels
    return [counts[number] for number in range(len(train.dataset.classes))]


def _spread(band: BandStatistics) -> float:
    return band.std or 1.0  # a constant channel becomes 0, whatever its divisor


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
