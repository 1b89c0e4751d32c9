"""Epochs, best model, early stop, checkpoints, resume."""

import dataclasses
import logging
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from base.base_model import BaseModel
from utils.checkpoint.content import ResumePoint
from utils.checkpoint.save_load import file_size, save_checkpoint, why_unwritten
from utils.cli.signals import StopSignals
from utils.config.keys import value_at
from utils.config.sections import Config
from utils.distributed.collectives import any_signal, is_main
from utils.metrics.confusion import name_of
from utils.optim.param_groups import check_state
from utils.optim.schedule_driver import Schedule
from utils.random_state import get_random_state, set_random_state
from utils.runs.image_sets import ImageSets, describe_change, digest
from utils.runs.logger import RunFolder, RunLog

logger = logging.getLogger(__name__)


class TrainingError(RuntimeError):
    """Training cannot go on; the message says in which step, and what to do."""


class Stopped(Exception):
    """A signal has ended the run between two steps; a checkpoint has been written.

    Args:
        signal_number: The signal.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The checkpoint of a run, its score and its epoch."""

    checkpoint: Path | None
    score: float | None
    epoch: int
    on_other_images: bool = False  # the score was measured on images that are not the present ones


class BaseTrainer:
    """Runs epochs and saves their results; a subclass says what an epoch is.

    Three files, three decisions: `best_model.pth` whenever the monitored metric improves,
    `checkpoint-epoch<N>.pth` every `save_period` epochs, `last.pth` to resume from: after every
    epoch, every `save_every_steps` steps, and where a signal ends the run. The `last.pth` before it
    is kept as `previous.pth`.

    Args:
        model: The network, on its device.
        optimizer: Over its parameters.
        lr_scheduler: Stepped after each optimizer step and epoch; None: constant learning rates.
        config: The checked config.
        meta: What a prediction needs beside the weights: classes, palette, mean, std, how images
            are read, the threshold, versions; `builders.training.describe_training()` makes it.
        folder: Where checkpoints go.
        log: Where metrics go.
        stop: The signals that end the run.
        images: Fingerprints of the training and validation images, stored in checkpoints; only the
            main rank needs them.
    """

    def __init__(
        self,
        *,
        model: BaseModel,
        optimizer: Optimizer,
        lr_scheduler: Schedule | None,
        config: Config,
        meta: dict[str, Any],
        folder: RunFolder,
        log: RunLog,
        stop: StopSignals | None = None,
        images: ImageSets | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.config = config
        self.settings = config.trainer
        self.meta = dict(meta)
        self.folder = folder
        self.log = log
        self.stop = stop or StopSignals()
        self.epoch = 0  # finished epochs
        self.batch = 0  # finished batches of the epoch after those
        self.step = 0  # finished optimizer steps
        self.best: float | None = None
        self.best_epoch = 0
        self.images = images
        self.best_images: str | None = None  # the digest of those that the best was measured on
        mode, _, self.monitored = self.settings.monitor.partition(" ")
        self.sign = {"max": 1.0, "min": -1.0, "off": 0.0}[mode]

    def train_epoch(self, epoch: int) -> dict[str, Any]:
        """Train on the rest of an epoch, from `batch` on; return its metrics."""
        raise NotImplementedError

    def validate(self, epoch: int) -> dict[str, Any]:
        """Return the metrics of the model on the validation images."""
        raise NotImplementedError

    def log_epoch(self, training: Mapping[str, Any], validation: Mapping[str, Any]) -> None:
        """Log the metrics of an epoch; `validation` is empty where there was none."""
        raise NotImplementedError

    def progress(self) -> dict[str, Any]:
        """Return what the epoch has added up so far, to go on from `batch`."""
        raise NotImplementedError

    def train(self) -> RunResult:
        """Run all epochs that are left.

        Raises:
            TrainingError: If a loss is not finite, memory runs out, or a checkpoint cannot be
                written.
            DataError: If a file cannot be used.
            Stopped: If a signal came; the checkpoint is written.
        """
        started = time.monotonic()
        first = self.epoch + 1
        if first > self.settings.epochs:
            logger.info(
                "Nothing left to train: %d of %d epochs are done; go on with -o trainer.epochs=%d.",
                self.epoch,
                self.settings.epochs,
                self.epoch + self.settings.epochs,
            )
        if self.settings.on_bad_loss == "rollback" and not self.step:
            self.save_last()  # to roll back to
        for epoch in range(first, self.settings.epochs + 1):
            if self._is_over():
                break
            began = time.monotonic()
            training = self.train_epoch(epoch)
            validation = self.validate(epoch) if self.validates(epoch) else {}
            self._end_epoch(epoch, {**training, "seconds": time.monotonic() - began}, validation)
            if (number := any_signal(self.stop.received)) and epoch < self.settings.epochs:
                raise Stopped(number)
        if self._is_over() and self.epoch < self.settings.epochs:
            logger.info(
                "Stopped early: no better %s in %d epochs.",
                self.monitored,
                self.epoch - self.best_epoch,
            )
        self.log.finish()
        return self._result(self.epoch - first + 1, started)

    def _end_epoch(
        self, epoch: int, training: Mapping[str, Any], validation: Mapping[str, Any]
    ) -> None:
        """Log the epoch, update the best score, save the checkpoints."""
        # Log only after validation: a run stopped during validation repeats the end of the epoch.
        self.log_epoch(training, validation)
        metrics = {**training, **validation}
        has_score = self.validates(epoch) or not self.settings.val
        if self.lr_scheduler is not None:
            watched = has_score and self.sign != 0
            self.lr_scheduler.epoch_end(metrics[self.monitored] if watched else None)
        self.epoch, self.batch = epoch, 0
        if has_score:
            self.meta["labelled_classes"] = metrics.get("labelled_classes")
        change = self._update_best(metrics, epoch) if has_score else None
        self._report(metrics, epoch, has_score, change)
        self._save(epoch, improved=self.best_epoch == epoch)

    def _result(self, count: int, started: float) -> RunResult:
        """Log how long so many epochs took, and return what the run leaves behind."""
        minutes, seconds = divmod(round(time.monotonic() - started), 60)
        if count:
            logger.info("%d epoch%s in %d min %d s.", count, "s" * (count > 1), minutes, seconds)
        best, last = (self.folder.path / name for name in ("best_model.pth", "last.pth"))
        if self.best is not None and best.exists():
            return RunResult(best, self.best, self.best_epoch, self.best_on_other_images)
        return RunResult(last if last.exists() else None, None, self.epoch)

    def validates(self, epoch: int) -> bool:
        """Return whether an epoch is validated; the last always is: its weights may be the best."""
        settings = self.settings
        return settings.val and (epoch % settings.val_per_epochs == 0 or epoch == settings.epochs)

    def _update_best(self, metrics: Mapping[str, Any], epoch: int) -> float | None:
        """Remember the best; return the change against the one before, None if there was none."""
        if not self.sign:
            return None
        value = metrics[self.monitored]
        change = None if self.best is None else value - self.best
        if (self.best is None and not math.isnan(value)) or (change or 0.0) * self.sign > 0:
            self.best, self.best_epoch = value, epoch
            self.best_images = self._scored_images()
        return change

    def _scored_images(self) -> str | None:
        """Return the digest of the images that the monitored metric is measured on, if known."""
        if self.images is None:
            return None
        return digest(self.images.val if self.settings.val else self.images.train)

    @property
    def best_on_other_images(self) -> bool:
        """Return whether the best so far was measured on other images than the present ones."""
        known = self.best is not None and self.best_images is not None
        return known and self.best_images != self._scored_images()

    def _is_over(self) -> bool:
        patience = self.settings.early_stop
        return bool(self.sign and patience and self.epoch - self.best_epoch >= patience)

    def _report(
        self, metrics: Mapping[str, Any], epoch: int, validated: bool, change: float | None
    ) -> None:
        """Log one line for an epoch."""
        parts = [f"epoch {epoch}/{self.settings.epochs}", f"loss {metrics['loss']:.4f}"]
        if validated:
            shown = ["val_loss"] if self.settings.val else []
            shown += [name for name in ("Mean_IoU", self.monitored) if name not in ("", "loss")]
            for name in dict.fromkeys(shown):
                delta = f" ({change:+.4f})" if name == self.monitored and change is not None else ""
                named = name_of(name, metrics.get("labelled_classes"))
                parts.append(f"{named} {metrics[name]:.4f}{delta}")
            if self.best is not None:
                other = ", on other images" * self.best_on_other_images
                parts.append(f"best {self.best:.4f} (epoch {self.best_epoch}{other})")
        else:
            named = name_of("Mean_IoU", metrics.get("labelled_classes"))
            parts.append(f"training {named} {metrics['Mean_IoU']:.4f}")
        if metrics["images_per_second"]:  # else the epoch had ended when the run was resumed
            parts.append(f"{metrics['images_per_second']:.1f} images/s")
        logger.info("  ".join(parts))

    def _save(self, epoch: int, *, improved: bool) -> None:
        names = ["best_model.pth"] if improved else []
        if epoch % self.settings.save_period == 0:
            names.append(f"checkpoint-epoch{epoch}.pth")
        self.save_last(names)
        if improved:
            self.log.best_checkpoint(self.folder.path / "best_model.pth", epoch)

    def save_last(self, copies: Sequence[str] = ()) -> None:
        """Write `last.pth`, and the same under other names; all ranks have to call this.

        Raises:
            TrainingError: If it cannot be written.
        """
        self.log.flush()
        checkpoint = self.state_dict()
        if is_main():
            path = self.folder.path / "last.pth"
            try:
                save_checkpoint(checkpoint, path, copies=copies, previous="previous.pth")
            except OSError as error:
                raise TrainingError(why_unwritten(path, error, file_size(checkpoint))) from None

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state of the run as plain data and tensors."""
        scheduler = self.lr_scheduler
        return {
            "arch": self.config.arch.type,
            "epoch": self.epoch,
            "step": self.step,
            "batch": self.batch,
            "progress": self.progress() if self.batch else None,
            "logs": self.log.state(),
            "loggers": self.log.run_ids,
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": None if scheduler is None else scheduler.state_dict(),
            "monitor_best": self.best,
            "best_epoch": self.best_epoch,
            "rng": get_random_state(),
            "config": self.config.tree,
            "meta": self.meta,
            "images": None if self.images is None else self._images_state(self.images),
        }

    def _images_state(self, images: ImageSets) -> dict[str, Any]:
        return {**images._asdict(), "best": self.best_images}

    def load_learned(self, checkpoint: ResumePoint) -> None:
        """Load the weights and the state of the optimizer."""
        self.model.load_state_dict(checkpoint.state_dict)
        self._load_optimizer(checkpoint)

    def load_state_dict(self, checkpoint: ResumePoint, steps_per_epoch: int) -> None:
        """Continue from a checkpoint.

        Checkpoints of pytorch-segmentation have no schedule and no random states: the schedule is
        set to where it would be, and a warning says that the rest starts anew.

        Args:
            checkpoint: A checkpoint of this model, see `builders.resumable.check_resumable`.
            steps_per_epoch: Optimizer steps an epoch, where the checkpoint does not say.

        Raises:
            Exception: Whatever an optimizer or generator raises for a state that is not its own.
        """
        self.load_learned(checkpoint)
        self.epoch = checkpoint.epoch
        step = checkpoint.step
        self.step = self.epoch * steps_per_epoch if step is None else step
        self.batch = checkpoint.batch
        best = checkpoint.monitor_best
        # pytorch-segmentation starts from infinity, which means that nothing has been judged yet.
        self.best = best if best is not None and abs(best) < float("inf") else None
        known = self.epoch if self.best is not None else 0
        self.best_epoch = known if checkpoint.best_epoch is None else checkpoint.best_epoch
        self._compare_images(checkpoint.images)
        if self.lr_scheduler is not None:
            state = checkpoint.lr_scheduler
            self.lr_scheduler.load_state_dict(state, steps=self.step, epochs=self.epoch)
        if checkpoint.rng is not None:
            set_random_state(checkpoint.rng)
        else:
            logger.warning("the checkpoint has no random states; dropout begins anew")

    def _compare_images(self, stored: Mapping[str, Any] | None) -> None:
        """Warn where the images are not those of the checkpoint."""
        if self.images is None or stored is None:
            return
        names = {"train": "training", "val": "validation"}
        for name, now in self.images._asdict().items():
            change = describe_change(stored[name], now)
            if change:
                logger.warning(
                    "%s images: %s; if that is not intended, stop, put them back, and resume again",
                    names[name],
                    change,
                )
        self.best_images = stored["best"]
        if self.best_on_other_images:
            config, best = (self.folder.path / name for name in ("config.json", "best_model.pth"))
            start = f"init_from={best if best.exists() else 'FILE'}"
            logger.warning(
                "the best so far, %s %.4f (epoch %d), was measured on other images, and stays the "
                "best until an epoch is better on the present ones; to judge by these alone, "
                "begin a new run: python train.py --config %s -o %s",
                self.monitored,
                self.best,
                self.best_epoch,
                shlex.quote(str(config)),
                shlex.quote(start),
            )

    def _load_optimizer(self, checkpoint: ResumePoint) -> None:
        """Load the optimizer's state; settings that the config has changed since win over it."""
        stored = value_at(checkpoint.config, "optimizer.type")
        former, now = (
            value_at(tree, "optimizer.args") or {} for tree in (checkpoint.config, self.config.tree)
        )
        changed = {key for key in {*former, *now} if former.get(key) != now.get(key)}
        changed |= {"initial_lr"} if "lr" in changed else set()  # what a schedule goes by
        if stored not in (None, self.config.optimizer.type):
            kinds = (stored, self.config.optimizer.type)
            logger.warning("the optimizer starts anew: it was %s and is %s", *kinds)
            return
        if checkpoint.optimizer is None:
            logger.warning("the optimizer starts anew: the checkpoint has no state of it")
            return
        own = [dict(group) for group in self.optimizer.param_groups]
        try:
            self.optimizer.load_state_dict(checkpoint.optimizer)
            check_state(self.optimizer)
        except (KeyError, ValueError) as error:
            logger.warning("the optimizer starts anew: %s", error)
            self.optimizer.state.clear()
            for group, fresh in zip(self.optimizer.param_groups, own, strict=True):
                group.update(fresh)
            return
        for group, fresh in zip(self.optimizer.param_groups, own, strict=True):
            group.update(
                {key: fresh[key] for key in changed if stored is not None and key in fresh}
            )
