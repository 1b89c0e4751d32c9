"""Learning-rate schedules by optimizer step: what `lr_scheduler.type` may name."""

import bisect
import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from utils.config.types import Fraction, NonNegativeInt, PositiveFloat, PositiveInt

__all__ = ["Cosine", "OneCycle", "Poly", "Step"]

Momentum = Annotated[float, msgspec.Meta(ge=0, lt=1)]
ShareOrZero = Annotated[float, msgspec.Meta(ge=0, lt=1)]
AtLeastOne = Annotated[float, msgspec.Meta(ge=1)]


class ClosedForm(LRScheduler):
    """A closed form over the steps of a whole run.

    Step once after each optimizer step; the state is one number, so it resumes exactly.

    Args:
        optimizer: The optimizer whose learning rates are set.
        num_epochs: Epochs of the whole run.
        iters_per_epoch: Optimizer steps an epoch.

    Raises:
        ValueError: If the run has no step.
    """

    def __init__(self, optimizer: Optimizer, num_epochs: int, iters_per_epoch: int) -> None:
        self.total_steps = num_epochs * iters_per_epoch
        if self.total_steps < 1:
            raise ValueError("a schedule needs at least one step: the training set gives no batch")
        super().__init__(optimizer)

    def go_to(self, step: int) -> None:
        """Set the learning rates to those after so many steps of the run."""
        self.last_epoch, self._step_count = step - 1, 0
        self.step()
        self._step_count = step + 1

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a state, on the curve of this object's own arguments.

        A run that is resumed with more epochs is so on the curve of the longer run at once.
        """
        self.go_to(state_dict["last_epoch"])

    def progress(self) -> float:
        """Return the fraction of the run that is done: 0 at the first step, below 1 at the last."""
        return min(self.last_epoch / self.total_steps, 1.0)

    def factor(self) -> float:
        """Return the factor of every group's learning rate at this step."""
        raise NotImplementedError

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each group at this step."""
        factor = self.factor()
        return [base * factor for base in self.base_lrs]


class Poly(ClosedForm):
    """Polynomial decay from the base rate towards zero, after a linear warm-up.

    rate(t) = base * (1 - t / T) ** 0.9 at step t of T; during the warm-up multiplied by
    (t + 1) / W over its W steps.

    Paper: ParseNet, https://arxiv.org/abs/1506.04579 (section 3.1, "poly").
    Differs from the paper: nothing. Differs from pytorch-segmentation: the first step has the base
    rate, and the last one is not wasted on a rate of zero (its t ran from 1 to T).

    Args:
        optimizer, num_epochs, iters_per_epoch: As in `ClosedForm`.
        warmup_epochs: Epochs of linear warm-up.
        power: The exponent.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        num_epochs: int,
        iters_per_epoch: int,
        warmup_epochs: NonNegativeInt = 0,
        power: PositiveFloat = 0.9,
    ) -> None:
        self.warmup_steps = warmup_epochs * iters_per_epoch
        self.power = power
        super().__init__(optimizer, num_epochs, iters_per_epoch)

    def factor(self) -> float:
        """Return the multiple of the base rate at this step."""
        decay = (1 - self.progress()) ** self.power
        if self.last_epoch < self.warmup_steps:
            return decay * (self.last_epoch + 1) / self.warmup_steps
        return decay


class OneCycle(ClosedForm):
    """Learning rate that rises and falls once by half cosines; momentum does the opposite.

    Rises from base / div_factor to base over the first `phase1` of the run and falls to
    base / (div_factor * 10^4); momentum goes from the higher to the lower value and back. For
    Adam-like optimizers the momentum is `betas[0]`; one without either keeps its own.

    Paper: Super-Convergence, https://arxiv.org/abs/1708.07120.
    Differs from the paper: half cosines instead of straight lines, as in fastai. Differs from
    pytorch-segmentation: step 0 counts, so its curve is the same one step later.

    Args:
        optimizer, num_epochs, iters_per_epoch: As in `ClosedForm`.
        momentums: The lower and the higher momentum.
        div_factor: The base rate over the first one.
        phase1: The fraction of the run in which the learning rate rises.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        num_epochs: int,
        iters_per_epoch: int,
        momentums: tuple[Momentum, Momentum] = (0.85, 0.95),
        div_factor: PositiveFloat = 25.0,
        phase1: Fraction = 0.3,
    ) -> None:
        self.momentums = tuple(momentums)
        self.div_factor = div_factor
        self.phase1 = phase1
        super().__init__(optimizer, num_epochs, iters_per_epoch)

    def _between(self, start: float, top: float, end: float) -> float:
        """Return the value at this step on start -> top -> end, by two half cosines."""
        rise_steps = int(self.total_steps * self.phase1)
        step = min(self.last_epoch, self.total_steps)
        if step < rise_steps:
            start, end, fraction = start, top, step / rise_steps
        else:
            start, fraction = top, (step - rise_steps) / (self.total_steps - rise_steps)
        return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2

    def factor(self) -> float:
        """Return the multiple of the base rate at this step."""
        return self._between(1 / self.div_factor, 1.0, 1 / (self.div_factor * 1e4))

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each group at this step, and set the momentum."""
        low, high = self.momentums
        momentum = self._between(high, low, high)
        for group in self.optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = momentum
            elif "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
        return super().get_lr()


class Step(ClosedForm):
    """The rate falls by a factor whenever some epochs are over.

    rate(t) = base * gamma ** n, where n is the number of falls up to the epoch of step t: every
    `step_size` epochs, or those of `milestones` that are reached.

    Paper: Deep Residual Learning, https://arxiv.org/abs/1512.03385 (section 4.2).
    Differs from the paper: counts in epochs, not in steps.

    Args:
        optimizer, num_epochs, iters_per_epoch: As in `ClosedForm`.
        step_size: Epochs between two falls.
        milestones: Instead of `step_size`: after how many epochs it falls, in ascending order.
        gamma: What it is multiplied by.

    Raises:
        ValueError: If not exactly one of `step_size` and `milestones` is given, or the milestones
            do not rise.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        num_epochs: int,
        iters_per_epoch: int,
        step_size: PositiveInt | None = None,
        milestones: list[PositiveInt] | None = None,
        gamma: Fraction = 0.1,
    ) -> None:
        if (step_size is None) == (not milestones):
            late = [max(1, num_epochs * 2 // 3), max(2, num_epochs * 8 // 9)]
            raise ValueError(
                f"give step_size (such as {max(1, num_epochs // 3)}) or milestones (such as "
                f"{late}), in epochs{', not both' if step_size else ''}"
            )
        if milestones and any(b <= a for a, b in itertools.pairwise(milestones)):
            raise ValueError(f"milestones: {milestones} must increase from each to the next")
        self.step_size = step_size
        self.milestones = list(milestones or [])
        self.gamma = gamma
        self.iters_per_epoch = iters_per_epoch
        super().__init__(optimizer, num_epochs, iters_per_epoch)

    def factor(self) -> float:
        """Return the multiple of the base rate at this step."""
        epoch = self.last_epoch // self.iters_per_epoch
        if self.step_size:
            return self.gamma ** (epoch // self.step_size)
        return self.gamma ** bisect.bisect_right(self.milestones, epoch)


class Cosine(ClosedForm):
    """Half a cosine from the base rate down to a floor, once or again and again.

    rate(t) = base * (f + (1 - f) * (1 + cos(pi * s / S)) / 2) with the floor f = `min_factor`, at
    step s of a period of S steps.

    Paper: SGDR, https://arxiv.org/abs/1608.03983 (equation 5).
    Differs from the paper: periods are rounded to whole steps, and one without restarts (the whole
    run) is the default.

    Args:
        optimizer, num_epochs, iters_per_epoch: As in `ClosedForm`.
        min_factor: The floor, as a fraction of the base rate.
        period_epochs: Restart with the base rate after so many epochs (T_0 in the paper); null
            never restarts.
        period_factor: How many times longer each further period is (T_mult in the paper).

    Raises:
        ValueError: If `period_factor` is given without `period_epochs`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        num_epochs: int,
        iters_per_epoch: int,
        min_factor: ShareOrZero = 0.0,
        period_epochs: PositiveFloat | None = None,
        period_factor: AtLeastOne = 1.0,
    ) -> None:
        if period_epochs is None and period_factor != 1:
            raise ValueError("period_factor: has no effect without period_epochs; give both")
        self.min_factor = min_factor
        self.first_period = None if period_epochs is None else period_epochs * iters_per_epoch
        self.period_factor = period_factor
        super().__init__(optimizer, num_epochs, iters_per_epoch)

    def factor(self) -> float:
        """Return the multiple of the base rate at this step."""
        fraction = (
            self.progress()
            if self.first_period is None
            else self._period_fraction(self.first_period)
        )
        return self.min_factor + (1 - self.min_factor) * (1 + math.cos(math.pi * fraction)) / 2

    def _period_fraction(self, period: float) -> float:
        """Return the fraction of the present period that is done, the first of so many steps."""
        step = self.last_epoch
        while step >= (length := max(1, round(period))):
            step -= length
            period *= self.period_factor
        return step / length
