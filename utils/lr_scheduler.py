"""Learning-rate schedules by optimizer step: what `lr_scheduler.type` may name."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from utils.config import Fraction, NonNegativeInt, PositiveFloat

__all__ = ["OneCycle", "Poly"]

Momentum = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class _StepSchedule(LRScheduler):
    """A closed form over the steps of a whole run.

    Step once after each optimizer step; the state is one number, so it resumes exactly.
    """

    def __init__(self, optimizer: Optimizer, num_epochs: int, iters_per_epoch: int) -> None:
        self.total_steps = num_epochs * iters_per_epoch
        if self.total_steps < 1:
            raise ValueError("a schedule needs at least one step: the training set gives no batch")
        super().__init__(optimizer)

    def progress(self) -> float:
        """The share of the run that lies behind: 0 at the first step, below 1 at the last."""
        return min(self.last_epoch / self.total_steps, 1.0)

    def factor(self) -> float:
        """What the rate of every group is multiplied by at this step."""
        raise NotImplementedError

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each group at this step."""
        factor = self.factor()
        return [base * factor for base in self.base_lrs]


class Poly(_StepSchedule):
    """Polynomial decay from the base rate towards zero, after a linear warm-up.

    rate(t) = base * (1 - t / T) ** 0.9 at step t of T; during the warm-up multiplied by
    (t + 1) / W over its W steps.

    Paper: ParseNet, https://arxiv.org/abs/1506.04579 (section 3.1, "poly").
    Differs from the paper: nothing. Differs from the ancestor: the first step has the base rate
    and the last one is not wasted on a rate of zero (its t ran from 1 to T).

    Args:
        optimizer: Whose rates are set.
        num_epochs: Epochs of the whole run.
        iters_per_epoch: Optimizer steps an epoch.
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
        """The multiple of the base rate at this step."""
        decay = (1 - self.progress()) ** self.power
        if self.last_epoch < self.warmup_steps:
            return decay * (self.last_epoch + 1) / self.warmup_steps
        return decay


class OneCycle(_StepSchedule):
    """One rise and one fall of the rate by half cosines; momentum moves the other way.

    Rises from base / div_factor to base over the first `phase1` of the run and falls to
    base / (div_factor * 10^4); momentum goes from the higher to the lower value and back. For
    Adam-like optimizers the momentum is `betas[0]`; one without either keeps its own.

    Paper: Super-Convergence, https://arxiv.org/abs/1708.07120.
    Differs from the paper: half cosines instead of straight lines, as in fastai. Differs from the
    ancestor: step 0 counts, so its curve is the same one step later.

    Args:
        optimizer: Whose rates and momentum are set.
        num_epochs: Epochs of the whole run.
        iters_per_epoch: Optimizer steps an epoch.
        momentums: The lower and the higher momentum.
        div_factor: The base rate over the first one.
        phase1: The share of the run in which the rate rises.
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
        """The value at this step on start -> top -> end, by two half cosines."""
        rise_steps = int(self.total_steps * self.phase1)
        step = min(self.last_epoch, self.total_steps)
        if step < rise_steps:
            start, end, share = start, top, step / rise_steps
        else:
            start, share = top, (step - rise_steps) / (self.total_steps - rise_steps)
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    def factor(self) -> float:
        """The multiple of the base rate at this step."""
        return self._between(1 / self.div_factor, 1.0, 1 / (self.div_factor * 1e4))

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each group at this step; sets the momentum on the way."""
        low, high = self.momentums
        momentum = self._between(high, low, high)
        for group in self.optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = momentum
            elif "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
        return super().get_lr()
