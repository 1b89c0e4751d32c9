"""Validation: the loss and the metrics of a model on the validation images."""

import logging
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from base.base_dataloader import BaseDataLoader
from base.base_trainer import Stopped, TrainingError
from base.batches import Batch
from base.weighted_losses import WeightedLosses
from utils.cli.signals import StopSignals
from utils.config.sections import Config
from utils.distributed.collectives import (
    all_reduce_sum,
    any_signal,
    broadcast_buffers,
    is_main,
    world_size,
)
from utils.drawing.visualize import Comparison
from utils.logits.to_labels import predict_labels, probability_of_second
from utils.metrics.confusion import SegmentationMetrics, metrics_of
from utils.metrics.threshold import BestThreshold, ThresholdSearch, search_record
from utils.out_of_memory import none_if_out_of_memory
from utils.progress import track
from utils.samples.normalize import normalize

logger = logging.getLogger(__name__)

VALIDATION_EPOCH = 0  # always the same samples

GRID_IMAGES = 15  # as many rows as the grid of pytorch-segmentation had


class Validation(NamedTuple):
    """What a validation gives."""

    # `val_loss`, the mean over the images; the metrics of `SegmentationMetrics`, at the best
    # threshold where one is searched; and `labelled_classes`.
    metrics: dict[str, Any]
    confusion: Tensor  # (K, K) int64 of all ranks; rows are labels
    # The `threshold` found and `threshold_search`, where it comes from; empty where none is
    # searched.
    threshold: dict[str, Any]
    shown: list[Comparison]  # the first images with label and prediction, on the main rank


class Scores(NamedTuple):
    """The loss and the predictions of some images of a batch."""

    first: int  # the index of the first of them in the batch
    loss: Tensor  # a scalar, the mean over the images times their number
    logits: Tensor  # (B, K, H, W)
    prediction: Tensor  # the classes (B, H, W)
    labels: Tensor  # (B, H, W) int64


class Validator:
    """Scores a network on the validation images, in 32 bits as predictions will be.

    Args:
        loader: Batches by image size.
        losses: The losses of the training.
        mean: (C,) on the device.
        std: (C,) on the device.
        num_classes: K.
        config: The checked config.
        stop: The signals that end the run.
    """

    def __init__(
        self,
        loader: BaseDataLoader,
        losses: WeightedLosses,
        *,
        mean: Tensor,
        std: Tensor,
        num_classes: int,
        config: Config,
        stop: StopSignals,
    ) -> None:
        self.loader = loader
        self.losses = losses
        self.mean = mean
        self.std = std
        self.num_classes = num_classes
        self.ignore_index = config.ignore_index
        self.searches_threshold = config.threshold == "search"
        self.stop = stop
        self.images_per_forward = sys.maxsize  # at once; fewer after memory has run out

    @torch.inference_mode()
    def validate(self, network: nn.Module, epoch: int, threshold: float | None) -> Validation:
        """Score a network.

        Args:
            network: On the device of `mean`; the main rank's buffers are broadcast.
            epoch: The number of the epoch, for messages.
            threshold: The present one of two classes; None predicts the larger logit.

        Raises:
            Stopped: If a signal came to any rank.
            TrainingError: If memory is too small for one image.
        """
        # What is counted
        broadcast_buffers(network)
        network.eval()
        device = self.mean.device
        metrics = SegmentationMetrics(self.num_classes, self.ignore_index, device=device)
        loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        count = 0
        search = None
        if self.searches_threshold:
            search = ThresholdSearch(self.ignore_index, device=device)
        shown: list[Comparison] = []
        signal_number = 0

        # Score every image
        groups = track(
            self.loader.epoch(VALIDATION_EPOCH),
            total=len(self.loader),
            unit="batch",
            label=f"validation of epoch {epoch}",
            leave=False,
            images=count_images,
        )
        for group in groups:
            if signal_number := self.stop.received:
                break
            for batch in group:
                assert isinstance(batch, Batch)
                for scores in self._score(network, batch, epoch, threshold):
                    loss_sum += scores.loss
                    count += len(scores.labels)
                    metrics.update(scores.prediction, scores.labels)
                    if search is not None:
                        search.update(probability_of_second(scores.logits), scores.labels)
                    if len(shown) < GRID_IMAGES and is_main():
                        shown.append(self._comparison(batch, scores))
        # Raise only here: ranks that have finished wait in `any_signal()` for those that stopped.
        if signal_number := any_signal(signal_number):
            raise Stopped(signal_number)

        # Metrics over all ranks
        all_reduce_sum(metrics.counts)
        self.loader.merge_bad()
        sums = all_reduce_sum(torch.stack([loss_sum, loss_sum.new_tensor(count)]))
        results = {
            "val_loss": (sums[0] / sums[1]).item(),
            **metrics.compute(),
            "labelled_classes": metrics.labelled_classes(),
        }

        # The best threshold
        found: dict[str, Any] = {}
        if search is not None:
            all_reduce_sum(search.counts)
            best = search.best("Mean_IoU")
            found = {"threshold": best.threshold, "threshold_search": self._record_of(best)}
            results |= metrics_of(best.confusion)
        return Validation(results, metrics.confusion, found, shown)

    def _score(
        self, network: nn.Module, batch: Batch, epoch: int, threshold: float | None
    ) -> Iterator[Scores]:
        """Yield the scores of a batch, in slices where memory is too small for all of it."""
        first, end = 0, len(batch.images)
        while first < end:
            rows = slice(first, min(first + self.images_per_forward, end))
            scores = none_if_out_of_memory(self._score_rows, network, batch, rows, threshold)
            if scores is None:
                self._halve(batch, rows.stop - first, epoch)
            else:
                yield scores
                first = rows.stop

    def _score_rows(
        self, network: nn.Module, batch: Batch, rows: slice, threshold: float | None
    ) -> Scores:
        images = batch.images[rows].to(self.mean.device, non_blocking=True)
        labels = batch.labels[rows].to(self.mean.device, non_blocking=True).long()
        foreground = None if batch.foreground is None else batch.foreground[rows]
        logits = network(normalize(images, self.mean, self.std))  # (B, K, H, W)
        terms = self.losses.terms(logits, labels, foreground)
        loss = torch.stack(list(terms.values())).sum()
        prediction = predict_labels(logits, threshold)
        return Scores(rows.start, loss * len(images), logits, prediction, labels)

    def _halve(self, batch: Batch, images: int, epoch: int) -> None:
        """Score half as many images at once from now on, as `images` of the batch did not fit."""
        height, width = batch.images.shape[1:3]
        message = f"validation of epoch {epoch}: out of memory for"
        if images == 1:
            raise TrainingError(
                f"{message} one image of {width} x {height}; crop each with "
                "val_loader.args.crop_size, or validate nothing with trainer.val: false; "
                "evaluate.py scores images of every size"
            )
        self.images_per_forward = -(-images // 2)
        logger.warning(
            "%s %d images of %d x %d; from now on %d are validated at a time, as with "
            "val_loader.args.batch_size: %d",
            message, images, width, height, self.images_per_forward, self.images_per_forward,
        )  # fmt: skip

    def _comparison(self, batch: Batch, scores: Scores) -> Comparison:
        """Return the name, image, label and prediction of the first image scored."""
        source = self.loader.source
        return Comparison(
            source.samples[int(batch.indices[scores.first])].name,
            source.preview(batch.images[scores.first].numpy()),
            batch.labels[scores.first].numpy(),
            scores.prediction[0].cpu().numpy(),
        )

    def _record_of(self, best: BestThreshold) -> dict[str, Any]:
        """Return which images the threshold was chosen on, for those who use it."""
        return search_record(
            best,
            "Mean_IoU",
            split="val",
            mode="whole",
            samples=[self.loader.source.samples[i] for i in self.loader.batches.indices.tolist()],
            dataset=type(self.loader.source).__name__,
        )


def count_images(group: Batch | list[Batch]) -> int:
    """Return the images of a group of batches over all ranks, each of which has about as many."""
    assert isinstance(group, list)
    return world_size() * sum(len(batch.images) for batch in group)
