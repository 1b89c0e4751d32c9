"""Check all of a config at once, and build its parts.

A class's constructor signature is the schema of its `args`: names, defaults and value ranges come
from there and are declared nowhere else. This file knows none of our classes; the caller says with
`SectionSpec` where each section finds its own.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from utils.config.file import ConfigError, name_problem, show, suggest
from utils.config.folder_section import classes_in
from utils.config.foreign import refuse_foreign
from utils.config.keys import LOADERS, names_in, near_places, one_of, places
from utils.config.text_values import constant_of, value_of

T = TypeVar("T")

PositiveInt = Annotated[int, msgspec.Meta(ge=1)]
NonNegativeInt = Annotated[int, msgspec.Meta(ge=0)]
PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]
NonNegativeFloat = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(gt=0, lt=1)]
LayerDecay = Annotated[float, msgspec.Meta(gt=0, le=1)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
# Labels travel as 8- or 16-bit integers, so the ignored value has to fit into them.
LabelValue = Annotated[int, msgspec.Meta(ge=-32767, le=32767)]
Amp = Literal["auto", "bf16", "fp16"] | bool


@dataclasses.dataclass(frozen=True)
class Choices:
    """What a string argument may say, as an annotation of its type: `Annotated[str, Choices(...)]`.

    Unlike `Literal`, it can be computed, and can leave a family of further names open.

    Args:
        names: The names.
        prefixes: What else begins with one of these is left to the constructor.
        others: What other programs call one of the names.
    """

    names: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()

    def problem(self, value: str) -> str:
        """What is wrong with a value, with a suggestion; empty if nothing is."""
        if value in self.names or value.startswith(self.prefixes):
            return ""
        shown = [*self.names, *(f"{prefix}<name>" for prefix in self.prefixes)]
        return f"{show(value)} is not a choice{suggest(value, shown, listing=True)}"

    def check(self, value: str, argument: str) -> None:
        """Raise a `ValueError` for a value that is not a choice.

        Raises:
            ValueError: If `value` is none of the names and has none of the prefixes.
        """
        problem = self.problem(value)
        if problem:
            raise ValueError(f"{argument}: {problem}")


MAX_VALUE = 100  # characters of what was typed, in a message
_MISSING: Any = inspect.Parameter.empty
_DERIVED = ("tree", "warnings")  # fields of Config that no file holds


@dataclasses.dataclass(frozen=True)
class Component:
    """A class by name, and the arguments that the config gives it."""

    type: str
    args: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class OptimizerSection(Component):
    """An optimizer of `torch.optim`, and what sets some parameters apart from the others.

    Args:
        type: The optimizer.
        args: Its arguments.
        differential_lr: The backbone trains at a tenth of the rate.
        backbone_rate: The backbone trains at the rate times this; null leaves it to
            `differential_lr`.
        layer_decay: Each layer of the backbone trains at the rate of the next deeper one times
            this; null gives all layers one rate.
        no_decay_norms_biases: No weight decay on what is no matrix or kernel: norms, biases,
            position embeddings.
    """

    differential_lr: bool = False
    backbone_rate: PositiveFloat | None = None
    layer_decay: LayerDecay | None = None
    no_decay_norms_biases: bool = False


@dataclasses.dataclass(frozen=True)
class ScheduleSection(Component):
    """A schedule of ours or of `torch.optim.lr_scheduler`, and the warm-up in front of it.

    Args:
        type: The schedule.
        args: Its arguments.
        interval: Whether a schedule of torch moves with each optimizer step or each epoch; null is
            what its documentation assumes. Ours move with each step.
        warmup_epochs: Epochs of warm-up, 1.5 for one and a half.
        warmup_mode: Let the rates rise linearly, or keep them at one share.
        warmup_factor: The share of the schedule's rates that the warm-up begins with.
    """

    interval: Literal["step", "epoch"] | None = None
    warmup_epochs: NonNegativeFloat = 0.0
    warmup_mode: Literal["linear", "constant"] = "linear"
    warmup_factor: Fraction = 0.01


_SECTIONS = {"optimizer": OptimizerSection, "lr_scheduler": ScheduleSection}


@dataclasses.dataclass(frozen=True)
class LossTerm(Component):
    """A loss, and its factor in the sum."""

    weight: NonNegativeFloat = 1.0


@dataclasses.dataclass(frozen=True)
class TrainerSection:
    """How long to train, what to keep, what to log.

    Args:
        epochs: How often every training picture is seen.
        save_dir: Runs go to `<save_dir>/<name>/<time>/`.
        save_period: Epochs between two `checkpoint-epoch<N>.pth`.
        save_every_steps: Steps between two `last.pth`, beside the one after each epoch: how much
            work a crash can cost.
        monitor: `"max Mean_IoU"`, `"min val_loss"`, ...: what decides the best model; or `"off"`.
        early_stop: Stop after this many epochs without a better model; 0 never stops.
        val: Validate during training.
        val_per_epochs: Epochs between two validations; the last epoch is always validated.
        log_dir: TensorBoard files go to `<log_dir>/<name>/<time>/`.
        log_per_iter: Steps between two points of the training curves.
        tensorboard: Write TensorBoard files.
        accumulation_steps: In how many parts a full batch goes through the network, one after the
            other, in as much less memory; BatchNorm sees a part at a time.
        clip_grad_norm: The largest norm that the gradient of all weights may have in a step.
        ema_decay: Follow the weights with a moving average, as in 0.999; it is what is validated
            and what predictions use.
        activation_checkpointing: Keep the inputs of the network's blocks only, and work out the
            rest again in the backward pass: less memory for about a third more time.
        on_bad_loss: What happens when a loss is not finite: `"raise"` ends the training; `"skip"`
            leaves the step out; `"rollback"` also goes back to the weights of the last checkpoint,
            for those that gave such a loss may be past saving. Ten in a row end it in any case.
    """

    epochs: PositiveInt
    save_dir: str = "saved/"
    save_period: PositiveInt = 10
    save_every_steps: PositiveInt | None = None
    monitor: str = "max Mean_IoU"
    early_stop: NonNegativeInt = 0
    val: bool = True
    val_per_epochs: PositiveInt = 1
    log_dir: str = "saved/runs"
    log_per_iter: PositiveInt = 20
    tensorboard: bool = True
    accumulation_steps: PositiveInt = 1
    clip_grad_norm: PositiveFloat | None = None
    ema_decay: Fraction | None = None
    activation_checkpointing: bool = False
    on_bad_loss: Literal["raise", "skip", "rollback"] = "raise"

    legacy_args: typing.ClassVar[dict[str, str]] = {
        "verbosity": "the ancestor never read it",
    }


@dataclasses.dataclass(frozen=True)
class Config:
    """A config that has been checked.

    `tree` is the plain data that it was made from, overrides included: what a run stores.

    Args:
        n_gpu: How many GPUs train, each with a process of its own and its share of every batch;
            0 trains on the CPU. `torchrun` says it itself.
        parallel: `"DataParallel"` lets one process deal the batch to the GPUs, as the ancestor did.
        use_synch_bn: Normalise over the pictures of all processes, as one process would.
        amp: Mixed precision, see `utils/optim/precision.py`.
        compile: Let `torch.compile` make a program of the training network; needs a C++ compiler,
            and a minute or more at the first step of each picture size.
        binary: One output channel for two classes: the second's logit against the first.
        threshold: Of two classes, predict the second where its probability is at least this;
            `"search"` takes what scores best in validation. None: the more probable one.
    """

    name: str
    arch: Component
    train_loader: Component
    optimizer: OptimizerSection
    loss: tuple[LossTerm, ...]
    trainer: TrainerSection
    val_loader: Component | None = None
    test_loader: Component | None = None
    lr_scheduler: ScheduleSection | None = None
    n_gpu: NonNegativeInt = 1
    parallel: Literal["DistributedDataParallel", "DataParallel"] = "DistributedDataParallel"
    use_synch_bn: bool = True
    seed: Seed = 0
    deterministic: bool = False
    amp: Amp = False
    compile: bool = False
    binary: bool = False
    threshold: Fraction | Literal["search"] | None = None
    ignore_index: LabelValue = 255
    init_from: str | None = None
    tree: dict[str, Any] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class SectionSpec:
    """Where one section of the config finds its class, and what its `args` may hold.

    Args:
        kind: What a message calls it: `"model"`, `"loss"`.
        namespace: Only names in its `__all__` that derive from `base` can be named.
        base: The class that the named one has to derive from.
        given: Arguments that the program sets itself.
        shares: Further classes whose arguments stand in the same `args`.
        refused: Names that cannot be used after all, and why.
        trial: Builds the class cheaply; what it raises is a problem of the config.
        library: A second namespace, for names that the first does not have.
        worked_out: Arguments, by class, that the program works out where the config leaves them
            out or says null.
        fits: Holds the checked section against the other sections; returns the problems.
        advice: What to do about a name that is none and close to none, and its arguments.
    """

    kind: str
    namespace: types.ModuleType
    base: type
    given: frozenset[str] = frozenset()
    shares: tuple[type, ...] = ()
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    trial: Callable[[type, dict[str, Any]], object] | None = None
    library: types.ModuleType | None = None
    worked_out: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    fits: Callable[[Any, Mapping[str, Any]], list[str]] | None = None
    advice: Callable[[str, Mapping[str, Any]], str] | None = None

    def find(self, name: str) -> Any:
        """The class of a name."""
        owns = self.library is None or name in self.namespace.__all__
        return getattr(self.namespace if owns else self.library, name)

    def schema(self, name: str) -> dict[str, Parameter]:
        """What `args` may hold for a name."""
        schema = signature_of(self.find(name), *self.shares)
        for taken in self.given & schema.keys():
            del schema[taken]
        for left_out in self.worked_out.get(name, ()):
            hint = plain_hint(schema[left_out].hint)
            hint = hint if hint is Any else typing.Optional[hint]  # noqa: UP045
            schema[left_out] = Parameter(left_out, hint, None)
        return schema

    def names(self) -> list[str]:
        """Everything that `type` may say."""
        modules = [self.namespace] + ([] if self.library is None else [self.library])
        known = dict.fromkeys(name for module in modules for name in module.__all__)
        found = ((name, self.find(name)) for name in known)
        return [
            name
            for name, value in found
            if isinstance(value, type)
            and issubclass(value, self.base)
            and value is not self.base
            and name not in self.refused
        ]


# --------------------------------------------------------------------------------------------------
# From plain data to a checked Config


def check_config(
    tree: dict[str, Any],
    parts: Mapping[str, SectionSpec],
    source: str,
    val_figures: Sequence[str],
    train_figures: Sequence[str],
    overrides: Sequence[str] = (),
) -> Config:
    """Hold everything against the signatures and report every problem at once.

    A key at the top or in `trainer` that is none here is a warning, as many people keep keys of
    their own; but an error where it is mistyped, is the name of a key of another place, or was
    typed with `-o`: else a training would run with a default that nobody chose.

    Args:
        tree: What `parse_config` and `apply_overrides` returned.
        parts: For each section that names a class, where that class is found.
        source: The file's name, for the message.
        val_figures: What `trainer.monitor` may name with validation.
        train_figures: What it may name without.
        overrides: What `apply_overrides` was given.

    Raises:
        ConfigError: With all problems.
    """
    refuse_foreign(tree, source)
    typed = {path: text for path, _, text in (text.partition("=") for text in overrides)}
    report = _Report([], [], names_by_path(tree, parts), names_in(tree), typed, classes_in(tree))
    tree_as_given, tree = tree, report.without_nothing(tree, parts)
    schema = {name: p for name, p in signature_of(Config).items() if name not in _DERIVED}
    for key in [*parts, "trainer"]:
        # Sections are looked into one by one below; here they only have to be there.
        schema[key] = dataclasses.replace(schema[key], hint=Any)
    values = report.arguments(tree, schema, "", "no such key", lenient=True) or {}
    for key, part in parts.items():
        if tree.get(key) is None and (key not in tree or not schema[key].required):
            continue
        if key == "loss":
            values[key] = report.loss(tree[key], part)
        else:
            section = _SECTIONS.get(key, Component)
            values[key] = report.component(tree[key], part, key, section)
    if "trainer" in tree:
        values["trainer"] = report.trainer(tree["trainer"])
    if isinstance(tree.get("name"), str):
        report.problems.extend(problem for problem in [name_problem(tree["name"])] if problem)
    if values.get("trainer") is not None:
        settings = values["trainer"]
        figures = val_figures if settings.val else train_figures
        report.problems.extend(_check_monitor(settings.monitor, figures))
        loader = values.get("train_loader")
        # Where the section itself is wrong, what it says counts as said.
        split_off = loader.args.get("val_split") is not None if loader else _has_val_split(tree)
        if settings.val and tree.get("val_loader") is None and not split_off:
            report.problems.append(
                "val_loader: required key is missing (or give train_loader.args.val_split, or set "
                "trainer.val to false)"
            )
    for key, part in parts.items():
        if part.fits is not None and values.get(key) is not None:
            report.problems.extend(part.fits(values[key], values))
    if report.problems:
        raise ConfigError(source, report.problems)
    return Config(**values, tree=tree_as_given, warnings=tuple(report.warnings))


def _check_monitor(monitor: str, figures: Sequence[str]) -> list[str]:
    if monitor == "off":
        return []
    mode, _, figure = monitor.partition(" ")
    if mode not in ("max", "min") or not figure:
        expected = '"max Mean_IoU", "min val_loss" or "off"'
        return [f"trainer.monitor: expected {expected}, not {monitor!r}"]
    if figure not in figures:
        hint = suggest(figure, figures, listing=True)
        return [f"trainer.monitor: there is no figure named {figure!r}{hint}"]
    return []


def _has_val_split(tree: Mapping[str, Any]) -> bool:
    loader = tree.get("train_loader")
    args = loader.get("args") if isinstance(loader, dict) else None
    return isinstance(args, dict) and args.get("val_split") is not None


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One argument of a class, as its signature declares it."""

    name: str
    hint: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether the config has to give it."""
        return self.default is _MISSING


def signature_of(*classes: type) -> dict[str, Parameter]:
    """The arguments of one or several constructors, by name, the first class's first."""
    found: dict[str, Parameter] = {}
    for cls in classes:
        found |= {k: v for k, v in _arguments_of(cls).items() if k not in found}
    return found


@functools.cache
def _arguments_of(cls: type) -> dict[str, Parameter]:
    hints = _hints_of(cls)
    found = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = parameter.default
        if repr(default) == "<factory>":  # how a dataclass shows default_factory
            default = None
        found[name] = Parameter(name, hints.get(name, Any), default)
    return found


def _hints_of(cls: Any) -> dict[str, Any]:
    # A library's hints need not resolve outside it; often it is these names that it lacks.
    for names in (None, vars(collections.abc)):
        try:
            return typing.get_type_hints(cls.__init__, localns=names, include_extras=True)
        except NameError:
            continue
        except TypeError:
            break
    return {}


@dataclasses.dataclass
class _Report:
    """Collects what is wrong (`problems`) and what is odd (`warnings`)."""

    problems: list[str]
    warnings: list[str]
    names: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)
    given: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)
    typed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    classes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def without_nothing(
        self, tree: dict[str, Any], parts: Mapping[str, SectionSpec]
    ) -> dict[str, Any]:
        """Return a copy in which a section that says "None" in words is null; warns of each."""
        nothing = [
            key for key in parts if isinstance(tree.get(key), str) and value_of(tree[key]) is None
        ]
        self.warnings += [f"{key}: {show(tree[key])} is text; read as null" for key in nothing]
        return {**tree, **dict.fromkeys(nothing)}

    def component(
        self, value: Any, part: SectionSpec, path: str, section: type[Component] = Component
    ) -> Component | None:
        """Check `{"type": ..., "args": {...}}`; returns the section, or None with problems."""
        before = len(self.problems)
        if not isinstance(value, dict):
            example = f'{{"type": "{(part.names() or ["..."])[0]}", "args": {{}}}}'
            self.problems.append(f"{path}: expected {example}, not {show(value)}")
            return None
        values = self.arguments({"args": {}, **value}, signature_of(section), path, "no such key")
        name = value.get("type")
        args = value.get("args", {})
        if not isinstance(name, str):
            return None
        names = part.names()
        if name in part.refused:
            self.problems.append(f"{path}.type: {name} cannot be used: {part.refused[name]}")
            return None
        if name not in names:
            hint = suggest(name, names)
            advice = ""
            if part.advice is not None and name.lower() not in map(str.lower, names):
                # The classes of one loader are those of the others, which may not name them.
                shared = self.classes if path in LOADERS else {}
                advice = part.advice(name, {**shared, **args} if isinstance(args, dict) else shared)
            # A name that is known elsewhere means that, whatever else it is close to.
            if advice and (not hint or advice.startswith("it is ")):
                hint = f"; {advice}"
            hint = hint or suggest(name, names, listing=True)
            self.problems.append(f"{path}.type: no {part.kind} named {name!r}{hint}")
            return None
        if not isinstance(args, dict):
            return None
        cls = part.find(name)
        schema = part.schema(name)
        where = f"{path}.args"
        legacy = {k: v for c in (cls, *part.shares) for k, v in legacy_args(c).items()}
        args = self.legacy(self.renamed(args, cls, where), schema, legacy, where)
        for taken in sorted(part.given & args.keys()):
            self.problems.append(f"{where}.{taken}: the program sets this itself; remove it")
            del args[taken]
        # As the hints have it: a list becomes the tuple, a whole number the float.
        typed = self.arguments(args, schema, where, f"{name} takes no such argument")
        if typed is None or len(self.problems) > before:
            return None
        if part.trial is not None:
            try:
                part.trial(cls, typed)
            except (ValueError, TypeError, RuntimeError) as error:
                self.problems.append(f"{where}: {error}")
                return None
        assert values is not None
        return section(**{**values, "args": typed})

    def loss(self, value: Any, part: SectionSpec) -> tuple[LossTerm, ...] | None:
        """Check a name, `{"type", "args"}`, or a list of these with `"weight"`."""
        if isinstance(value, list) and not value:
            self.problems.append("loss: the list is empty; name at least one loss")
            return None
        several = isinstance(value, list)
        terms = []
        for i, item in enumerate(value if several else [value]):
            path = f"loss.{i}" if several else "loss"
            if isinstance(item, str):
                item = {"type": item}
            terms.append(self.component(item, part, path, LossTerm))
        found = [term for term in terms if isinstance(term, LossTerm)]
        if len(found) < len(terms):
            return None
        if not any(term.weight for term in found):
            self.problems.append("loss: every weight is 0, so nothing would be learned")
        return tuple(found)

    def legacy(
        self,
        args: dict[str, Any],
        schema: Mapping[str, Parameter],
        names: Mapping[str, str],
        path: str,
    ) -> dict[str, Any]:
        """A copy without the arguments that once were and mean nothing now; warns of each."""
        kept = dict(args)
        for name in [name for name in args if name in names and name not in schema]:
            del kept[name]
            self.warnings.append(f"{path}.{name}: has no effect ({names[name]})")
        return kept

    def renamed(self, args: dict[str, Any], cls: type, path: str) -> dict[str, Any]:
        """A copy in which arguments under a former name have their present one; warns of each."""
        names: dict[str, str] = getattr(cls, "renamed_args", {})
        for name in [name for name in args if names.get(name) in args]:
            self.problems.append(
                f"{path}.{name}: is the former name of {names[name]}, which is there too; remove it"
            )
        args = {name: value for name, value in args.items() if names.get(name) not in args}
        old_names = [name for name in args if name in names]
        self.warnings.extend(f"{path}.{name}: is called {names[name]} now" for name in old_names)
        return {names[name] if name in old_names else name: v for name, v in args.items()}

    def trainer(self, value: Any) -> TrainerSection | None:
        """Check the section `trainer`."""
        if not isinstance(value, dict):
            self.problems.append(f"trainer: expected keys and values, not {show(value)}")
            return None
        schema = signature_of(TrainerSection)
        kept = self.legacy(value, schema, TrainerSection.legacy_args, "trainer")
        values = self.arguments(kept, schema, "trainer", "no such key", lenient=True)
        return None if values is None else TrainerSection(**values)

    def arguments(
        self,
        args: Mapping[str, Any],
        schema: Mapping[str, Parameter],
        path: str,
        unknown: str,
        *,
        lenient: bool = False,
    ) -> dict[str, Any] | None:
        """Hold values against a schema: unknown, missing, wrong type, out of range.

        Args:
            args: What the config says.
            schema: What it may say.
            path: Where it says it.
            unknown: What to call a name that the schema lacks.
            lenient: Let what can only be somebody's own key be a warning.
        """
        before = len(self.problems)
        prefix = f"{path}." if path else ""
        values: dict[str, Any] = {}
        unset = [name for name in schema if name not in args]
        for name, value in args.items():
            if name not in schema:
                # Close to any name, also one that is set; but offered are those still free.
                found = self.belongs(name, path)
                hint = self.described(found, name, path)
                if lenient and not found:
                    # A key of another section, mistyped; unless it is nearer to one of this.
                    found = near_places(name, self.names)
                    here = any(place.rpartition(".")[0] == path for place in found)
                    found = [] if here else found
                    hint = self.meant(found, name, path)
                hint = hint or suggest(name, schema)
                own = lenient and f"{prefix}{name}" not in self.typed and name[:2] != "__"
                if own and found and all(map(self.is_given, found)):
                    self.warnings.append(
                        f"{prefix}{name}: has no meaning here; what counts is {one_of(found)}"
                    )
                elif own and not hint:
                    self.warnings.append(f"{prefix}{name}: has no meaning here")
                else:
                    hint = hint or suggest(name, unset, listing=bool(path))
                    self.problems.append(f"{prefix}{name}: {unknown}{hint}")
                continue
            try:
                value = self.spelled(value, schema[name], f"{prefix}{name}")
                values[name] = msgspec.convert(value, type=plain_hint(schema[name].hint))
            except msgspec.ValidationError as error:
                self.problems.append(f"{prefix}{name}: {_explain(error, schema[name].hint, value)}")
                continue
            except UnicodeEncodeError:
                self.problems.append(
                    f"{prefix}{name}: {show(value)} holds characters that are none"
                )
                continue
            for choices in _choices(schema[name].hint):
                former = dict(choices.others).get(value) if isinstance(value, str) else None
                if former is not None:
                    values[name] = former
                    self.warnings.append(f"{prefix}{name}: {show(value)} is {former} here")
                    value = former
            problem = next((p for c in _choices(schema[name].hint) if (p := c.problem(value))), "")
            if problem:
                self.problems.append(f"{prefix}{name}: {problem}")
        for name in unset:
            if schema[name].required:
                self.problems.append(f"{prefix}{name}: required key is missing")
        return None if len(self.problems) > before else values

    def belongs(self, name: str, path: str) -> list[str]:
        """Return the places of a key that stands in the wrong one, or under another name."""
        found = places(name, self.names)
        if path.endswith("_loader.args"):  # that another loader takes it is of no help to this one
            return [p for p in found if "_loader" not in p or p.startswith(f"{path}.")]
        return found

    def is_given(self, place: str) -> bool:
        """Return whether the config sets a key."""
        path, _, key = place.rpartition(".")
        return key in self.given.get(path, ())

    def described(self, found: Sequence[str], name: str, path: str) -> str:
        """Return where a key belongs, as the end of a message; nothing where that is not known."""
        if not found:
            return ""
        where = f"{path}.{name}" if path else name
        if where in self.typed:
            value = self.typed[where]
            value = value if len(value) <= MAX_VALUE else "..."
            return f"; write {one_of(f'-o {place}={value}' for place in found)}"
        if all(place.rpartition(".")[0] == path for place in found):
            return f"; it is called {found[0].rpartition('.')[2]!r} here"
        return f"; it belongs to {one_of(p if '.' in p else f'the top ({p})' for p in found)}"

    def meant(self, found: Sequence[str], name: str, path: str) -> str:
        """Return which keys a mistyped one may stand for, as the end of a message, or nothing."""
        if not found:
            return ""
        if (f"{path}.{name}" if path else name) in self.typed:
            return f"; did you mean {self.described(found, name, path).removeprefix('; write ')}?"
        return f"; did you mean {one_of(found)}?"

    def spelled(self, value: Any, parameter: Parameter, path: str) -> Any:
        """Return a value, or what its text spells where only that can be meant; warns of each."""
        hint = plain_hint(parameter.hint)
        if hint is Any:
            # Some of torch's arguments are declared by their default alone.
            typed = isinstance(parameter.default, (bool, int, float))
            read = value_of(value) if typed and isinstance(value, str) else value
            fits = isinstance(read, bool) == isinstance(parameter.default, bool)
            read = read if fits and read is not None else value
        else:
            constant = constant_of(value) if isinstance(value, str) else value
            read = constant if _fits_hint(constant, hint) else value
            if read is value and not _fits_hint(value, hint):
                read = value_of(value)
                read = read if _fits_hint(read, hint) else value
        if read is value:
            return value
        self.warnings.append(f"{path}: {show(value)} is text; read as {show(read)}")
        return read


def _fits_hint(value: Any, hint: Any) -> bool:
    try:
        msgspec.convert(value, type=hint)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return False
    return True


def converts(value: Any, parameter: Parameter) -> bool:
    """Return whether an argument may have a value."""
    return _fits_hint(value, plain_hint(parameter.hint))


def light_names() -> dict[str, list[str]]:
    """Return the keys that no class of a component declares, by path; the top is `""`."""
    return {
        "": [name for name in signature_of(Config) if name not in _DERIVED],
        "trainer": list(signature_of(TrainerSection)),
        **{
            path: [name for name in signature_of(section) if name not in ("type", "args")]
            for path, section in _SECTIONS.items()
        },
    }


def names_by_path(
    tree: Mapping[str, Any], parts: Mapping[str, SectionSpec]
) -> dict[str, Collection[str]]:
    """Return every key that a config with these classes may set, by path; the top is `""`.

    Args:
        tree: The config; what a section names that no class has, only `parts` can say.
        parts: For each section that names a class, where that class is found.
    """
    names: dict[str, Collection[str]] = {**light_names()}
    for key, part in parts.items():
        section = tree.get(key)
        name = section.get("type") if isinstance(section, dict) else section
        if isinstance(name, str) and name in part.names():
            names[f"{key}.args"] = part.schema(name)
        elif section is not None:
            names[f"{key}.args"] = signature_of(*part.shares)
    return names


def legacy_args(cls: type) -> dict[str, str]:
    """Arguments of the ancestor that mean nothing to this class: name -> reason."""
    return getattr(cls, "legacy_args", {})


def plain_hint(hint: Any) -> Any:
    """The part of a type hint that plain data can have; `Any` where there is none.

    `float | Tensor` becomes `float`: a config cannot hold a tensor.
    """
    origin = typing.get_origin(hint)
    if origin is Annotated:
        base, *extras = typing.get_args(hint)
        plain = plain_hint(base)
        return Annotated[(plain, *extras)] if plain is not Any else Any
    if origin is typing.Literal:
        return hint
    if origin in (typing.Union, types.UnionType):
        members = [plain_hint(member) for member in typing.get_args(hint)]
        members = [member for member in members if member is not Any]
        return typing.Union[tuple(members)] if members else Any  # noqa: UP007
    if origin in (collections.abc.Iterable, collections.abc.Sequence):
        return list[plain_hint(typing.get_args(hint)[0])]  # type: ignore[misc]
    if origin in (list, tuple, dict):
        members = [m if m is Ellipsis else plain_hint(m) for m in typing.get_args(hint)]
        return origin[tuple(members)]
    if hint in (bool, int, float, str, list, dict, tuple) or hint is type(None):
        return hint
    if dataclasses.is_dataclass(hint):
        return hint
    return Any


def _explain(error: msgspec.ValidationError, hint: Any, value: Any) -> str:
    """One clause out of msgspec's message, with the value that came."""
    text = str(error)
    choices = _literals(hint)
    if choices and isinstance(value, str):
        text = suggest(value, [str(c) for c in choices], listing=True).lstrip("; ")
        return f"{show(value)} is not a choice; {text}"
    text, _, where = text.partition(" - at `$")
    text = text[:1].lower() + text[1:]
    text, _, _ = text.partition(", got")
    return f"{text}{' at ' + where.rstrip('`') if where else ''}, not {show(value)}"


def _choices(hint: Any) -> list[Choices]:
    extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    return [extra for extra in extras if isinstance(extra, Choices)]


def _literals(hint: Any) -> list[Any]:
    """The words that a hint allows, beside what else it may allow."""
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        lists = [_literals(member) for member in typing.get_args(hint)]
        return [choice for choices in lists for choice in choices]
    return []


def check_component(component: Component, part: SectionSpec, path: str) -> Component:
    """Hold one section that no whole config stands around against its class's signature.

    Returns:
        The section, its arguments as the signature's hints have them.

    Raises:
        ConfigError: With all problems.
    """
    report = _Report([], [])
    plain = {"type": component.type, "args": dict(component.args)}
    checked = report.component(plain, part, path)
    if checked is None:
        raise ConfigError(path, report.problems)
    return checked


# --------------------------------------------------------------------------------------------------
# From a checked Config to objects


def build(
    namespace: types.ModuleType, component: Component, base: type[T], path: str, **given: Any
) -> T:
    """Make `namespace.<type>(**args, **given)`.

    Raises:
        ConfigError: If the name is not in `namespace.__all__`, or the constructor refuses with a
            `ValueError`.
    """
    report = _Report([], [])
    part = SectionSpec(path, namespace, base)
    if component.type not in part.names():
        known = suggest(component.type, part.names(), listing=True)
        raise ConfigError(path, [f"there is no {component.type!r}{known}"])
    cls = getattr(namespace, component.type)
    args = report.renamed(component.args, cls, path)
    args = report.legacy(args, signature_of(cls), legacy_args(cls), path)
    try:
        return typing.cast(T, cls(**args, **given))
    # The last two: numbers that are far too large.
    except (ValueError, RuntimeError, AssertionError, ArithmeticError, MemoryError) as error:
        raise ConfigError(f"{path} ({component.type})", [str(error)]) from error


def split_args(args: Mapping[str, Any], *classes: type) -> list[dict[str, Any]]:
    """Deal out arguments that stand together to the classes that they belong to."""
    return [{k: v for k, v in args.items() if k in signature_of(cls)} for cls in classes]


def with_defaults(config: Config, parts: Mapping[str, SectionSpec]) -> dict[str, Any]:
    """The whole config as plain data, every default filled in: what `--print-config` shows."""
    result: dict[str, Any] = {}
    for name in signature_of(Config):
        if name in _DERIVED:
            continue
        value = getattr(config, name)
        if name == "loss":
            result[name] = [_filled(term, parts[name]) for term in value]
        elif isinstance(value, Component):
            result[name] = _filled(value, parts[name])
        else:
            result[name] = dataclasses.asdict(value) if name == "trainer" else value
    return result


def _filled(component: Component, part: SectionSpec) -> dict[str, Any]:
    schema = part.schema(component.type)
    defaults = {name: p.default for name, p in schema.items() if not p.required}
    return {**dataclasses.asdict(component), "args": {**defaults, **component.args}}
