"""Find a learning rate: take a few steps while it rises, and look at their losses."""

import dataclasses
import itertools
import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from base.base_trainer import TrainingError
from base.batches import Batch
from base.loader_stream import WorkerError
from builders.training import TrainingComponents
from trainer import Trainer
from training.lr_curve import draw_rate_curve
from utils.config.sections import Config
from utils.files.atomic_write import write_text
from utils.optim.lr_scheduler import ClosedForm
from utils.optim.schedule_driver import Schedule
from utils.progress import Progress
from utils.runs.logger import RunFolder, RunLog

logger = logging.getLogger("train")

LOWEST, HIGHEST = 1e-6, 10.0
MAX_RATIO = 3  # suggestions that differ by more contradict each other
DIVERGED = 4.0  # a loss of so many times the lowest so far has diverged
MIN_POINTS = 10
KERNEL_WIDTH = 1 / 40  # standard deviation of the kernel, as a fraction of the curve
MOMENTUM = 0.9  # momentum of the running mean that decides where to stop
MIN_CHANGE = 0.02  # fraction of the first loss; less is neither a descent nor a rise
# Standard deviations of the noise that smoothing leaves. A rise is looked for at every point, so
# that chance has more ways to look like one.
DESCENT, RISE = 4, 6


@dataclasses.dataclass(frozen=True)
class RateCurve:
    """The loss of each step of a sweep, and the learning rates that it suggests."""

    rates: np.ndarray  # (N,) of the config, rising by one factor from step to step
    losses: np.ndarray  # (N,) before the step
    smoothed: np.ndarray  # (N,) the losses without their noise
    # The rate where the loss falls fastest before it turns up; None if it does not fall.
    steepest: float | None
    # A tenth of the rate with the lowest loss before it turns up; None if it does not fall.
    tenth: float | None

    def marks(self) -> dict[str, float]:
        """Return the learning rates to mark, by name."""
        named = {"steepest descent": self.steepest, "a tenth of the lowest": self.tenth}
        return {name: rate for name, rate in named.items() if rate is not None}


class RisingRates(ClosedForm):
    """Multiplies every group's learning rate by one factor from step to step.

    rate(t) = base * (lowest / lr) * (highest / lowest) ** (t / (T - 1)) at step t of T, where lr is
    the rate of the config, so that groups keep their ratio.

    Paper: Cyclical Learning Rates, https://arxiv.org/abs/1506.01186 (section 3.3).
    Differs from the paper: rises by a factor, not by a sum, as in
    https://sgugger.github.io/how-do-you-find-a-good-learning-rate.html.

    Args:
        optimizer: The optimizer whose learning rates are set.
        steps: T.
    """

    def __init__(self, optimizer: Optimizer, steps: int) -> None:
        self.lr = optimizer.defaults["lr"]
        super().__init__(optimizer, num_epochs=1, iters_per_epoch=steps)

    def rate(self) -> float:
        """Return what the learning rate of the config has become at this step."""
        fraction = self.last_epoch / max(1, self.total_steps - 1)
        return float(LOWEST * (HIGHEST / LOWEST) ** fraction)

    def factor(self) -> float:
        """Return what the learning rate of every group is multiplied by at this step."""
        return self.rate() / self.lr


class _SweepOverError(Exception):
    """The last step is done, or the loss has diverged."""


class RateSweep(Trainer):
    """Takes the steps of a training while the learning rate rises; spoils the model.

    Args:
        components: The components of the training; their own schedule is not used.
        steps: How many to take.
        config: See `Trainer`, like the next two.
        folder: See `Trainer`.
        log: See `Trainer`.
    """

    def __init__(
        self,
        components: TrainingComponents,
        *,
        steps: int,
        config: Config,
        folder: RunFolder,
        log: RunLog,
    ) -> None:
        self.rising = RisingRates(components.optimizer, steps)
        with_rising_rates = components._replace(lr_scheduler=Schedule(self.rising))
        super().__init__(**with_rising_rates._asdict(), config=config, folder=folder, log=log)
        self.bad_losses.action = "raise"
        self.points: list[tuple[float, float]] = []
        self.loss_mean, self.lowest_mean = 0.0, float("inf")

    def sweep(self) -> RateCurve:
        """Take the steps, over as many epochs as they need.

        Raises:
            DataError: If a file cannot be used.
        """
        try:
            for epoch in itertools.count(1):
                self.batch = 0
                self.train_epoch(epoch)
        except (_SweepOverError, TrainingError):
            # The trainer itself stops at a loss that is not finite.
            return judge(*np.array(self.points, dtype=float).reshape(-1, 2).T)
        raise AssertionError("a sweep ends with an exception")

    def progress_bar(self, epoch: int) -> Progress:
        """Return the progress of the sweep, which may end within an epoch or go over several."""
        return Progress(
            total=self.rising.total_steps,
            unit="step",
            label="rate search",
            initial=len(self.points),
            leave=False,
        )

    def validates(self, epoch: int) -> bool:
        """Return False: no epoch is validated."""
        return False

    def train_step(
        self, images: Tensor, labels: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor | None]:
        """Take one step of the training, and keep its loss."""
        rate = self.rising.rate()
        result = super().train_step(images, labels, batch)
        loss = result[0].item()
        self.points.append((rate, loss))
        count = len(self.points)
        self.loss_mean = MOMENTUM * self.loss_mean + (1 - MOMENTUM) * loss
        mean = self.loss_mean / (1 - MOMENTUM**count)  # of the first few it would be too low
        self.lowest_mean = min(self.lowest_mean, mean)
        if count == self.rising.total_steps or mean > DIVERGED * self.lowest_mean > 0:
            raise _SweepOverError
        return result


def judge(rates: np.ndarray, losses: np.ndarray) -> RateCurve:
    """Return the curve of (N,) rising rates and finite losses, with the rates that it suggests."""
    count = len(losses)
    if count < MIN_POINTS:
        return RateCurve(rates, losses, losses, None, None)
    width = max(1.0, count * KERNEL_WIDTH)
    first = count // MIN_POINTS
    # A diverged end must not lift the points before it.
    limit = max(losses[:first].max(), np.median(losses))
    smoothed = smooth(losses.clip(max=limit), width)
    # But here it has to show, within bounds.
    bounded = losses.clip(max=limit + (DIVERGED - 1) * (limit - losses.min()))
    # By differences, which no descent widens; of the first half, as the second may be chaos.
    noise = np.std(np.diff(bounded[: count // 2])) / np.sqrt(2)
    # The kernel leaves this much of it.
    rest = noise / np.sqrt(2 * np.sqrt(np.pi) * width)
    least = MIN_CHANGE * abs(smoothed[:first].mean())
    risen = turn(smooth(bounded, width), max(least, RISE * rest))
    low = int(smoothed[:risen].argmin())
    start = smoothed[: min(first, low + 1)].mean()
    if start - smoothed[low] <= max(least, DESCENT * rest):
        return RateCurve(rates, losses, smoothed, None, None)
    slope = np.gradient(smoothed, np.log10(rates))[: low + 1]
    return RateCurve(rates, losses, smoothed, float(rates[slope.argmin()]), float(rates[low] / 10))


def turn(values: np.ndarray, rise: float) -> int:
    """Return how many values come before one that exceeds the lowest so far by a rise."""
    risen = values > np.minimum.accumulate(values) + rise
    return int(risen.argmax()) if risen.any() else len(values)


def smooth(values: np.ndarray, width: float) -> np.ndarray:
    """Return the mean around each of (N,) values by a normal curve with a std of `width`."""
    indices = np.arange(len(values))
    weights = np.exp(-0.5 * ((indices[:, None] - indices) / width) ** 2)
    return (weights @ values) / weights.sum(1)


def find_rate(config: Config, components: TrainingComponents, steps: int) -> bool:
    """Take the steps, draw the curve, log what it suggests; return whether it suggests a rate.

    Raises:
        ValueError: If a file cannot be used, or the learning rate of the config is 0.
    """
    if not components.optimizer.defaults["lr"] > 0:
        raise ValueError(
            "optimizer.args.lr: is 0, but the learning rates of all groups rise in proportion "
            "to it; set it to any number above 0"
        )
    settings = config.trainer
    # A name of its own: nothing here can be resumed.
    folder = RunFolder.create(settings.save_dir, settings.log_dir, f"{config.name}-find-lr")
    with RunLog(folder, tensorboard=settings.writes_tensorboard) as log:
        logger.info(
            "Raising the learning rate from %g to %g in %d steps; only the curve is saved.",
            LOWEST,
            HIGHEST,
            steps,
        )
        write_text(folder.path / "config.json", json.dumps(config.tree, indent=4) + "\n")
        sweep = RateSweep(components, steps=steps, config=config, folder=folder, log=log)
        logger.info("precision: %s", sweep.precision.describe())
        try:
            curve = sweep.sweep()
        except WorkerError as error:
            logger.error("%s", error)
            return False
        finally:
            components.train_loader.close()
        plot_file = folder.path / "lr_finder.png"
        title = f"{config.name}: {config.arch.type}, {config.optimizer.type}"
        points = (curve.rates, curve.losses, curve.smoothed)
        log.image("find_lr/curve", draw_rate_curve(*points, curve.marks(), title, plot_file), 0)
        names = ("find_lr/rate", "find_lr/loss", "find_lr/smoothed_loss")
        for step, values in enumerate(zip(*points, strict=True)):
            log.scalars(dict(zip(names, map(float, values), strict=True)), step)
        _report(curve, steps, config.tree)
        logger.info("Curve: %s", plot_file)
    return curve.steepest is not None


def _report(curve: RateCurve, steps: int, tree: Mapping[str, Any]) -> None:
    if curve.steepest is None or curve.tenth is None:
        seen = f"{curve.rates[-1]:.2g}" if len(curve.rates) else f"{LOWEST:g}"
        logger.warning(
            "the loss does not fall at any learning rate up to %s (%d steps), so none is "
            "suggested; check data and loss with check.py, or take more steps: --find-lr %d",
            seen,
            len(curve.rates),
            3 * steps,
        )
        return
    logger.info("Suggested learning rate: %.2g, where the loss falls fastest.", curve.steepest)
    logger.info("A tenth of the learning rate with the lowest loss: %.2g.", curve.tenth)
    low, high = sorted((curve.steepest, curve.tenth))
    if high > MAX_RATIO * low:
        logger.info(
            "They differ by more than a factor of %d: use the smaller, or take more steps.",
            MAX_RATIO,
        )
    logger.info("  -o %s", line_to_paste(curve.steepest, curve.tenth, tree))


def line_to_paste(steepest: float, tenth: float, tree: Mapping[str, Any]) -> str:
    """Return the override that sets the suggestion: the smaller one if the two disagree."""
    apart = max(steepest, tenth) > MAX_RATIO * min(steepest, tenth)
    rate = min(steepest, tenth) if apart else steepest
    # A schedule with a highest rate of its own does not look at the optimizer's.
    own = ((tree.get("lr_scheduler") or {}).get("args") or {}).get("max_lr") is not None
    return f"{'lr_scheduler.args.max_lr' if own else 'optimizer.args.lr'}={rate:.2g}"
