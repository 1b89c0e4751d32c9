"""The splits that a config names, and every sample of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from audit.scan import scan
from audit.split import Split
from base.base_dataloader import share_of
from parts import build_source
from utils.config import Config
from utils.config_file import ConfigError


def read_splits(config: Config, workers: int | None, cache_folder: str | Path) -> dict[str, Split]:
    """Every sample that the config names, by split.

    Args:
        config: The checked config.
        workers: Processes that read; None uses every core.
        cache_folder: Where it is kept what is in the files.

    Raises:
        ConfigError: With every dataset that cannot be found.
    """
    found = list_splits(config)
    # A training and the share that it holds back read one dataset.
    datasets = list({id(split.dataset): split.dataset for split in found}.values())
    facts = scan(datasets, config.ignore_index, workers, cache_folder)
    places = {id(dataset): place for place, dataset in enumerate(datasets)}
    return {
        split.name: dataclasses.replace(
            split, facts=[facts[places[id(split.dataset)]][index] for index in split.indices]
        )
        for split in found
    }


def list_splits(config: Config) -> list[Split]:
    """The splits of a config, without having read a file.

    Raises:
        ConfigError: With every dataset that cannot be found.
    """
    splits, problems = [], []
    for name in ("train", "val", "test"):
        section = f"{name}_loader"
        if getattr(config, section) is None:
            continue
        try:
            source = build_source(config, section)
        except ConfigError as error:
            problems.append(str(error))
            continue
        indices = share_of(source.dataset.samples, source.options.val_split, False)
        splits.append(Split(name, section, *source, indices))
        if name == "train" and config.val_loader is None and source.options.val_split:
            held = share_of(source.dataset.samples, source.options.val_split, True)
            augmentation = build_source(config, section, held_out=True).augmentation
            splits.append(Split("val", section, source.dataset, augmentation, source.options, held))
    if problems:
        raise ConfigError("the data", problems)
    return splits
