"""From the loader sections of a config to datasets and loaders."""

import dataclasses
import logging
from typing import Any, NamedTuple

import dataloaders
from base.base_dataloader import BaseDataLoader, LoaderOptions
from base.base_dataset import BaseDataset
from utils import transforms
from utils.config.build import build, split_args
from utils.config.errors import ConfigError
from utils.config.sections import Component, Config
from utils.distributed.collectives import rank, world_size
from utils.transforms.augmentation import Augmentation

logger = logging.getLogger(__name__)


class Loaders(NamedTuple):
    """The batches of a training and, if it is validated, of its validation."""

    train: BaseDataLoader
    val: BaseDataLoader | None


class Source(NamedTuple):
    """The components of a loader: dataset, augmentation, and how samples are batched."""

    dataset: BaseDataset
    augmentation: Augmentation
    options: LoaderOptions


def build_loaders(config: Config) -> Loaders:
    """Build the loaders of a training, of this rank.

    Raises:
        ConfigError: If a dataset cannot be found or used.
        DataError: If lists or folders are wrong and `on_bad_sample` is `"raise"`.
    """
    train = build_loader(
        config,
        "train_loader",
        training=True,
        num_epochs=config.trainer.epochs,
        rank=rank(),
        world_size=world_size(),
    )
    return Loaders(train, build_val_loader(config))


def build_val_loader(config: Config) -> BaseDataLoader | None:
    """Build the loader of `val_loader`, or else of what `val_split` holds back.

    Returns:
        None where nothing is validated.

    Raises:
        ConfigError: If it cannot be built.
    """
    if config.val_loader is not None and config.val_loader.args.get("val_split") is not None:
        raise ConfigError(
            "val_loader", ["args.val_split: belongs in train_loader, whose images it divides"]
        )
    if config.train_loader.args.get("val_split") is not None and (
        config.val_loader is not None or not config.trainer.val
    ):
        logger.warning(
            "train_loader.args.val_split: the images that it holds back are not validated, as %s",
            "there is a val_loader" if config.trainer.val else "trainer.val is false",
        )
    if not config.trainer.val:
        return None
    held_out = config.val_loader is None
    section = "train_loader" if held_out else "val_loader"
    return build_loader(config, section, held_out=held_out, rank=rank(), world_size=world_size())


def build_loader(
    config: Config, section: str, *, held_out: bool = False, **settings: Any
) -> BaseDataLoader:
    """Build the loader of a section; `held_out` loads what `val_split` holds back.

    Raises:
        ConfigError: If the dataset cannot be found or used.
    """
    component: Component = getattr(config, section)
    source = build_source(component, section, held_out=held_out)
    try:
        return BaseDataLoader(
            *source,
            seed=config.seed,
            ignore_index=config.ignore_index,
            held_out=held_out,
            **settings,
        )
    except ValueError as error:
        raise ConfigError(f"{section} ({component.type})", [str(error)]) from error


def build_source(component: Component, section: str, *, held_out: bool = False) -> Source:
    """Build the parts of the loader of a section; what is `held_out` is not augmented.

    Raises:
        ConfigError: If the dataset cannot be found or used.
    """
    dataset = build_dataset(component, section)
    switches, operations, options = split_args(
        component.args, Augmentation, transforms, LoaderOptions
    )
    try:
        return Source(
            dataset,
            Augmentation(
                **({} if held_out else {**switches, **operations}),
                class_names=dataset.classes,
                channels=dataset.channels,
            ),
            LoaderOptions(**options),
        )
    except ValueError as error:
        raise ConfigError(f"{section} ({component.type})", [str(error)]) from error


def build_dataset(component: Component, section: str) -> BaseDataset:
    """Build the dataset that a loader section names.

    Raises:
        ConfigError: If it cannot be found or used.
    """
    (own,) = split_args(component.args, getattr(dataloaders, component.type))
    return build(dataloaders, Component(component.type, own), BaseDataset, section)


def describe_dataset(dataset: BaseDataset, ignore_index: int) -> dict[str, Any]:
    """Return what a prediction needs to know of a dataset, as plain data for `meta`."""
    rule = dataset.band_rule
    bands = {} if rule is None else {"band_rule": dataclasses.asdict(rule)}
    return {
        "classes": list(dataset.classes),
        "palette": [list(colour) for colour in dataset.palette],
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "channels": dataset.channels,
        "ignore_index": ignore_index,
        "preview_bands": list(dataset.preview_bands),
        **({} if dataset.exif is None else {"exif": dataset.exif}),
        "mask_prefix": dataset.mask_prefix,
        "mask_suffix": dataset.mask_suffix,
        **bands,
    }
