"""Builds and checks the schedule of the config's section `lr_scheduler`."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from utils.config.build import build
from utils.config.errors import ConfigError
from utils.config.sections import (
    Component,
    Config,
    OptimizerSection,
    ScheduleSection,
    TrainerSection,
)
from utils.config.signatures import signature_of
from utils.optim import lr_scheduler
from utils.optim.schedule_driver import LENGTH, Schedule, WarmUp

DERIVED = {
    "CosineAnnealingLR": ("T_max",),
    "OneCycleLR": ("max_lr",),
    "PolynomialLR": ("total_iters",),
    "ReduceLROnPlateau": ("mode",),
}
"""Arguments of torch's schedules that follow from the rest of a config."""

FORBIDDEN = {
    "LambdaLR": "its factor is Python code",
    "MultiplicativeLR": "its factor is Python code",
    "SequentialLR": "it is made of other schedules; warmup_epochs puts a warm-up in front of any",
    "ChainedScheduler": "it is made of other schedules; warmup_epochs puts a warm-up in front",
}

_BY_STEP = ("CyclicLR", "OneCycleLR")  # torch's documentation steps these after each step
_TRIED_STEPS = 500  # steps for which a schedule is tried before anything is built


def build_schedule(config: Config, optimizer: Optimizer, iters_per_epoch: int) -> Schedule | None:
    """Return the schedule of a config, or None where the learning rates stay constant.

    Raises:
        ConfigError: If it does not fit the length of the run.
    """
    section = config.lr_scheduler
    if section is None:
        return None
    return schedule_of(section, config.trainer, optimizer, iters_per_epoch)


def schedule_of(
    section: ScheduleSection, trainer: TrainerSection, optimizer: Optimizer, iters_per_epoch: int
) -> Schedule:
    """Return the schedule of a section.

    Raises:
        ConfigError: If it does not fit the length of the run.
    """
    interval = section.interval or default_interval(section.type)
    if _is_ours(section.type):
        scheduler = build(
            lr_scheduler,
            section,
            LRScheduler,
            "lr_scheduler",
            optimizer=optimizer,
            num_epochs=trainer.epochs,
            iters_per_epoch=iters_per_epoch,
        )
    else:
        length = trainer.epochs * (iters_per_epoch if interval == "step" else 1)
        component = Component(section.type, _fill(section, optimizer, length, trainer.monitor))
        library = torch.optim.lr_scheduler
        _check_floor(component, optimizer)
        scheduler = build(library, component, LRScheduler, "lr_scheduler", optimizer=optimizer)
        _check_reach(scheduler, length)
    steps = round(section.warmup_epochs * iters_per_epoch)
    if section.warmup_epochs:
        steps = max(1, steps)
    warmup = WarmUp(steps, section.warmup_mode, section.warmup_factor)
    return Schedule(scheduler, interval=interval, warmup=warmup, iters_per_epoch=iters_per_epoch)


def problems_of(section: ScheduleSection, sections: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a section, found by stepping it without parameters."""
    trainer, optimizer = sections.get("trainer"), sections.get("optimizer")
    if trainer is None or optimizer is None:
        return []
    problems = _key_problems(section, trainer)
    if problems:
        return problems
    try:
        lists = [value for value in section.args.values() if isinstance(value, list)]
        groups = 1 if section.type == "MultiStepLR" else max(map(len, lists), default=1)
        schedule = schedule_of(section, trainer, _Bare(optimizer, groups), 1)
        _try(schedule, min(trainer.epochs, _TRIED_STEPS))
    except ConfigError as error:
        return [f"lr_scheduler.args: {problem}" for problem in error.problems]
    except (ValueError, TypeError) as error:
        return [f"lr_scheduler.args: {error}"]
    except ArithmeticError as error:
        return [
            f"lr_scheduler.args: {section.type} cannot be computed ({error}); is one of them 0?"
        ]
    return []


def _key_problems(section: ScheduleSection, trainer: TrainerSection) -> list[str]:
    """Return what is wrong with the keys beside `args`."""
    problems = []
    default = default_interval(section.type)
    if section.interval not in (None, default) and (_is_ours(section.type) or _plateau(section)):
        why = "is stepped after each validation" if _plateau(section) else "is stepped every step"
        problems.append(f"lr_scheduler.interval: {section.type} {why}; remove it")
    if _plateau(section) and trainer.monitor == "off":
        problems.append(
            "lr_scheduler.type: ReduceLROnPlateau looks at the monitored metric, and "
            'trainer.monitor is "off"; name one, such as "max Mean_IoU"'
        )
    mode, watched = section.args.get("mode"), trainer.monitor.partition(" ")[0]
    if _plateau(section) and mode in ("min", "max") and watched not in ("off", mode):
        problems.append(
            f'lr_scheduler.args.mode: "{mode}", but trainer.monitor is "{trainer.monitor}"; remove '
            "it, as it follows from trainer.monitor"
        )
    problems += _length_problems(section)
    if section.warmup_epochs > trainer.epochs:
        problems.append(
            f"lr_scheduler.warmup_epochs: {section.warmup_epochs:g} is more than trainer.epochs, "
            f"{trainer.epochs}; use a shorter warm-up"
        )
    if section.warmup_epochs and section.args.get("warmup_epochs"):
        problems.append("lr_scheduler.args.warmup_epochs: there are two warm-ups; keep one")
    plain = (ScheduleSection.warmup_mode, ScheduleSection.warmup_factor)
    if not section.warmup_epochs and (section.warmup_mode, section.warmup_factor) != plain:
        problems.append(
            "lr_scheduler.warmup_epochs: is 0, so warmup_mode and warmup_factor have no effect; "
            "set it above 0, or remove them"
        )
    return problems


def _length_problems(section: ScheduleSection) -> list[str]:
    """Return a problem if only one of the two factors of a length is given; torch needs both."""
    given = {name for name, value in section.args.items() if value is not None}
    halves = sorted(given & {"epochs", "steps_per_epoch"})
    if section.type != "OneCycleLR" or "total_steps" in given or len(halves) != 1:
        return []
    return [
        f"lr_scheduler.args.{halves[0]}: gives the length of the run only together with the other "
        "of epochs and steps_per_epoch; remove it, as the length follows from trainer.epochs"
    ]


def default_interval(name: str) -> Literal["step", "epoch"]:
    """Return when a schedule is stepped by default, which is what its documentation says."""
    return "step" if _is_ours(name) or name in _BY_STEP else "epoch"


def _is_ours(name: str) -> bool:
    return name in lr_scheduler.__all__


def _plateau(section: ScheduleSection) -> bool:
    return section.type == "ReduceLROnPlateau"


def _fill(
    section: ScheduleSection, optimizer: Optimizer, length: int, monitor: str
) -> dict[str, Any]:
    """Return the arguments of a schedule of torch, with those that the config implies."""
    args = {k: v for k, v in section.args.items() if v is not None}
    if section.type == "OneCycleLR":
        rates = [group["lr"] for group in optimizer.param_groups]
        args.setdefault("max_lr", rates)
        if not args.keys() & {"total_steps", "epochs", "steps_per_epoch"}:
            args["total_steps"] = length
    elif section.type in LENGTH:
        args.setdefault(LENGTH[section.type], length)
    elif _plateau(section):
        args.setdefault("mode", monitor.partition(" ")[0])
    for name in ("base_lr", "max_lr", "min_lr"):
        if isinstance(args.get(name), (int, float)):
            args[name] = [args[name] * ratio for ratio in _ratios(optimizer)]
    return args


def _ratios(optimizer: Optimizer) -> list[float]:
    """Return the learning rate of each group over that of the config."""
    whole = optimizer.defaults["lr"]
    return [group["lr"] / whole if whole else 1.0 for group in optimizer.param_groups]


def _check_floor(component: Component, optimizer: Optimizer) -> None:
    """Return why one floor for all groups is wrong: smaller learning rates would rise to it."""
    floor, whole = component.args.get("eta_min", 0), optimizer.defaults["lr"]
    if floor > 0 and len(set(_ratios(optimizer))) > 1:
        fraction = f" {floor / whole:.3g}" if floor < whole else ", a fraction of each rate"
        raise ConfigError(
            "lr_scheduler.args",
            [
                f"eta_min: {component.type} has one floor for all groups of parameters, whatever "
                f'their learning rate; use our schedule "Cosine" with min_factor{fraction}'
            ],
        )


def _check_reach(scheduler: LRScheduler, length: int) -> None:
    """Refuse a OneCycleLR shorter than the run: it raises an error beyond its last step."""
    reach = getattr(scheduler, "total_steps", length)
    if reach < length:
        raise ConfigError(
            "lr_scheduler.args",
            [
                f"OneCycleLR ends after {reach} steps, but the run has {length}; leave out "
                "total_steps, epochs and steps_per_epoch"
            ],
        )


def _try(schedule: Schedule, count: int) -> None:
    """Step the schedule over the whole run; raise an error at an unusable learning rate."""
    for _ in range(count):
        for group in schedule.optimizer.param_groups:
            if not (math.isfinite(group["lr"]) and group["lr"] >= 0):
                raise ValueError(
                    f"the learning rate becomes {group['lr']:g} after {schedule.steps} steps"
                )
        schedule.optimizer.step()
        schedule.step()
        schedule.epoch_end(0.0)


class _Bare(Optimizer):
    """An optimizer's settings without parameters, in so many groups.

    A real one imports torch's compiler, a second that the check of a config should not cost.
    """

    def __init__(self, section: OptimizerSection, groups: int) -> None:
        schema = signature_of(getattr(torch.optim, section.type))
        defaults = {name: p.default for name, p in schema.items() if not p.required}
        self.defaults = {**defaults, **section.args}
        self.param_groups = [{**self.defaults, "params": []} for _ in range(groups)]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do nothing."""
