"""The splits that a config names, and the facts of their samples."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from audit.advice import statistics
from audit.scan import scan
from base.base_dataloader import split_indices
from builders.data import build_source
from inspection.split import Split
from utils.config.errors import ConfigError
from utils.config.sections import Config
from utils.samples.band_rule import StatisticsMissing


def read_splits(config: Config, workers: int | None, cache_folder: str | Path) -> dict[str, Split]:
    """Read every sample that the config names, by split; `workers` of None uses every core.

    Raises:
        ConfigError: If datasets cannot be found; it names all of them.
    """
    found = list_splits(config)
    # A training and the fraction that it holds back read one dataset.
    datasets = list({id(split.dataset): split.dataset for split in found}.values())
    facts = scan(datasets, config.ignore_index, workers, cache_folder)
    indices = {id(dataset): index for index, dataset in enumerate(datasets)}
    return {
        split.name: dataclasses.replace(
            split, facts=[facts[indices[id(split.dataset)]][index] for index in split.indices]
        )
        for split in found
    }


def list_splits(config: Config) -> list[Split]:
    """Return the splits of a config, without reading a file.

    Raises:
        ConfigError: If datasets cannot be found; it names all of them.
    """
    splits: list[Split] = []
    problems = []
    for name in ("train", "val", "test"):
        if getattr(config, f"{name}_loader") is not None:
            try:
                splits += _splits_of(config, name)
            except ConfigError as error:
                problems.append(str(error))
    if problems:
        raise ConfigError("the data", problems)
    return splits


def _splits_of(config: Config, name: str) -> list[Split]:
    """Return the split of a section, and what a training without `val_loader` holds back."""
    section = f"{name}_loader"
    try:
        source, lacks = build_source(getattr(config, section), section), False
    except ConfigError as error:
        if not isinstance(error.__cause__, StatisticsMissing):
            raise
        # The images can be read with any statistics; their own are measured on all of them.
        found = {"mean": error.__cause__.mean, "std": error.__cause__.std}
        config = with_statistics(config, section, found)
        source, lacks = build_source(getattr(config, section), section), True
    samples, fraction = source.dataset.samples, source.options.val_split
    kept = split_indices(samples, fraction, False)
    ignored = config.ignore_index
    splits = [Split(name, section, *source, kept, ignore_index=ignored, lacks_statistics=lacks)]
    if name == "train" and config.val_loader is None and fraction:
        held = build_source(getattr(config, section), section, held_out=True)
        indices = split_indices(samples, fraction, True)
        splits.append(
            Split("val", section, source.dataset, *held[1:], indices, ignore_index=ignored)
        )
    return splits


def with_statistics(
    config: Config, section: str, statistics: Mapping[str, Sequence[float]]
) -> Config:
    """Return the config with a mean and std in a section."""
    component = getattr(config, section)
    filled = dataclasses.replace(component, args={**component.args, **statistics})
    return dataclasses.replace(config, **{section: filled})


def with_measured(config: Config, splits: Mapping[str, Split]) -> Config:
    """Return the config with the training's mean and std in sections that lack their own."""
    for split in splits.values():
        if split.lacks_statistics:
            measured = statistics(splits["train"], split)
            config = with_statistics(config, split.section, measured)
    return config
