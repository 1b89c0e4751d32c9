"""One training step, one training epoch, one validation epoch."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from base.base_dataloader import BaseDataLoader
from base.base_trainer import BaseTrainer, Stopped, TrainingError
from base.batches import Batch
from base.label_counts import absent_classes
from base.micro_batches import AsyncHostCopy, micro_batches, rank_slice
from utils.activation_checkpointing import recompute_activations
from utils.checkpoint.content import ResumePoint
from utils.checkpoint.last import load_last
from utils.cli.signals import SIGNALS, first_signal
from utils.config.keys import value_at
from utils.config.sections import LossTerm
from utils.distributed.collectives import (
    all_gather_json,
    all_reduce_sum,
    batch_rows,
    broadcast_buffers,
    is_main,
    rank,
    whole_batch,
    world_size,
)
from utils.distributed.sync_batch_norm import dummy_forward
from utils.drawing.visualize import Comparison, comparison_grid
from utils.files.file_notes import FileNote
from utils.logits.coarse_logits import MIN_CLASSES, CoarseLogits, Logits, heads_of
from utils.logits.to_labels import predict_labels, probability_of_second
from utils.metrics.confusion import SCALAR_METRICS, SegmentationMetrics, metrics_of
from utils.metrics.threshold import BestThreshold, ThresholdSearch, search_record
from utils.optim.ema import averaged_copy
from utils.optim.precision import MixedPrecision
from utils.out_of_memory import is_out_of_memory, none_if_out_of_memory
from utils.progress import Progress, track
from utils.random_state import seed_step
from utils.samples.normalize import normalize
from utils.snapshot import StateSnapshot

logger = logging.getLogger(__name__)

T = TypeVar("T")

# What `trainer.monitor` may name, with and without validation.
VALIDATION_METRICS = ("val_loss", *SCALAR_METRICS)
TRAINING_METRICS = ("loss", *SCALAR_METRICS)

VALIDATION_EPOCH = 0  # always the same samples
PREPARED_STEPS = 4  # this many steps before the end of an epoch validation begins to load

MAX_BAD_LOSSES = 10  # in a row

GRID_PICTURES = 15  # as many rows as the ancestor's picture had


class Trainer(BaseTrainer):
    """Trains a model on batches of labelled pictures.

    Args:
        losses: Each loss with its weight in the sum.
        train_loader: Batches of one picture size.
        val_loader: Batches by picture size; None where nothing is validated.
        device: Where the model is.
        n_gpu: How many GPUs this process deals each batch to (`DataParallel`).
        find_unused_parameters: Whether some parameters get no gradient in training; where several
            processes train, they have to know.
        surveyed: The splits, "train" or "val", of which all labels have been looked at; classes
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
        self.losses = [(loss.to(device), term) for loss, term in losses]
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.device = device
        decay = self.settings.ema_decay
        self.ema = None if decay is None else averaged_copy(self.model, decay)
        if self.settings.activation_checkpointing and not recompute_activations(self.model):
            logger.warning("trainer.activation_checkpointing: the model has no blocks")
        self.network: nn.Module = self.model
        # In this context gradients are not exchanged.
        self.no_sync: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        if world_size() > 1:
            self.network = nn.parallel.DistributedDataParallel(
                self.model,
                device_ids=[device] if device.type == "cuda" else None,
                gradient_as_bucket_view=True,
                find_unused_parameters=find_unused_parameters,
            )
            self.no_sync = self.network.no_sync
        elif n_gpu > 1:
            self.network = nn.DataParallel(self.model, list(range(n_gpu)))
        if self.config.compile:
            self.network = cast(nn.Module, torch.compile(self.network))
        self.precision = MixedPrecision(self.config.amp, device)
        self.gradient_norm: Tensor | None = None
        self.overflows = 0  # steps of the epoch that fp16 has left out
        self.left_out = 0  # and those whose loss was not finite
        self.bad_losses = 0  # such steps in a row
        self.undo = StateSnapshot(self.model, [loss for loss, _ in self.losses])
        self.most_scored = sys.maxsize  # pictures at once in validation
        self.part_size = train_loader.batches.batch_size // self.settings.accumulation_steps
        dataset = train_loader.source
        self.mean = torch.tensor(dataset.mean, device=device)
        self.std = torch.tensor(dataset.std, device=device)
        self.palette = dataset.palette
        self.classes = dataset.classes
        # DataParallel could not put coarse logits together.
        self.model.coarse_logits_in_training = (
            n_gpu <= 1
            and len(dataset.classes) >= MIN_CLASSES
            and all(getattr(loss, "takes_coarse_logits", False) for loss, _ in self.losses)
        )
        # Sums over the epoch: of this process, or of all once it has ended.
        self.metrics = SegmentationMetrics(
            len(dataset.classes), self.config.ignore_index, device=device
        )
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.merged = False
        self.surveyed = set(surveyed)
        self.compared = world_size() == 1  # whether all processes have the same losses
        self.stopping = 0  # the signal that all processes have agreed to end with

    def train_step(
        self, images: Tensor, labels: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor | None]:
        """Forward, loss, backward, update.

        The batch goes through the network in `accumulation_steps` parts, each of which counts by
        its share of the pixels that count. Where several processes share the batch, a part is what
        it would be in one process, and so are its loss and its gradient. Where memory runs out, the
        step begins again with smaller parts.

        Args:
            images: (B, C, H, W) normalised, of this process.
            labels: (B, H, W) int64.
            batch: Where they come from.

        Returns:
            The loss, a scalar without graph; and the predicted classes (B, H, W), or None if the
            step was left out because the loss is not finite.

        Raises:
            TrainingError: If the loss is not finite and that is to end the training, or memory does
                not suffice for one picture. The weights are as they were.
        """
        self.undo.remember()
        while (gradient := self._try_gradient(images, labels, batch)) is None:
            self._make_parts_smaller()
        *signals, finite = gradient.answers.read()
        self.stopping = first_signal(signals)
        if finite:
            self.bad_losses = 0
            self._update()
            return gradient.loss, torch.cat(gradient.predictions)
        self.undo.restore()
        self._leave_out(self._describe(gradient, batch))
        return gradient.loss, None

    def _try_gradient(self, images: Tensor, labels: Tensor, batch: Batch) -> Gradient | None:
        """The gradient of a batch; None if memory does not suffice."""
        try:
            return self._gradient(images, labels, batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Only here, when the error is gone, its tensors are.
        return None

    def _gradient(self, images: Tensor, labels: Tensor, batch: Batch) -> Gradient:
        """Forward, loss, backward, part by part."""
        seed_step(self.config.seed, self.step, rank())
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        counted = (labels != self.config.ignore_index).flatten(1).sum(1)
        size = batch.whole_size or len(images)
        parts = [rank_slice(part) for part in micro_batches(size, self.part_size)]
        pixels = torch.stack([counted[part].sum() for part in (slice(None), *parts)])
        signals = pixels.new_tensor([self.stop.received == number for number in SIGNALS])
        # One exchange for both: every process learns of a signal that came before this step.
        signals, pixels = all_reduce_sum(torch.cat([signals, pixels])).split(
            [len(signals), len(pixels)]
        )
        # Without a pixel that counts the loss is 0 whatever it is multiplied by.
        shares = pixels[1:] / pixels[0].clamp_min(1)
        predictions: list[Tensor] = []
        terms: list[dict[str, Tensor]] = []
        for part, share in zip(parts, shares, strict=True):
            inside = None if batch.foreground is None else batch.foreground[part]
            last = len(terms) == len(parts) - 1
            own = images[part]
            exchanged = contextlib.nullcontext() if last else self.no_sync()
            with exchanged, dummy_forward(not len(own)):
                with self.precision.autocast():
                    outputs = self._outputs(own)
                with whole_batch():
                    terms.append(self.loss_terms(outputs, labels[part], inside, learning=True))
                if not self.compared:
                    self._compare_processes(terms[0])
                loss = torch.stack(list(terms[-1].values())).sum()
                total += loss.detach() * share
                if last:  # a GPU still has the backward pass to do while they are on their way
                    answers = AsyncHostCopy(torch.cat([signals, total.isfinite().long().view(1)]))
                # The mean of the processes' gradients, which they exchange, is to be their sum.
                self.precision.backward(loss * share * world_size())
            terms[-1] = {name: value.detach() for name, value in terms[-1].items()}
            logits = outputs[0]
            if isinstance(logits, CoarseLogits):
                predictions.append(logits.argmax())
            else:
                predictions.append(predict_labels(logits.detach()))
        return Gradient(total, predictions, terms, answers)

    def _outputs(self, images: Tensor) -> tuple[Logits, ...]:
        """The network's logits and auxiliary ones, of no picture too."""
        if len(images):
            return heads_of(self.network(images))
        heads = heads_of(self.network(images.new_zeros(1, *images.shape[1:])))
        return tuple(
            logits._replace(values=logits.values[:0])
            if isinstance(logits, CoarseLogits)
            else logits[:0]
            for logits in heads
        )

    def _make_parts_smaller(self) -> None:
        """Let the next try do with half the memory, from where the step began."""
        self.undo.restore()
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        where = f"memory does not suffice in epoch {self.epoch + 1}, step {self.step + 1}"
        if world_size() > 1:
            # The others wait for this one in the middle of the step.
            raise TrainingError(
                f"{where}; use more trainer.accumulation_steps (now "
                f"{self.settings.accumulation_steps}), a smaller crop_size, or amp"
            )
        if self.part_size == 1:
            raise TrainingError(f"{where}, even for one picture; use a smaller crop_size, or amp")
        self.part_size = -(-self.part_size // 2)
        logger.warning(
            "%s: from now on each batch goes through the network in parts of %d; with "
            "trainer.accumulation_steps: %d it does so from the start",
            where,
            self.part_size,
            -(-self.train_loader.batches.batch_size // self.part_size),
        )

    def _describe(self, gradient: Gradient, batch: Batch) -> str:
        """Where a loss is not finite, and what of it."""
        with whole_batch():
            places = batch_rows(batch.indices).tolist()
        names = ", ".join(self.train_loader.source.samples[place].name for place in places)
        values = ", ".join(
            f"{name} = {value.item():g}"
            for terms in gradient.terms
            for name, value in terms.items()
            if not value.isfinite()
        )
        return (
            f"the loss is {gradient.loss.item():g} in epoch {self.epoch + 1}, step {self.step + 1} "
            f"(pictures: {names}; terms: {values})"
        )

    def _leave_out(self, what: str) -> None:
        """Go on without a step whose loss is not finite, or do not."""
        policy = self.settings.on_bad_loss
        self.bad_losses += 1
        if policy == "raise":
            raise TrainingError(f"{what}. A smaller optimizer.args.lr is the usual cure")
        if self.bad_losses == MAX_BAD_LOSSES:
            raise TrainingError(f"{what}, and so it was in the {MAX_BAD_LOSSES - 1} steps before")
        if policy == "rollback":
            step = self._roll_back()
            logger.warning("%s; back to the weights of step %d", what, step)
        else:
            logger.warning("%s; the step is left out", what)
        self.left_out += 1
        self.optimizer._opt_called = True  # type: ignore[attr-defined]  # else a schedule warns
        self._count_step()

    def _roll_back(self) -> int:
        """Take the weights of the last checkpoint, but go on with the data; returns its step."""
        checkpoint = load_last(self.folder.path / "last.pth")
        now = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        self.load_learned(checkpoint)
        for group, settings in zip(self.optimizer.param_groups, now, strict=True):
            group.update(settings)  # the rates of the schedule, which goes on
        return checkpoint.step or 0

    def _compare_processes(self, terms: Mapping[str, Tensor]) -> None:
        """A loss that sums over its own pictures only would train with another gradient."""
        values = torch.stack(list(terms.values())).detach()
        means = all_reduce_sum(values.clone()) / world_size()
        for name, value, mean in zip(terms, values.tolist(), means.tolist(), strict=True):
            if abs(value - mean) > 1e-3 * abs(mean) + 1e-6:
                raise ValueError(
                    f"loss: {name} differs from process to process; form its sums with "
                    "pixel_mean(), class_mean() or utils.distributed.collectives.batch_sum()"
                )
        self.compared = True

    def _update(self) -> None:
        """Let the gradients change the weights."""
        if self.settings.clip_grad_norm is not None:
            self.precision.unscale(self.optimizer)
            trained = [p for group in self.optimizer.param_groups for p in group["params"]]
            self.gradient_norm = nn.utils.clip_grad_norm_(trained, self.settings.clip_grad_norm)
        moved = self.precision.step(self.optimizer)
        self.overflows += not moved
        if self.ema is not None and moved:
            self.ema.update_parameters(self.model)
        self._count_step()

    def _count_step(self) -> None:
        self.step += 1
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()

    def loss_terms(
        self,
        outputs: Logits | tuple[Logits, ...],
        labels: Tensor,
        foreground: Tensor | None = None,
        *,
        learning: bool = False,
    ) -> dict[str, Tensor]:
        """Every weighted term of the loss, by name.

        Args:
            outputs: Logits (B, K, H, W) or coarse ones, or a tuple of those and auxiliary ones.
            labels: (B, H, W) int64.
            foreground: (B, H, W) bool, where the objects are, if the dataset says that.
            learning: Whether the state of a loss that has one may move: with the first output of a
                training step only.
        """
        if foreground is not None:
            foreground = foreground.to(labels.device)
        terms = {}
        for head, logits in enumerate(heads_of(outputs)):
            factor = self.model.aux_weight if head else 1.0
            for place, (loss, term) in enumerate(self.losses):
                name = f"{term.type}{f' {place}' if len(self.losses) > 1 else ''}"
                name += f" (auxiliary {head})" if head else ""
                loss.train(learning and head == 0)
                terms[name] = loss(logits, labels, foreground) * (term.weight * factor)
        return terms

    def train_epoch(self, epoch: int) -> dict[str, Any]:
        """Train on every picture once.

        Returns:
            `loss`, the figures of `SegmentationMetrics` over the augmented training pictures,
            `images_per_second` and `data_wait`, the share of the time spent waiting for batches.
        """
        self.network.train()
        if not self.batch:
            self._forget_epoch()
        every, steps = self.settings.log_per_iter, len(self.train_loader)
        recent: list[tuple[int, Tensor]] = []
        images_done = 0
        prepared = max(1, steps - PREPARED_STEPS)
        batches = _TimedIterator(self.train_loader.epoch(epoch, self.batch))
        started = time.perf_counter()
        last = (started, 0, 0.0)  # time, images and waiting at the last point of the curves
        with self.epoch_progress(epoch) as bar:
            for batch in batches:
                assert isinstance(batch, Batch)
                images, labels = self.to_device(batch)
                loss, prediction = self.train_step(images, labels, batch)
                if prediction is not None:
                    self.metrics.update(prediction, labels)
                    self.loss_sum += loss
                self.batch += 1
                size = batch.whole_size or len(images)
                images_done += size
                if self.batch == prepared and self.validates(epoch):
                    assert self.val_loader is not None
                    self.val_loader.prepare(VALIDATION_EPOCH)
                recent.append((self.step, loss))
                # The loss is read from the device only when a line is due.
                bar.update(images=size, detail=functools.partial(loss_text, loss))
                if self.step % every == 0:
                    self._note(recent, epoch)
                    now = (time.perf_counter(), images_done, batches.waited)
                    seconds, images_since, waited = (a - b for a, b in zip(now, last, strict=True))
                    rate, last = images_since / seconds, now
                    self._log_step(loss.item(), rate, waited / seconds)
                    mean_iou, one_class = (
                        self.metrics.mean_iou(),
                        self.metrics.labelled_classes() == 1,
                    )
                    shown = {
                        "loss": f"{loss.item():.3f}",
                        f"mIoU{' (one class labelled)' * one_class}": f"{mean_iou.item():.3f}",
                        "images/s": f"{rate:.1f}",
                    }
                    bar.show(shown)
                saves = self.settings.save_every_steps
                due = saves is not None and self.step % saves == 0
                if due or self.stopping:
                    self._note(recent, epoch)
                    self.save_last()
                if self.stopping:
                    raise Stopped(self.stopping)
        self._note(recent, epoch)
        if not self.merged:
            all_reduce_sum(self.metrics.counts)
            self.merged = True
        unite_bad(self.train_loader)
        if self.overflows:
            logger.info(
                "fp16: %d of %d steps were left out, as their gradients overflowed; the scale of "
                "the loss goes down until they fit",
                self.overflows,
                steps,
            )
        if self.left_out:
            logger.warning(
                "%d of %d steps were left out, as their loss was not finite", self.left_out, steps
            )
        self._warn_of_absent_classes("train", self.metrics)
        seconds = time.perf_counter() - started
        return {
            "loss": self.loss_sum.item() / (steps - self.left_out or math.nan),
            **self.metrics.compute(),
            "labelled_classes": self.metrics.labelled_classes(),
            "images_per_second": images_done / seconds,
            "data_wait": batches.waited / seconds,
        }

    def _warn_of_absent_classes(self, split: str, metrics: SegmentationMetrics) -> None:
        """Name classes without a labelled pixel, once all images of a split have been seen."""
        if split in self.surveyed:
            return
        self.surveyed.add(split)
        labelled = metrics.confusion.sum(1).tolist()
        absent = [name for name, n in zip(self.classes, labelled, strict=True) if not n]
        text = absent_classes(absent, len(self.classes), split)
        if text:
            logger.warning(text)

    def epoch_progress(self, epoch: int) -> Progress:
        """What shows how far an epoch is."""
        return Progress(
            total=len(self.train_loader),
            unit="step",
            label=f"epoch {epoch}/{self.settings.epochs}",
            initial=self.batch,
            leave=False,
        )

    def _forget_epoch(self) -> None:
        self.metrics.reset()
        self.loss_sum.zero_()
        self.overflows = self.left_out = 0
        self.merged = False

    def progress(self) -> dict[str, Any]:
        """What the epoch has added up so far; before it has ended, all processes have to ask."""
        counts = self.metrics.counts.clone()
        return {
            "counts": (counts if self.merged else all_reduce_sum(counts)).cpu(),
            "loss_sum": self.loss_sum.item(),
            "overflows": self.overflows,
            "left_out": self.left_out,
            "batches": [len(self.train_loader), self.train_loader.batches.batch_size],
        }

    def _take_progress(self, progress: Mapping[str, Any]) -> None:
        self._forget_epoch()
        batches = [len(self.train_loader), self.train_loader.batches.batch_size]
        if progress["batches"] != batches:
            logger.warning("the batches of an epoch have changed: the epoch begins anew")
            self.batch = 0
            return
        self.merged = self.batch == len(self.train_loader)
        if self.merged or is_main():
            self.metrics.counts.copy_(progress["counts"])
        self.loss_sum.fill_(progress["loss_sum"])
        self.overflows = progress["overflows"]
        self.left_out = progress["left_out"]

    @torch.inference_mode()
    def validate(self, epoch: int) -> dict[str, Any]:
        """Score the model on the validation pictures, or its moving average if there is one.

        In 32 bits whatever `amp` says, as predictions will be. Where a threshold is searched, the
        figures are those at the best one, which goes into the checkpoint.

        Returns:
            `val_loss`, the mean over the pictures, and the figures of `SegmentationMetrics`.
        """
        assert self.val_loader is not None
        network = self.model if self.ema is None else self.ema.module
        broadcast_buffers(network)
        network.eval()
        metrics = SegmentationMetrics(
            len(self.classes), self.config.ignore_index, device=self.device
        )
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        count = 0
        search = None
        if self.config.threshold == "search":
            search = ThresholdSearch(self.config.ignore_index, device=self.device)
        shown: list[Comparison] = []
        groups = self.val_loader.epoch(VALIDATION_EPOCH)
        cut_short_by = 0
        tracked = track(
            groups,
            total=len(self.val_loader),
            unit="batch",
            label=f"validation of epoch {epoch}",
            leave=False,
            images=count_images,
        )
        for group in tracked:
            if cut_short_by := self.stop.received:
                break
            for batch in group:
                assert isinstance(batch, Batch)
                for scores in self._score(network, batch):
                    loss_sum += scores.loss
                    count += len(scores.labels)
                    metrics.update(scores.prediction, scores.labels)
                    if search is not None:
                        search.update(probability_of_second(scores.logits), scores.labels)
                    if len(shown) < GRID_PICTURES and is_main():
                        shown.append(self._comparison(batch, scores))
        # Not before: some may have done their share, and wait here for those who were stopped.
        if number := self.signal_of_any(cut_short_by):
            self.save_last()
            raise Stopped(number)
        all_reduce_sum(metrics.counts)
        unite_bad(self.val_loader)
        sums = all_reduce_sum(torch.stack([loss_sum, loss_sum.new_tensor(count)]))
        figures = {
            "val_loss": (sums[0] / sums[1]).item(),
            **metrics.compute(),
            "labelled_classes": metrics.labelled_classes(),
        }
        self._warn_of_absent_classes("val", metrics)
        if search is not None:
            all_reduce_sum(search.counts)
            best = search.best("Mean_IoU")
            self.meta["threshold"] = best.threshold
            self.meta["threshold_search"] = self._record_of(best)
            figures |= metrics_of(best.confusion)
        if shown:
            ignore_index = self.config.ignore_index
            grid = comparison_grid(shown, self.classes, self.palette, ignore_index)
            self.log.image("val/inputs_targets_predictions", grid, self.step)
        return figures

    def _score(self, network: nn.Module, batch: Batch) -> Iterator[Scores]:
        """Loss and prediction of a batch, in parts where memory does not suffice for the whole."""
        first, end = 0, len(batch.images)
        while first < end:
            rows = slice(first, min(first + self.most_scored, end))
            scores = none_if_out_of_memory(self._score_rows, network, batch, rows)
            if scores is None:
                self._score_fewer(batch, rows.stop - first)
            else:
                yield scores
                first = rows.stop

    def _score_rows(self, network: nn.Module, batch: Batch, rows: slice) -> Scores:
        inside = None if batch.foreground is None else batch.foreground[rows]
        part = batch._replace(images=batch.images[rows], labels=batch.labels[rows])
        images, labels = self.to_device(part)
        logits = network(images)
        loss = torch.stack(list(self.loss_terms(logits, labels, inside).values())).sum()
        prediction = predict_labels(logits, self.meta.get("threshold"))
        return Scores(rows.start, loss * len(images), logits, prediction, labels)

    def _score_fewer(self, batch: Batch, pictures: int) -> None:
        """Remember that so many do not fit into memory.

        Raises:
            TrainingError: If that is one.
        """
        height, width = batch.images.shape[1:3]
        where = f"validation of epoch {self.epoch + 1}: memory does not suffice for"
        if pictures == 1:
            if world_size() == 1:
                self.save_last()  # the epoch is trained
            raise TrainingError(
                f"{where} a picture of {width} x {height}; cut out of each what fits with "
                f"val_loader.args.crop_size, or choose by the training with trainer.val: false; "
                "evaluate.py scores pictures of every size"
            )
        self.most_scored = -(-pictures // 2)
        logger.warning(
            "%s %d pictures of %d x %d; from now on %d at a time, as with "
            "val_loader.args.batch_size: %d",
            where, pictures, width, height, self.most_scored, self.most_scored,
        )  # fmt: skip

    def _comparison(self, batch: Batch, scores: Scores) -> Comparison:
        """Image, label and prediction of the first one scored, and its name."""
        assert self.val_loader is not None
        source = self.val_loader.source
        return Comparison(
            source.samples[int(batch.indices[scores.first])].name,
            source.preview(batch.images[scores.first].numpy()),
            batch.labels[scores.first].numpy(),
            scores.prediction[0].cpu().numpy(),
        )

    def _record_of(self, best: BestThreshold) -> dict[str, Any]:
        """On what the threshold was chosen, for those who use it."""
        assert self.val_loader is not None
        loader = self.val_loader
        return search_record(
            best,
            "Mean_IoU",
            split="val",
            mode="whole",
            samples=[loader.source.samples[i] for i in loader.batches.indices.tolist()],
            dataset=type(loader.source).__name__,
        )

    def state_dict(self) -> dict[str, Any]:
        """The whole state of the run as plain data and tensors."""
        return {
            **super().state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "losses": [loss.state_dict() for loss, _ in self.losses],
            "scaler": self.precision.state_dict(),
            "part_size": self.part_size,
            "bad_losses": self.bad_losses,
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
        states = [*checkpoint.losses, *({} for _ in self.losses)]
        for (loss, term), state in zip(self.losses, states, strict=False):
            try:
                loss.load_state_dict(state)
            except RuntimeError:
                if loss.state_dict():
                    logger.warning("the checkpoint is of other losses: %s begins anew", term.type)
        self.precision.load_state_dict(checkpoint.scaler)

    def load_state_dict(self, checkpoint: ResumePoint, steps_per_epoch: int) -> None:
        """Go on where a checkpoint stands; see `BaseTrainer.load_state_dict()`."""
        super().load_state_dict(checkpoint, steps_per_epoch)
        if self.batch:
            self._take_progress(checkpoint.progress or {})
        self.bad_losses = checkpoint.bad_losses
        former = value_at(checkpoint.config, "trainer.accumulation_steps", 1)
        if former == self.settings.accumulation_steps:
            self.part_size = min(self.part_size, checkpoint.micro_batch_size or self.part_size)
        self._compare_yardsticks(checkpoint.config)

    def _compare_yardsticks(self, former: Mapping[str, Any]) -> None:
        """Warn if the best score so far, of a former config, was measured in another way."""
        now = {"threshold": self.config.threshold, "trainer.ema_decay": self.settings.ema_decay}
        for name, new in now.items():
            old = value_at(former, name)
            if old != new and self.best is not None:
                logger.warning(
                    "%s was %s and is %s: the best score so far, %.4f, was measured otherwise",
                    name, old, new, self.best,
                )  # fmt: skip

    def to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Normalised images (B, C, H, W) and labels (B, H, W) int64, on the model's device."""
        images = batch.images.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True).long()
        return normalize(images, self.mean, self.std), labels

    def log_epoch(self, training: Mapping[str, Any], validation: Mapping[str, Any]) -> None:
        """Add the figures of an epoch to the curves, and its row to the table."""
        self.log.metrics(self._row(training, validation))
        for phase, figures in (("train", training), ("val", validation)):
            if figures:
                self.log.scalars(
                    {
                        f"{phase}/loss": figures.get("val_loss"),  # of training after each step
                        f"{phase}/Pixel_Accuracy": figures["Pixel_Accuracy"],
                        f"{phase}/Mean_IoU": figures["Mean_IoU"],
                        **{
                            f"{phase}_Class_IoU/{name}": iou
                            for name, iou in zip(self.classes, figures["Class_IoU"], strict=True)
                        },
                    },
                    self.step,
                )

    def _row(
        self, training: Mapping[str, Any], validation: Mapping[str, Any]
    ) -> dict[str, float | None]:
        """Every metric of an epoch by the name of its column.

        The same columns in every epoch, None where nothing was measured; what no second run gives
        again, as it depends on the machine, is last.
        """
        row: dict[str, float | None] = {
            "epoch": self.epoch + 1,
            "step": self.step,
            "loss": training["loss"],
        }
        row |= {name: validation.get(name) for name in VALIDATION_METRICS}
        row |= {f"train/{name}": training[name] for name in SCALAR_METRICS}
        for prefix, figures in (("", validation), ("train/", training)):
            ious = figures.get("Class_IoU", [None] * len(self.classes))
            pairs = zip(self.classes, ious, strict=True)
            row |= {f"{prefix}IoU/{name}": iou for name, iou in pairs}
        row |= self._rates()
        if not training["images_per_second"]:  # the epoch had ended when the run was resumed
            return {**row, "images_per_second": None, "data_wait": None}
        return {**row, **{name: training[name] for name in ("images_per_second", "data_wait")}}

    def _rates(self) -> dict[str, float]:
        """The learning rate of each group in the next step: what a checkpoint would go on with."""
        groups = enumerate(self.optimizer.param_groups)
        return {f"Learning_rate_{place}": float(group["lr"]) for place, group in groups}

    def _log_step(self, loss: float, rate: float, waiting: float) -> None:
        rates = {f"train/{name}": rate for name, rate in self._rates().items()}
        norm = self.gradient_norm
        self.log.scalars(
            {
                "train/loss": loss,
                "train/images_per_second": rate,
                "train/data_wait": waiting,
                **({} if norm is None else {"train/gradient_norm": norm.item()}),
                **rates,
            },
            self.step,
        )

    def _note(self, recent: list[tuple[int, Tensor]], epoch: int) -> None:
        """Write the losses since the last time down, in one read from the device."""
        if recent:
            values = torch.stack([loss for _, loss in recent]).tolist()
            self.log.steps(epoch, zip([step for step, _ in recent], values, strict=True))
            recent.clear()


class Gradient(NamedTuple):
    """What a step has worked out before the weights change; the gradient itself is in them.

    Attributes:
        loss: A scalar without graph, of the whole batch.
        predictions: The classes (B, H, W) of each part.
        terms: The terms of the loss of each part, without graph.
        answers: Which signals have come, and whether the loss is finite.
    """

    loss: Tensor
    predictions: list[Tensor]
    terms: list[dict[str, Tensor]]
    answers: AsyncHostCopy


class Scores(NamedTuple):
    """What the model says of some pictures of a batch.

    Attributes:
        first: Where the first of them stands in the batch.
        loss: A scalar, the mean over the pictures times their number.
        logits: (B, K, H, W).
        prediction: The classes (B, H, W).
        labels: (B, H, W) int64.
    """

    first: int
    loss: Tensor
    logits: Tensor
    prediction: Tensor
    labels: Tensor


def unite_bad(loader: BaseDataLoader) -> None:
    """Let every process know, and the main one name, what any of them could not use.

    Raises:
        DataError: If together it is too much.
    """
    if loader.skips and world_size() > 1:
        for bad in all_gather_json(list(loader.bad.items())):
            loader.count_bad(bad)
    further = all_gather_json(list(loader.notes)) if world_size() > 1 else []
    loader.say_notes(*(FileNote(*note) for notes in further for note in notes))


def loss_text(loss: Tensor) -> str:
    """A loss for a line of progress; waits for the device."""
    return f"loss {loss.item():.3f}"


def count_images(group: Batch | list[Batch]) -> int:
    """The images of a group of batches, in all processes: each of them has about as many."""
    assert isinstance(group, list)
    return world_size() * sum(len(batch.images) for batch in group)


class _TimedIterator(Iterator[T]):
    """Passes items on and adds up the time spent waiting for them, in seconds."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self.waited = 0.0

    def __next__(self) -> T:
        started = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self.waited += time.perf_counter() - started
