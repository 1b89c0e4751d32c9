"""The sections of a config as plain classes, and the specs of those that name a class."""

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

from utils.config.signatures import Parameter, plain_hint, signature_of
from utils.config.types import (
    Amp,
    Fraction,
    LabelValue,
    LayerDecay,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seed,
)

DERIVED = ("tree", "warnings")  # fields of Config that no file contains


@dataclasses.dataclass(frozen=True)
class Component:
    """The name of a class, and the arguments that the config gives it."""

    type: str
    args: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class OptimizerSection(Component):
    """An optimizer of `torch.optim`, and the settings of parameter groups.

    Args:
        type: The optimizer.
        args: Its arguments.
        differential_lr: Train the backbone at a tenth of the learning rate.
        backbone_rate: Factor of the backbone's learning rate; null leaves it to
            `differential_lr`.
        layer_decay: Factor from the learning rate of one layer of the backbone to that of the
            layer before it; null gives all layers one learning rate.
        no_decay_norms_biases: Apply no weight decay to norms, biases and position embeddings, that
            is to all that is no matrix or kernel.
    """

    differential_lr: bool = False
    backbone_rate: PositiveFloat | None = None
    layer_decay: LayerDecay | None = None
    no_decay_norms_biases: bool = False


@dataclasses.dataclass(frozen=True)
class ScheduleSection(Component):
    """A schedule of ours or of `torch.optim.lr_scheduler`, and the warm-up before it.

    Args:
        type: The schedule.
        args: Its arguments.
        interval: Step a schedule of torch after each optimizer step or each epoch; null is what
            its documentation assumes. Ours step after each optimizer step.
        warmup_epochs: Epochs of warm-up, 1.5 for one and a half.
        warmup_mode: Increase the learning rates linearly, or keep them constant.
        warmup_factor: The fraction of the schedule's learning rates that the warm-up begins with.
    """

    interval: Literal["step", "epoch"] | None = None
    warmup_epochs: NonNegativeFloat = 0.0
    warmup_mode: Literal["linear", "constant"] = "linear"
    warmup_factor: Fraction = 0.01


# The class of a section that has more keys than `type` and `args`.
SECTION_CLASSES = {"optimizer": OptimizerSection, "lr_scheduler": ScheduleSection}


@dataclasses.dataclass(frozen=True)
class LossTerm(Component):
    """A loss, and its weight in the sum."""

    weight: NonNegativeFloat = 1.0


@dataclasses.dataclass(frozen=True)
class WandbSection:
    """How a run appears in Weights & Biases; its API key is in `WANDB_API_KEY`."""

    project: str | None = None  # null: the `name` of the config
    entity: str | None = None  # the user or team; null: that of the API key
    name: str | None = None  # of the run; null: the name of the run folder
    group: str | None = None  # runs to be shown together
    tags: list[str] = dataclasses.field(default_factory=list)
    # Send to the server, or write to the run folder for `wandb sync`; null: as `WANDB_MODE` says,
    # or online.
    mode: Literal["online", "offline"] | None = None


@dataclasses.dataclass(frozen=True)
class MlflowSection:
    """How a run appears in MLflow; names and passwords are in `MLFLOW_TRACKING_USERNAME`, ..."""

    # A server's address, or a file as `sqlite:///<path>`; null: as `MLFLOW_TRACKING_URI` says, or
    # `<log_dir>/mlflow.db`.
    tracking_uri: str | None = None
    experiment: str | None = None  # null: the `name` of the config
    name: str | None = None  # of the run; null: the name of the run folder
    tags: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse other kinds of addresses: plug-ins, and folders, which MLflow has given up.

        Raises:
            ValueError: If the address is of another kind.
        """
        kinds = r"(https?|(sqlite|postgresql|mysql|mssql)(\+\w+)?)://.+|databricks"
        if self.tracking_uri is not None and not re.fullmatch(kinds, self.tracking_uri):
            raise ValueError(
                f"tracking_uri: {self.tracking_uri!r} is no address; expected "
                "http(s)://<server>, or sqlite:///<file>"
            )


# The sections within `trainer`, one for each logger that has settings.
LOGGER_CLASSES: dict[str, type] = {"wandb": WandbSection, "mlflow": MlflowSection}


@dataclasses.dataclass(frozen=True)
class TrainerSection:
    """Settings of the training: how long, what to save, what to log."""

    epochs: PositiveInt  # how often the training sees every image
    save_dir: str = "saved/"  # a run writes to `<save_dir>/<name>/<time>/`
    save_period: PositiveInt = 10  # epochs between two `checkpoint-epoch<N>.pth`
    # Steps between two `last.pth`, beside the one after each epoch: how much work a crash can cost.
    save_every_steps: PositiveInt | None = None
    # The metric that decides the best model: `"max Mean_IoU"`, `"min val_loss"`, ...; or `"off"`.
    monitor: str = "max Mean_IoU"
    # Stop after this many epochs without a better model; 0 never stops.
    early_stop: NonNegativeInt = 0
    val: bool = True  # validate during training
    # Epochs between two validations; the last epoch is always validated.
    val_per_epochs: PositiveInt = 1
    log_dir: str = "saved/runs"  # TensorBoard files are in `<log_dir>/<name>/<time>/`
    log_per_iter: PositiveInt = 20  # steps between two points of the training curves
    tensorboard: bool = True  # false: write no TensorBoard files, whatever `loggers` says
    # Where the curves go. `"wandb"` takes over what TensorBoard writes, and needs it.
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    wandb: WandbSection = WandbSection()
    mlflow: MlflowSection = MlflowSection()
    # The number of micro-batches that a batch is split into, to save memory; BatchNorm sees one
    # micro-batch at a time.
    accumulation_steps: PositiveInt = 1
    # The largest norm that the gradient of all weights can have in a step.
    clip_grad_norm: PositiveFloat | None = None
    # Decay of a moving average of the weights, as in 0.999; validation and predictions use the
    # average.
    ema_decay: Fraction | None = None
    # Keep only the inputs of the network's blocks, and compute the rest again in the backward pass:
    # less memory for about a third more time.
    activation_checkpointing: bool = False
    # What to do when a loss is not finite: `"raise"` ends the training; `"skip"` leaves the step
    # out; `"rollback"` also restores the weights of the last checkpoint, as those that gave such a
    # loss can be damaged. Ten in a row end it in any case.
    on_bad_loss: Literal["raise", "skip", "rollback"] = "raise"

    legacy_args: typing.ClassVar[dict[str, str]] = {
        "verbosity": "pytorch-segmentation never read it"
    }

    @property
    def writes_tensorboard(self) -> bool:
        """True if TensorBoard files are written."""
        return self.tensorboard and "tensorboard" in self.loggers


@dataclasses.dataclass(frozen=True)
class Config:
    """A config that has been checked."""

    name: str
    arch: Component
    train_loader: Component
    optimizer: OptimizerSection
    loss: tuple[LossTerm, ...]
    trainer: TrainerSection
    val_loader: Component | None = None
    test_loader: Component | None = None
    lr_scheduler: ScheduleSection | None = None
    # The number of GPUs, each with its own process and slice of every batch; 0 trains on the CPU.
    # `torchrun` says it itself.
    n_gpu: NonNegativeInt = 1
    # `"DataParallel"` lets one process scatter the batch to the GPUs, as pytorch-segmentation did.
    parallel: Literal["DistributedDataParallel", "DataParallel"] = "DistributedDataParallel"
    use_synch_bn: bool = True  # normalise over the images of all processes, as one process would
    seed: Seed = 0
    deterministic: bool = False
    amp: Amp = False  # mixed precision, see `utils/optim/precision.py`
    # Compile the training network with `torch.compile`; needs a C++ compiler, and a minute or more
    # at the first step of each image size.
    compile: bool = False
    binary: bool = False  # one output channel for two classes: the logit of class 1 against class 0
    # With two classes, predict class 1 where its probability is at least this; `"search"` takes the
    # value with the best score in validation, None the class of the higher probability.
    threshold: Fraction | Literal["search"] | None = None
    ignore_index: LabelValue = 255
    init_from: str | None = None
    # The plain data of the config, overrides included, as a run stores it.
    tree: dict[str, Any] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()  # what is odd about it


@dataclasses.dataclass(frozen=True)
class SectionSpec:
    """Where one section of the config finds its class, and what its `args` can contain."""

    kind: str  # what a message calls it: `"model"`, `"loss"`
    namespace: types.ModuleType  # only names in its `__all__` that derive from `base` can be named
    base: type  # the class that the named one has to derive from
    set_by_program: frozenset[str] = frozenset()  # arguments that the program sets itself
    # Further classes whose arguments are in the same `args`; a module stands for the classes that
    # its `__all__` names.
    shared_args: tuple[type | types.ModuleType, ...] = ()
    # Names that cannot be used after all, and why.
    forbidden: Mapping[str, str] = dataclasses.field(default_factory=dict)
    # Builds the class cheaply; what it raises is a problem of the config.
    dry_build: Callable[[type, dict[str, Any]], object] | None = None
    # A second namespace, for names that the first does not have.
    library: types.ModuleType | None = None
    # Arguments, by class, that the program derives where the config leaves them out or says null.
    derived: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    # Compares the checked section with the other sections; returns the problems.
    cross_check: Callable[[Any, Mapping[str, Any]], list[str]] | None = None
    # Says what to do about an unknown name, given the name and its arguments.
    advice: Callable[[str, Mapping[str, Any]], str] | None = None

    def find(self, name: str) -> Any:
        """Return the class of a name."""
        owns = self.library is None or name in self.namespace.__all__
        return getattr(self.namespace if owns else self.library, name)

    def schema(self, name: str) -> dict[str, Parameter]:
        """Return the arguments that `args` can contain for a name."""
        schema = signature_of(self.find(name), *self.shared_args)
        for taken in self.set_by_program & schema.keys():
            del schema[taken]
        for left_out in self.derived.get(name, ()):
            hint = plain_hint(schema[left_out].hint)
            hint = hint if hint is Any else typing.Optional[hint]  # noqa: UP045
            schema[left_out] = Parameter(left_out, hint, None)
        return schema

    def names(self) -> list[str]:
        """Return every name that `type` can have."""
        modules = [self.namespace] + ([] if self.library is None else [self.library])
        known = dict.fromkeys(name for module in modules for name in module.__all__)
        found = ((name, self.find(name)) for name in known)
        return [
            name
            for name, value in found
            if isinstance(value, type)
            and issubclass(value, self.base)
            and value is not self.base
            and name not in self.forbidden
        ]
