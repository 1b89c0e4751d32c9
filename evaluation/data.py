"""The images to score: from a config to a loader of whole images."""

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from base.base_dataloader import BaseDataLoader
from builders.data import build_source
from builders.sections import SECTIONS
from utils.cli.choices import SCORED_KEYS, SPLITS
from utils.config.check import check_sections
from utils.config.errors import ConfigError
from utils.config.file import apply_overrides, parse_config
from utils.config.foreign import refuse_foreign
from utils.config.keys import one_of, paths_of
from utils.config.known_keys import names_by_path
from utils.config.sections import Component
from utils.config.text_values import value_of
from utils.distributed.collectives import rank, world_size
from utils.files.data_file import DataError
from utils.runs.headings import data_folder

logger = logging.getLogger(__name__)

CHANGING = ("augment", "base_size", "crop_size", "albumentations")  # arguments that change images


@dataclasses.dataclass(frozen=True)
class Data:
    """The images of a split."""

    loader: BaseDataLoader  # whole images with labels, in the order of the dataset
    dataset: str  # the name of the data loader
    section: str  # the section of the config that names it
    split: str  # one of `SPLITS`
    ignore_index: int  # the ignored label
    lenient: bool  # whether the config itself asks to skip what cannot be read
    folder: str | None = None  # the folder of the images; None if there is none


def open_data(
    tree: Mapping[str, Any], source: str, split: str, *, one_by_one: bool = False
) -> Data:
    """Open the loader of a split, for this rank; `one_by_one` loads batches of one image.

    Raises:
        ConfigError: If the config has no such split, or it cannot be found or used.
        DataError: If lists or folders are wrong and `on_bad_sample` is `"raise"`.
    """
    section, held_out = choose_section(tree, split, source)
    # The rest is not checked: a loss or an optimizer of another version does not matter here.
    checked, warnings = check_sections(tree, (section, "ignore_index"), SECTIONS, source)
    for warning in warnings:
        logger.warning(warning)
    component: Component = checked[section]
    if section != "train_loader" and component.args.get("val_split") is not None:
        raise ConfigError(
            section, ["args.val_split: belongs in train_loader, whose images it divides"]
        )
    ignore_index: int = checked["ignore_index"]
    loader, lenient = build_whole_loader(
        component, section, ignore_index, split=split, held_out=held_out, one_by_one=one_by_one
    )
    folder = data_folder(component.args)
    return Data(loader, component.type, section, split, ignore_index, lenient, folder)


def read_tree(
    stored: Mapping[str, Any], path: str, config_path: str | None, overrides: Sequence[str]
) -> tuple[dict[str, Any], str]:
    """Return the config of the loaders, `config_path`'s or else the checkpoint's, and its file.

    Raises:
        ConfigError: If there is no config, or an override changes something that is not read.
    """
    tree = parse_config(config_path) if config_path is not None else stored
    if not tree:
        raise ConfigError(
            path, ["contains no config, so it does not name its images: add --config"]
        )
    if config_path is not None:
        refuse_foreign(tree, config_path)
    idle = [text for text in overrides if text.partition("=")[0].split(".")[0] not in SCORED_KEYS]
    if idle:
        names = names_by_path(
            tree, {key: part for key, part in SECTIONS.items() if key in SCORED_KEYS}
        )
        raise ConfigError("-o", [_idle(text, names) for text in idle])
    return apply_overrides(tree, overrides), config_path or path


def _idle(override: str, names: Mapping[str, Collection[str]]) -> str:
    """Explain that an override has no effect, and which one has if only its path is missing."""
    key, _, value = override.partition("=")
    found = [p for p in paths_of(key, names) if p.split(".")[0] in SCORED_KEYS]
    if found:
        return f"{override!r}: write {one_of(f'-o {full}={value}' for full in found[::-1])}"
    return f"{override!r}: has no effect here; only these are read: {', '.join(SCORED_KEYS)}"


def choose_section(tree: Mapping[str, Any], split: str, source: str) -> tuple[str, bool]:
    """Return the loader section of a split, and whether `val_split` holds the split back.

    Raises:
        ConfigError: If the config has no such split.
    """
    there = {
        name: (f"{name}_loader", False) for name in SPLITS if value_of(tree.get(f"{name}_loader"))
    }
    train = tree.get("train_loader")
    args = train.get("args") if isinstance(train, dict) else None
    if isinstance(args, dict) and value_of(args.get("val_split")) is not None:
        there.setdefault("val", ("train_loader", True))
    if split not in there:
        names = [
            f"{name} ({'val_split of ' * held_out}{section})"
            for name, (section, held_out) in there.items()
        ]
        wanted = f"no {split}_loader" + (" and no val_split" if split == "val" else "")
        rest = f"; there is {', '.join(names)}" if names else ""
        raise ConfigError(source, [f"has {wanted} for --split {split}{rest}"])
    return there[split]


def build_whole_loader(
    component: Component,
    section: str,
    ignore_index: int,
    *,
    split: str,
    held_out: bool,
    one_by_one: bool,
) -> tuple[BaseDataLoader, bool]:
    """Build a loader of the whole images of a split; also return if `on_bad_sample` is `"skip"`.

    Several processes share the batches that one process would have.

    Raises:
        ConfigError: If the dataset cannot be found or used.
        DataError: If lists or folders are wrong and `on_bad_sample` is `"raise"`.
    """
    _warn_of_changes(component.args, section, held_out or split == "train")
    source = build_source(component, section, held_out=True)  # no augmentation
    options = source.options
    lenient = options.on_bad_sample == "skip"
    if source.dataset.problems and not lenient:
        raise DataError(
            "; ".join(source.dataset.problems)
            + f" (-o {section}.args.on_bad_sample=skip leaves them out)"
        )
    options = dataclasses.replace(
        options,
        shuffle=False,
        drop_last=False,
        on_bad_sample="skip",  # continue, and count
        # Images are read only once.
        cache=None if options.cache == "ram" else options.cache,
        # For training it is a number of crops.
        batch_size=1 if one_by_one or split == "train" else options.batch_size,
    )
    loader = BaseDataLoader(
        source.dataset,
        source.augmentation,
        options,
        seed=0,  # nothing is drawn
        ignore_index=ignore_index,
        held_out=held_out,
        rank=rank(),
        world_size=world_size(),
    )
    if held_out:  # such a loader leaves these messages to the loader of the rest
        for note in (*source.dataset.problems, *source.dataset.notes):
            logger.warning(note)
    return loader, lenient


def _warn_of_changes(args: Mapping[str, Any], section: str, expected: bool) -> None:
    """Warn that images are whole here, if they were not in validation."""
    used = [name for name in CHANGING if args.get(name)]
    if used and not expected:
        logger.warning(
            "%s.args: %s left out; images are scored whole and at their own size, other than in "
            "training",
            section,
            ", ".join(used) + (" is" if len(used) == 1 else " are"),
        )
