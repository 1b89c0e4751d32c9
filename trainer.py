"""One training step, one training epoch, one validation epoch."""

import contextlib
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from base.bad_steps import BadLossPolicy, describe_bad_loss
from base.base_dataloader import BaseDataLoader
from base.base_trainer import BaseTrainer, Stopped, TrainingError
from base.batches import Batch
from base.epoch_stats import EpochStats, TimedIterator
from base.label_counts import warn_of_absent_classes
from base.micro_batches import AsyncHostCopy, MicroBatches
from base.training_log import TrainingLog
from base.validator import VALIDATION_EPOCH, Validator
from base.weighted_losses import WeightedLosses
from utils.activation_checkpointing import recompute_activations
from utils.checkpoint.content import ResumePoint
from utils.cli.signals import SIGNALS, first_signal
from utils.config.keys import value_at
from utils.config.sections import LossTerm
from utils.distributed.collectives import all_reduce_sum, batch_rows, rank, whole_batch, world_size
from utils.distributed.data_parallel import data_parallel
from utils.distributed.sync_batch_norm import dummy_forward, forward_dummy
from utils.drawing.visualize import comparison_grid
from utils.logits.coarse_logits import MIN_CLASSES, heads_of
from utils.logits.to_labels import predict_labels
from utils.metrics.confusion import SCALAR_METRICS
from utils.optim.ema import averaged_copy
from utils.optim.precision import MixedPrecision
from utils.out_of_memory import free_unused, is_out_of_memory, out_of_memory_raises
from utils.progress import Progress
from utils.random_state import seed_step
from utils.samples.normalize import normalize
from utils.snapshot import StateSnapshot

logger = logging.getLogger(__name__)

# What `trainer.monitor` may name, with and without validation.
VALIDATION_METRICS = ("val_loss", *SCALAR_METRICS)
TRAINING_METRICS = ("loss", *SCALAR_METRICS)

PREPARED_STEPS = 4  # validation begins to load so many steps before the end of an epoch


class Trainer(BaseTrainer):
    """Trains a model on batches of labelled images.

    Args:
        losses: Each loss with its weight in the sum.
        train_loader: Batches of one image size.
        val_loader: Batches by image size; None where nothing is validated.
        device: Where the model is.
        n_gpu: The number of GPUs among which this process splits each batch (`DataParallel`).
        find_unused_parameters: Whether some parameters get no gradient in training, which DDP has
            to know.
        surveyed: The splits, "train" or "val", whose labels have all been read before; classes
            without a labelled pixel in another one are named once all of it has been seen.
        rest: What `BaseTrainer` takes.
    """

    def __init__(
        self,
        *,
        losses: list[tuple[nn.Module, LossTerm]],
        train_loader: BaseDataLoader,
        val_loader: BaseDataLoader | None,
        device: torch.device,
        n_gpu: int = 1,
        find_unused_parameters: bool = False,
        surveyed: Sequence[str] = (),
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.device = device
        dataset = train_loader.source
        self.mean = torch.tensor(dataset.mean, device=device)
        self.std = torch.tensor(dataset.std, device=device)
        losses = [(loss.to(device), term) for loss, term in losses]
        self.losses = WeightedLosses(losses, self.model.aux_weight)
        decay = self.settings.ema_decay
        self.ema = None if decay is None else averaged_copy(self.model, decay)
        if self.settings.activation_checkpointing and not recompute_activations(self.model):
            logger.warning("trainer.activation_checkpointing: the model has no blocks")
        # The model as trained: wrapped for several processes or GPUs, compiled if asked for
        self.network = data_parallel(
            self.model, device, n_gpu, find_unused_parameters=find_unused_parameters
        )
        # In this context DDP does not all-reduce gradients.
        self.no_sync = getattr(self.network, "no_sync", contextlib.nullcontext)
        if self.config.compile:
            self.network = cast(nn.Module, torch.compile(self.network))
        # DataParallel could not gather coarse logits.
        self.model.coarse_logits_in_training = (
            n_gpu <= 1 and len(dataset.classes) >= MIN_CLASSES and self.losses.take_coarse_logits
        )
        self.precision = MixedPrecision(self.config.amp, device)
        self.micro_batches = MicroBatches(
            train_loader.batches.batch_size, self.settings.accumulation_steps
        )
        self.snapshot = StateSnapshot(self.model, self.losses.modules)
        self.bad_losses = BadLossPolicy(self.settings.on_bad_loss, self.folder.path / "last.pth")
        self.gradient_norm: Tensor | None = None
        self.stop_signal = 0  # the one that all ranks have agreed to end with
        num_classes = len(dataset.classes)
        self.stats = EpochStats(train_loader.batches, num_classes, self.config.ignore_index, device)
        self.curves = TrainingLog(self.log, dataset.classes)
        self.surveyed = set(surveyed)
        self.validator = (
            None
            if val_loader is None
            else Validator(
                val_loader,
                self.losses,
                mean=self.mean,
                std=self.std,
                num_classes=num_classes,
                config=self.config,
                stop=self.stop,
            )
        )

    def train_step(
        self, images: Tensor, labels: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor | None]:
        """Forward, loss, backward, update.

        The batch goes through the network in micro-batches, each weighted by its fraction of the
        valid pixels, so that loss and gradient are those of the whole batch. Several ranks share
        each micro-batch.

        Args:
            images: (B, C, H, W) normalised, of this rank.
            labels: (B, H, W) int64.
            batch: Where they come from.

        Returns:
            The loss, a scalar without graph; and the predicted classes (B, H, W), or None if the
            step was skipped because the loss is not finite.

        Raises:
            TrainingError: If the loss is not finite and that is to end the training; the weights
                are as they were.
        """
        self.snapshot.remember()
        seed_step(self.config.seed, self.step, rank())
        self.optimizer.zero_grad(set_to_none=True)

        # Split: (B, H, W) into micro-batches (b, H, W); b is 0 where this rank has no image
        micro_batches = self.micro_batches.split(batch.whole_size or len(images))
        fractions, signals = self._fractions_and_signals(labels, micro_batches)
        total = torch.zeros((), device=self.device)
        all_terms: list[dict[str, Tensor]] = []
        predictions: list[Tensor] = []
        for rows, fraction in zip(micro_batches, fractions, strict=True):
            local = images[rows]  # (b, C, H, W), those of this rank
            last = rows is micro_batches[-1]
            # DDP all-reduces the gradients in the last backward pass.
            sync = contextlib.nullcontext() if last else self.no_sync()
            with sync, dummy_forward(not len(local)):
                # Forward: logits (b, K, H, W), and auxiliary ones
                with self.precision.autocast():
                    heads = (
                        heads_of(self.network(local))
                        if len(local)
                        else forward_dummy(self.network, local)
                    )

                # Loss: a scalar, the mean over the valid pixels of the micro-batch on all ranks
                foreground = None if batch.foreground is None else batch.foreground[rows]
                with whole_batch():
                    terms = self.losses.terms(heads, labels[rows], foreground, learning=True)
                self.losses.check_ranks(terms)
                loss = torch.stack(list(terms.values())).sum()
                total += loss.detach() * fraction
                if last:  # copy now, read after backward, so that the GPU is not stalled
                    host_copy = AsyncHostCopy(torch.cat([signals, total.isfinite().long().view(1)]))

                # Backward: DDP averages gradients over ranks; times world size, that is the sum
                self.precision.backward(loss * fraction * world_size())
            all_terms.append({name: value.detach() for name, value in terms.items()})
            predictions.append(predict_labels(heads[0]))
        prediction = torch.cat(predictions)  # (B, H, W)

        # Update: running out of memory here ends the run, as some weights may have changed already
        *signal_counts, finite = host_copy.read()
        self.stop_signal = first_signal(signal_counts)
        step = self._step_name()
        advice = "use a smaller model, or an optimizer with less state"
        with out_of_memory_raises(
            TrainingError, f"out of memory in the update of {step}; {advice}"
        ):
            if not finite:
                self.snapshot.restore()
                self._skip_step(describe_bad_loss(total, all_terms, self._names(batch), step))
                return total, None
            self._update()
        return total, prediction

    def _fractions_and_signals(
        self, labels: Tensor, micro_batches: list[slice]
    ) -> tuple[Tensor, Tensor]:
        """Return what all ranks have to know before a step, in one all-reduce.

        Returns:
            The fraction of the batch's valid pixels that each micro-batch has; and for each of
            `SIGNALS` how many ranks have received it.
        """
        valid = (labels != self.config.ignore_index).flatten(1).sum(1)  # (B,)
        pixels = torch.stack([valid[rows].sum() for rows in (slice(None), *micro_batches)])
        signals = pixels.new_tensor([self.stop.received == number for number in SIGNALS])
        signals, pixels = all_reduce_sum(torch.cat([signals, pixels])).split(
            [len(signals), len(pixels)]
        )
        # Without a valid pixel the loss is 0 whatever it is multiplied by.
        return pixels[1:] / pixels[0].clamp_min(1), signals

    def _update(self) -> None:
        """Clip the gradients; step the optimizer, the moving average and the schedule."""
        self.bad_losses.consecutive = 0
        if self.settings.clip_grad_norm is not None:
            self.precision.unscale(self.optimizer)
            trained = [p for group in self.optimizer.param_groups for p in group["params"]]
            self.gradient_norm = nn.utils.clip_grad_norm_(trained, self.settings.clip_grad_norm)
        updated = self.precision.step(self.optimizer)
        self.stats.overflows += not updated
        if self.ema is not None and updated:
            self.ema.update_parameters(self.model)
        self._count_step()

    def _count_step(self) -> None:
        self.step += 1
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()

    def _skip_step(self, message: str) -> None:
        """Go on without a step whose loss is not finite, or end the training."""
        checkpoint = self.bad_losses.respond(message)
        if checkpoint is not None:
            self._roll_back(checkpoint)
        self.stats.bad_steps += 1
        self.optimizer._opt_called = True  # type: ignore[attr-defined]  # else a schedule warns
        self._count_step()

    def _roll_back(self, checkpoint: ResumePoint) -> None:
        """Take the weights of a checkpoint, but go on with the data and the learning rates."""
        now = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        self.load_learned(checkpoint)
        for group, settings in zip(self.optimizer.param_groups, now, strict=True):
            group.update(settings)

    def _step_name(self) -> str:
        return f"epoch {self.epoch + 1}, step {self.step + 1}"

    def _names(self, batch: Batch) -> list[str]:
        """Return the names of a batch's images on all ranks, each of which has to call this."""
        with whole_batch():
            indices = batch_rows(batch.indices).tolist()
        return [self.train_loader.source.samples[index].name for index in indices]

    def train_batch(
        self, images: Tensor, labels: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor | None]:
        """Take a training step; where memory runs out, again with smaller micro-batches.

        Raises:
            TrainingError: See `train_step()`; or if memory is too small for one image.
        """
        while True:
            try:
                return self.train_step(images, labels, batch)
            except Exception as error:
                if isinstance(error, TrainingError) or not is_out_of_memory(error):
                    raise
            # Not in the except block: there the error's traceback holds the step's tensors.
            self.snapshot.restore()
            self.optimizer.zero_grad(set_to_none=True)
            free_unused()
            self.micro_batches.halve(self._step_name())

    def train_epoch(self, epoch: int) -> dict[str, Any]:
        """Train on every image once.

        Returns:
            `loss`, the metrics of `SegmentationMetrics` over the augmented training images,
            `images_per_second` and `data_wait`, the fraction of the time spent waiting for batches.
        """
        self.network.train()
        if not self.batch:
            self.stats.reset()
        steps = len(self.train_loader)
        save_every = self.settings.save_every_steps
        batches = TimedIterator(self.train_loader.epoch(epoch, self.batch))
        with self.progress_bar(epoch) as bar:
            for batch in batches:
                assert isinstance(batch, Batch)
                images, labels = self.prepare_batch(batch)
                loss, prediction = self.train_batch(images, labels, batch)
                self.batch += 1
                if prediction is not None:
                    self.stats.update(loss, prediction, labels)
                self.curves.add_step(self.step, loss)
                size = batch.whole_size or len(images)
                batches.images += size
                # The loss is read from the device only when a line is due.
                bar.update(images=size, detail=functools.partial(loss_text, loss))
                if self.batch == max(1, steps - PREPARED_STEPS) and self.validates(epoch):
                    assert self.val_loader is not None
                    self.val_loader.prepare(VALIDATION_EPOCH)
                if self.step % self.settings.log_per_iter == 0:
                    self.curves.write_steps(epoch)
                    speed = batches.recent_speed()
                    rates = self.learning_rates()
                    self.curves.write_curves(self.step, loss, speed, rates, self.gradient_norm)
                    bar.show(self.stats.summary(loss, speed))
                if self.stop_signal or (save_every is not None and self.step % save_every == 0):
                    self.curves.write_steps(epoch)
                    self.save_last()
                if self.stop_signal:
                    raise Stopped(self.stop_signal)
        self.curves.write_steps(epoch)
        self.stats.merge()
        self.train_loader.merge_bad()
        self.stats.report_skipped()
        self._warn_of_absent_classes("train", self.stats.metrics.confusion)
        return {**self.stats.compute(), **batches.mean_speed()._asdict()}

    def _warn_of_absent_classes(self, split: str, confusion: Tensor) -> None:
        """Name classes without a labelled pixel, once all images of a split have been seen."""
        if split not in self.surveyed:
            self.surveyed.add(split)
            warn_of_absent_classes(
                split, self.train_loader.source.classes, confusion.sum(1).tolist()
            )

    def progress_bar(self, epoch: int) -> Progress:
        """Return what shows the progress of an epoch."""
        return Progress(
            total=len(self.train_loader),
            unit="step",
            label=f"epoch {epoch}/{self.settings.epochs}",
            initial=self.batch,
            leave=False,
        )

    def validate(self, epoch: int) -> dict[str, Any]:
        """Return the metrics of the model, or of its moving average if there is one.

        In 32 bits whatever `amp` says, as predictions will be. A threshold that is searched goes
        into the checkpoint.
        """
        assert self.validator is not None
        network = self.model if self.ema is None else self.ema.module
        try:
            found = self.validator.validate(network, epoch, self.meta.get("threshold"))
        except (Stopped, TrainingError) as error:
            # The epoch is trained. Of several ranks one alone may have run out of memory.
            if isinstance(error, Stopped) or world_size() == 1:
                self.save_last()
            raise
        self._warn_of_absent_classes("val", found.confusion)
        self.meta |= found.threshold
        if found.shown:
            source = self.train_loader.source
            grid = comparison_grid(
                found.shown, source.classes, source.palette, self.config.ignore_index
            )
            self.log.image("val/inputs_targets_predictions", grid, self.step)
        return found.metrics

    def prepare_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return normalised images (B, C, H, W) and labels (B, H, W) int64 on the device."""
        images = batch.images.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True).long()
        return normalize(images, self.mean, self.std), labels

    def learning_rates(self) -> list[float]:
        """Return each group's learning rate in the next step: a checkpoint would go on with it."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def log_epoch(self, training: Mapping[str, Any], validation: Mapping[str, Any]) -> None:
        """Add the metrics of an epoch to the curves, and its row to the table."""
        rates = self.learning_rates()
        self.curves.write_epoch(self.epoch + 1, self.step, training, validation, rates)

    def progress(self) -> dict[str, Any]:
        """Return the totals of the epoch; before it has ended every rank has to call this."""
        return self.stats.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state of the run as plain data and tensors."""
        return {
            **super().state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "losses": self.losses.state_dicts(),
            "scaler": self.precision.state_dict(),
            "part_size": self.micro_batches.size,
            "bad_losses": self.bad_losses.consecutive,
        }

    def load_learned(self, checkpoint: ResumePoint) -> None:
        """Take what training has changed in weights, optimizer, average, losses and scaler."""
        super().load_learned(checkpoint)
        if self.ema is not None:
            if checkpoint.ema is not None:
                self.ema.load_state_dict(checkpoint.ema)
            else:
                logger.warning("the checkpoint has no moving average; it begins at its weights")
                self.ema.module.load_state_dict(self.model.state_dict())
        self.losses.load_state_dicts(checkpoint.losses)
        self.precision.load_state_dict(checkpoint.scaler)

    def load_state_dict(self, checkpoint: ResumePoint, steps_per_epoch: int) -> None:
        """Continue from a checkpoint; see `BaseTrainer.load_state_dict()`."""
        super().load_state_dict(checkpoint, steps_per_epoch)
        if self.batch and not self.stats.load_state_dict(checkpoint.progress or {}, self.batch):
            self.batch = 0
        self.bad_losses.consecutive = checkpoint.bad_losses
        former = value_at(checkpoint.config, "trainer.accumulation_steps", 1)
        if former == self.settings.accumulation_steps:
            size = self.micro_batches.size
            self.micro_batches.size = min(size, checkpoint.micro_batch_size or size)
        self._warn_if_scores_differ(checkpoint.config)

    def _warn_if_scores_differ(self, former: Mapping[str, Any]) -> None:
        """Warn if the best score so far was measured with settings other than the present ones."""
        now = {"threshold": self.config.threshold, "trainer.ema_decay": self.settings.ema_decay}
        for name, new in now.items():
            old = value_at(former, name)
            if old != new and self.best is not None:
                logger.warning(
                    "%s was %s and is %s: the best score so far, %.4f, was measured differently",
                    name, old, new, self.best,
                )  # fmt: skip


def loss_text(loss: Tensor) -> str:
    """Return a loss for a line of progress; wait for the device."""
    return f"loss {loss.item():.3f}"
