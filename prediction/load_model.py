"""A trained model from its checkpoint alone."""

import dataclasses
import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

import dataloaders
import models
from base.base_model import BaseModel
from builders.data import build_dataset, describe_dataset
from builders.model import arch_for
from builders.sections import SECTIONS
from prediction.exported.network import ExportedNetwork, load_exported
from utils.checkpoint.content import Checkpoint, read_checkpoint
from utils.checkpoint.model_file import is_exported
from utils.checkpoint.save_load import CheckpointError, describe_misfit
from utils.config.build import build, split_args
from utils.config.check import check_sections
from utils.config.errors import suggest
from utils.config.file import parse_config
from utils.config.foreign import refuse_foreign
from utils.config.sections import Component, SectionSpec
from utils.drawing.palette import voc_palette
from utils.drawing.visualize import to_rgb
from utils.files.image_head import ExifRule
from utils.files.raster_io import BandRule

logger = logging.getLogger(__name__)

MAX_CLASSES = 65535  # as many as a 16-bit mask can have
OF_TRAINING = ("ignore_index", "binary", "threshold")  # fields of `Meta` that no dataset has


@dataclasses.dataclass(frozen=True)
class Meta:
    """The meaning of a model's outputs, and the form of its inputs.

    Raises:
        ValueError: If the lengths contradict each other or a value is out of range.
    """

    classes: tuple[str, ...]  # the names of the K classes
    palette: tuple[tuple[int, int, int], ...]  # a colour (red, green, blue) for each
    mean: tuple[float, ...]  # the mean of each channel, as for `normalize()`
    std: tuple[float, ...]  # the standard deviation of each channel
    channels: int = 3  # C of the images
    ignore_index: int = 255  # the label that was ignored in training
    band_rule: BandRule | None = None  # how images are read; None: as 8-bit RGB
    # The channels to show as red, green and blue, or one to show in grey; empty for the first ones.
    preview_bands: tuple[int, ...] = ()
    # What the stems of the training's masks begin with, and those of its images do not; "" for
    # nothing.
    mask_prefix: str = ""
    mask_suffix: str = ""  # what they end with, likewise
    binary: bool = False  # whether the model has one output channel for two classes
    # For two classes, class 1 is predicted where its probability is at least this; None: where it
    # is the more probable class.
    threshold: float | None = None
    # Whether the EXIF orientation of images is applied; None: it is not, because the config does
    # not say so.
    exif: ExifRule | None = None

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("there are no classes")
        if len(self.palette) < len(self.classes):
            raise ValueError(f"{len(self.palette)} colours for {len(self.classes)} classes")
        if not all(0 <= value <= 255 for colour in self.palette for value in colour):
            raise ValueError("a colour of the palette is not in 0..255")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"{len(self.mean)} means and {len(self.std)} standard deviations for "
                f"{self.channels} channels"
            )
        if min(self.std) <= 0:
            raise ValueError("a standard deviation is not positive")
        if len(self.preview_bands) not in (0, 1, 3) or not all(
            0 <= band < self.channels for band in self.preview_bands
        ):
            raise ValueError(f"{self.preview_bands} are not channels that can be shown as an image")
        if len(self.classes) != 2 and (self.binary or self.threshold is not None):
            raise ValueError(f"a binary output or threshold for {len(self.classes)} classes")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"the threshold {self.threshold} is not a probability")

    @property
    def outputs(self) -> int:
        """The number of output channels of the model."""
        return 1 if self.binary else len(self.classes)

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Return an image (H, W, C) as people can look at it: (H, W, 3) uint8 RGB."""
        bands = self.preview_bands or ((0, 1, 2) if self.channels >= 3 else (0,))
        return to_rgb(image, bands, self.mean, self.std)


class LoadedModel(NamedTuple):
    """A model that is ready to predict, what belongs to it, and its file."""

    model: BaseModel | ExportedNetwork
    meta: Meta
    checkpoint: Checkpoint  # of an exported file only the config and `meta`

    @property
    def arch(self) -> str:
        """The class of the model, also of one that was exported."""
        if isinstance(self.model, ExportedNetwork):
            return self.model.description.arch
        return type(self.model).__name__

    @property
    def statistics(self) -> tuple[Sequence[float], Sequence[float]]:
        """The mean and standard deviation of what the model takes, as for `normalize()`."""
        own = self.model.statistics() if isinstance(self.model, ExportedNetwork) else None
        return (self.meta.mean, self.meta.std) if own is None else own


def read_model(path: str | Path) -> Checkpoint:
    """Read a checkpoint, or what an exported file says of itself, which has no weights.

    Raises:
        ValueError: If it cannot be used.
    """
    if not is_exported(path):
        return read_checkpoint(path)
    own = load_exported(path, torch.device("cpu")).description
    return Checkpoint(state_dict={}, config=own.config, meta=own.meta)


def load_model(
    path: str | Path,
    device: torch.device | str,
    config_path: str | Path | None = None,
    checkpoint: Checkpoint | None = None,
) -> LoadedModel:
    """Load a checkpoint, see `restore()`, or a file that `export.py` has written.

    Args:
        path: The file.
        device: Where the model goes.
        config_path: As in `restore()`.
        checkpoint: What `read_model()` has read of the file; None to read it here.

    Raises:
        ValueError: If it cannot be used.
    """
    checkpoint = checkpoint or read_model(path)
    if not is_exported(path):
        return LoadedModel(*restore_from(checkpoint, path, device, config_path), checkpoint)
    network = load_exported(path, torch.device(device))
    meta = _read_meta(checkpoint.meta, checkpoint.config, path)
    return LoadedModel(network.eval(), meta, checkpoint)


def restore(
    path: str | Path, device: torch.device | str, config_path: str | Path | None = None
) -> tuple[BaseModel, Meta]:
    """Build the model of a checkpoint, with its weights, ready to predict.

    Args:
        path: A checkpoint of this program or of pytorch-segmentation, or a bare state dict.
        device: Where the model goes.
        config_path: The config of the training, for what the checkpoint itself does not say: its
            `arch` if the checkpoint has none, and its `train_loader` if the checkpoint has no
            `meta` with the classes.

    Returns:
        The model in evaluation mode, and its meta data.

    Raises:
        CheckpointError: If the file cannot be read or lacks something, or its weights do not fit
            the model that it names.
        ConfigError: If the file at `config_path` cannot be read.
    """
    return restore_from(read_checkpoint(path), path, device, config_path)


def restore_from(
    checkpoint: Checkpoint,
    path: str | Path,
    device: torch.device | str,
    config_path: str | Path | None = None,
) -> tuple[BaseModel, Meta]:
    """Build the model of a checkpoint that has been read; see `restore()`.

    Args:
        checkpoint: The content of the file.
        path: The file, for messages.
        device: As in `restore()`.
        config_path: As in `restore()`.
    """
    config = checkpoint.config
    if config_path is not None:
        given = parse_config(config_path)
        refuse_foreign(given, str(config_path))
        config = _merge(config, given, path, config_path)
    if "arch" not in config:
        raise CheckpointError(
            f"{path} contains weights but does not name their model: add --config with the config "
            "that it was trained with"
        )
    meta = _read_meta(checkpoint.meta, config, path)
    weights = checkpoint.evaluated_weights()
    model = _build_model(config["arch"], meta, weights, path)
    _load_weights(model, weights, path)
    return model.to(device).eval(), meta


def _merge(
    stored: dict[str, Any], given: dict[str, Any], path: str | Path, config_path: str | Path
) -> dict[str, Any]:
    """Return the checkpoint's own config, completed from the file that the user gave."""
    if "arch" in stored and stored["arch"] != given.get("arch", stored["arch"]):
        # The weights fit no other model, whatever the file says.
        logger.warning(f"the model is the one that {path} names; arch of {config_path} is not used")
    # The dataset may be another: so a checkpoint of an unknown one can be opened.
    loader = {"train_loader": given["train_loader"]} if "train_loader" in given else {}
    return {**given, **stored, **loader}


def _component(section: object, name: str, path: str | Path) -> Component:
    """Convert `{"type": ..., "args": {...}}`, which in a checkpoint is not checked yet."""
    try:
        return msgspec.convert(section, Component)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{path}: the section {name} of its config: {error}") from None


def _check(
    key: str, name: str, args: dict[str, Any], spec: SectionSpec, path: str | Path
) -> Component:
    tree = {key: {"type": name, "args": args}}
    values, _ = check_sections(tree, (key,), {key: spec}, str(path))
    checked: Component = values[key]
    return checked


def _read_meta(plain: Mapping[str, Any], config: Mapping[str, Any], path: str | Path) -> Meta:
    if not plain:
        plain = {**_meta_of_dataset(config, path), "binary": config.get("binary", False)}
    try:
        return msgspec.convert(plain, Meta)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{path}: its meta data is wrong: {error}") from None


def _meta_of_dataset(config: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Return the meta data of a checkpoint without `meta`.

    It comes from the dataset if its files are there, else from its constants and `args`.
    """
    if "train_loader" not in config:
        raise CheckpointError(
            f"{path} does not name its classes: add --config with the config that it was trained "
            "with"
        )
    loader = _component(config["train_loader"], "train_loader", path)
    if loader.type not in dataloaders.__all__:
        known = suggest(loader.type, dataloaders.__all__, listing=True)
        raise CheckpointError(
            f"{path} was trained on {loader.type!r}, which does not exist here{known}"
        )
    ignore_index = config.get("ignore_index", 255)
    dataset = getattr(dataloaders, loader.type)
    # A checkpoint never makes the program download something.
    (own,) = split_args({**loader.args, "download": False}, dataset)
    spec = dataclasses.replace(SECTIONS["train_loader"], shared_args=())
    try:
        checked = _check("train_loader", loader.type, own, spec, path)
        return describe_dataset(build_dataset(checked, "train_loader"), ignore_index)
    except (ValueError, TypeError) as error:
        logger.info("%s: its dataset cannot be read (%s)", path, error)

    # From the constants of the class and its arguments
    plain = {
        field.name: loader.args.get(field.name) or getattr(dataset, field.name, None)
        for field in dataclasses.fields(Meta)
        if field.name not in OF_TRAINING
    }
    if isinstance(plain["classes"], int) and plain["classes"] <= MAX_CLASSES:
        plain["classes"] = [f"class {class_id}" for class_id in range(plain["classes"])]
    if not plain["classes"] or not isinstance(plain["classes"], (list, tuple)):
        raise CheckpointError(
            f"{path} was trained on {loader.type}, which has no classes of its own: add --config "
            'with "classes" in train_loader.args'
        )
    plain["palette"] = plain["palette"] or voc_palette(len(plain["classes"]))
    return {**plain, "ignore_index": ignore_index}


def _build_model(
    section: object, meta: Meta, weights: Mapping[str, Tensor], path: str | Path
) -> BaseModel:
    arch = _component(section, "arch", path)
    if arch.type not in models.__all__:
        known = suggest(arch.type, models.__all__, listing=True)
        raise CheckpointError(
            f"{path} is of the model {arch.type!r}, which does not exist here{known}"
        )
    accepted = inspect.signature(getattr(models, arch.type)).parameters
    # Models of pytorch-segmentation accepted any argument, so its configs may contain some that
    # mean nothing. If one matters after all, the weights will not fit.
    unknown = sorted(arch.args.keys() - accepted.keys() - {"pretrained"})
    if unknown:
        logger.warning(f"{path}: {arch.type} takes no {', '.join(unknown)}: ignored")
    args = {name: value for name, value in arch.args.items() if name in accepted}
    args.pop("num_classes", None)  # follows from the classes
    if "in_channels" in accepted:
        args.setdefault("in_channels", meta.channels)
    try:
        checked = _check("arch", arch.type, args, SECTIONS["arch"], path)
        fitting = arch_for(checked, weights)
        return build(models, fitting, BaseModel, "arch", num_classes=meta.outputs)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its model cannot be built: {error}") from error


def _load_weights(model: BaseModel, weights: Mapping[str, Tensor], path: str | Path) -> None:
    own = model.state_dict()
    weights, optional = model.own_names(weights)
    misfit = describe_misfit(own, weights, optional)
    if not misfit:
        model.load_state_dict(weights, strict=False)
        return
    different = [key for key in own if key in weights and own[key].shape != weights[key].shape]
    raise CheckpointError(
        f"{path}: {_class_hint(model, weights, different)}its weights do not fit "
        f"{type(model).__name__} with {model.num_classes} classes: {misfit}"
    )


def _class_hint(model: BaseModel, weights: Mapping[str, Tensor], different: list[str]) -> str:
    """Return a hint if only the number of classes is wrong, else an empty text."""
    own = model.state_dict()
    firsts = {(*own[key].shape[:1], *weights[key].shape[:1]) for key in different}
    if len(firsts) != 1:
        return ""
    ours, *theirs = firsts.pop()
    if ours != model.num_classes or not theirs:
        return ""
    return f"it is of {theirs[0]} classes, but the dataset has {ours}. So "
