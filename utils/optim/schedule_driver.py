"""Steps a learning rate schedule, with the warm-up in front of it."""

import copy
import dataclasses
import logging
import warnings
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from utils.optim.lr_scheduler import ClosedForm

logger = logging.getLogger(__name__)

# What is the length of the run, in a schedule of torch that is not asked to be shorter.
LENGTH = {"CosineAnnealingLR": "T_max", "OneCycleLR": "total_steps", "PolynomialLR": "total_iters"}


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """The factor of the learning rates in the first steps of a run.

    The schedule runs underneath from step 0, so its curve is where it would be without.
    linear: f + (1 - f) * t / W at step t of W; constant: f. From step W on: 1.

    Paper: Accurate, Large Minibatch SGD, https://arxiv.org/abs/1706.02677 (section 2.2).
    Differs from the paper: its linear warm-up ends at the base rate, this one at the schedule's.
    """

    steps: int = 0  # W, in optimizer steps
    mode: Literal["linear", "constant"] = "linear"  # `"linear"` or `"constant"`
    start: float = 0.01  # f, the factor of the first step

    def factor(self, step: int) -> float:
        """Return the factor of the schedule's learning rates at a step."""
        if step >= self.steps:
            return 1.0
        rise = step / self.steps if self.mode == "linear" else 0.0
        return self.start + (1 - self.start) * rise


class Schedule:
    """Sets the learning rates of an optimizer after each step and each epoch.

    Args:
        scheduler: One of ours or of torch's.
        interval: Whether it is stepped after each optimizer step or each epoch.
        warmup: The warm-up that multiplies its first learning rates.
        iters_per_epoch: Optimizer steps an epoch; None where no run of another count is resumed.
    """

    def __init__(
        self,
        scheduler: LRScheduler,
        *,
        interval: Literal["step", "epoch"] = "step",
        warmup: WarmUp | None = None,
        iters_per_epoch: int | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.optimizer: Optimizer = scheduler.optimizer
        self.interval = interval
        self.warmup = warmup or WarmUp()
        self.iters_per_epoch = iters_per_epoch
        self.steps = 0  # finished optimizer steps
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])  # most schedules say it, not all
        self._first = [_settings(group) for group in self.optimizer.param_groups]
        self._scale()

    def step(self) -> None:
        """Call after each optimizer step."""
        self.steps += 1
        if self.interval == "step":
            self._step_scheduler()
        else:
            self._scale()

    def epoch_end(self, metric: float | None) -> None:
        """Call after each epoch with the monitored metric; None where the epoch was not judged."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            if metric is not None:
                self._step_scheduler(metric)
        elif self.interval == "epoch":
            self._step_scheduler()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the schedule as plain data."""
        # A copy: some of torch's schedules hand over their own lists.
        own = copy.deepcopy(self.scheduler.state_dict())
        count = {"steps": self.steps, "iters_per_epoch": self.iters_per_epoch}
        return {**own, "type": self._name(), **count}

    def load_state_dict(self, state: Mapping[str, Any] | None, *, steps: int, epochs: int) -> None:
        """Continue at the step that a run has reached; call it once the optimizer has its state.

        Where an epoch has another number of steps than in the checkpoint (another batch size, other
        images), what counts them over the whole run continues at the same fraction of its epochs.

        Args:
            state: What `state_dict()` returned; None where a checkpoint has none: the schedule is
                put where it would be.
            steps: Finished optimizer steps, where the state does not say.
            epochs: Finished epochs.

        Raises:
            ValueError: If a schedule of torch was made for a run of another length.
        """
        own = dict(state or {})
        kind, self.steps = own.pop("type", self._name()), own.pop("steps", steps)
        if state is not None and kind != self._name():
            logger.warning("the checkpoint's schedule is %s, not %s", kind, self._name())
        groups = len(own.get("_last_lr", self._first))
        old = own.pop("iters_per_epoch", None)
        ratio = self._rescale(old)
        if state is None or kind != self._name() or groups != len(self._first):
            self._fast_forward(epochs if self.interval == "epoch" else self.steps)
        elif ratio and self._follows_run(own, ratio):
            self._warn(old, "it continues at the same fraction of the epochs")
            self._fast_forward(self.steps)
        else:
            self._check_length(own)
            if ratio and self.interval == "step":
                self._warn(old, "its arguments count steps, so it continues at the same step")
            self.scheduler.load_state_dict(own)
            self._set_rates(self.scheduler.get_last_lr())
        self._scale()

    def _step_scheduler(self, metric: float | None = None) -> None:
        if self.steps <= self.warmup.steps:
            # Many of torch's schedules continue from the learning rate that they find.
            self._set_rates(self.scheduler.get_last_lr())
        if isinstance(self.scheduler, ReduceLROnPlateau):
            assert metric is not None
            self.scheduler.step(metric)
        else:
            self.scheduler.step()
        self._scale()

    def _scale(self) -> None:
        if self.steps <= self.warmup.steps:
            factor = self.warmup.factor(self.steps)
            self._set_rates([rate * factor for rate in self.scheduler.get_last_lr()])

    def _set_rates(self, rates: list[Any]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def _fast_forward(self, count: int) -> None:
        """Step the schedule from its beginning so many times."""
        for group, first in zip(self.optimizer.param_groups, self._first, strict=True):
            # Torch's schedules keep metrics of their own in the groups, which a checkpoint lacks.
            group.update({k: v for k, v in first.items() if k not in group or k == "lr"})
        self._set_rates(self.scheduler.get_last_lr())
        if isinstance(self.scheduler, ClosedForm):
            self.scheduler.go_to(count)
        elif isinstance(self.scheduler, ReduceLROnPlateau):
            logger.warning("the checkpoint has no state of ReduceLROnPlateau; it begins anew")
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # no optimizer step comes between these
                for _ in range(count):
                    self.scheduler.step()

    def _rescale(self, old: int | None) -> Fraction | None:
        """Return the finished steps in epochs of this run, and how much longer these are."""
        new = self.iters_per_epoch
        if not old or not new or old == new:
            return None
        ratio = Fraction(new, old)
        self.steps = round(self.steps * ratio)
        return ratio

    def _warn(self, old: int | None, what: str) -> None:
        logger.warning(
            "lr_scheduler: an epoch of the checkpoint has %s steps, one of this run %s; %s",
            old,
            self.iters_per_epoch,
            what,
        )

    def _follows_run(self, state: Mapping[str, Any], ratio: Fraction) -> bool:
        """Return whether the schedule counts steps over as many epochs as the checkpoint's."""
        if isinstance(self.scheduler, ClosedForm):
            return True
        name = LENGTH.get(self._name())
        if name is None or self.interval == "epoch":
            return False
        return bool(getattr(self.scheduler, name) == state[name] * ratio)

    def _check_length(self, state: Mapping[str, Any]) -> None:
        name = LENGTH.get(self._name())
        if name is None or state.get(name) == getattr(self.scheduler, name):
            return
        raise ValueError(
            f"lr_scheduler: {self._name()} was made for a run of {state.get(name)} {self.interval}s"
            f", and cannot be stretched to {getattr(self.scheduler, name)}. Keep trainer.epochs "
            f"and lr_scheduler.args.{name} as they were, or begin a new run from the checkpoint "
            "with init_from"
        )

    def _name(self) -> str:
        return type(self.scheduler).__name__


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}
