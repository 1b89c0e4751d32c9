"""One pass over a split: from images to metrics."""

import dataclasses
import datetime
import functools
import logging
import platform
import time
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor

from base.batches import Batch
from evaluation.evaluation_run import EvaluationRun
from evaluation.notes import notes_of
from evaluation.result import Evaluation, PredictedImage, Skipped
from evaluation.scores import Scores
from prediction.predictor.network import Predictor, check_finite, out_of_memory_advice
from utils.cli.sanitize import first_line
from utils.distributed.collectives import all_gather_json, world_size
from utils.files.file_notes import FileNote
from utils.logits.to_labels import predict_labels
from utils.out_of_memory import is_out_of_memory, with_cpu_fallback
from utils.progress import Progress

logger = logging.getLogger(__name__)

EPOCH = 0  # always the same samples


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The logits of an image, and its labels."""

    index: int  # the index of the image in the dataset
    logits: Tensor  # (K, H, W), on the device or, if they are large, in the host's memory
    labels: Tensor  # (H, W) integers in 0..K-1, or the ignored one


def evaluate(run: EvaluationRun, command: str = "") -> Evaluation:
    """Score a model on every image of its split; several processes share the images.

    Returns:
        The result, which is the same on every process.

    Raises:
        ValueError: If no image could be scored, or none has a valid pixel.
        DataError: If more than one image, and more than one in twenty, cannot be read.
    """
    date, started = datetime.datetime.now().astimezone(), time.perf_counter()
    scores = Scores(run.data.loader.source, run.num_classes, run.data.ignore_index)
    failed: dict[int, str] = {}
    for prediction in predictions(run, failed):
        count = functools.partial(_count, scores, run.threshold, prediction)
        with_cpu_fallback(count, prediction.logits)

    # All processes have the same counts from here on
    scores.exchange()
    results = scores.results()
    samples = run.data.loader.source.samples
    left_out = sorted({**run.data.loader.bad, **failed}.items())
    return Evaluation(
        checkpoint=run.checkpoint,
        arch=run.arch,
        dataset=run.data.dataset,
        split=run.data.split,
        mode=run.predictor.mode,
        threshold=run.threshold,
        classes=run.meta.classes,
        palette=run.meta.palette[: run.num_classes],
        ignore_index=run.data.ignore_index,
        **results._asdict(),
        skipped=[Skipped(samples[index].name, reason) for index, reason in left_out],
        seconds=time.perf_counter() - started,
        device=_name(run.predictor.device),
        date=date.isoformat(timespec="seconds"),
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
        notes=tuple(notes_of(run, results)),
        command=command,
        run=run.run_name,
        model=run.model,
        data=run.data.folder,
    )


def _count(scores: Scores, threshold: float | None, prediction: Prediction, logits: Tensor) -> None:
    """Count an image; `logits` are those of the prediction, in any memory."""
    ids = predict_labels(logits[None], threshold)[0]
    scores.update(prediction.index, logits.softmax(0), ids.cpu(), prediction.labels)


def predict_image(run: EvaluationRun, index: int) -> PredictedImage:
    """Predict an image again and return it with its label."""
    dataset = run.data.loader.source
    image, label = run.data.loader.samples.pair(index)
    logits = run.predictor.predict_logits(image)
    ids = with_cpu_fallback(lambda kept: predict_labels(kept[None], run.threshold)[0].cpu(), logits)
    return PredictedImage(
        dataset.preview(image), label, ids.numpy(), label.shape[0], label.shape[1]
    )


def predictions(run: EvaluationRun, failed: dict[int, str]) -> Iterator[Prediction]:
    """Yield the logits of every image of this process; `failed` gets the others, and why.

    Raises:
        DataError: If more than one image, and more than one in twenty, cannot be read.
    """
    loader = run.data.loader
    bar = Progress(total=loader.num_samples, unit="image", label=run.data.split)
    with bar, run.predictor.watched_by(bar.inside):
        for group in loader.epoch(EPOCH):
            assert isinstance(group, list)
            for batch in group:
                indices = batch.indices.tolist()
                found = logits_of(run.predictor, batch)
                for index, labels in zip(indices, batch.labels, strict=True):
                    # The other processes are about as far.
                    at_once = min(world_size(), loader.num_samples - bar.done)
                    bar.begin(loader.source.samples[index].name, at_once)
                    logits = next(found)
                    bar.update(at_once)
                    if isinstance(logits, Tensor):
                        yield Prediction(index, logits, labels)
                    else:
                        reason = f"{loader.source.samples[index].image}: {logits}"
                        _count_failed(failed, index, reason)
    notes = run.predictor.notes
    own = [list(loader.bad.items()), list(failed.items()), notes, list(loader.notes)]
    for bad, others, noted, odd in all_gather_json(own):
        loader.count_bad(bad)
        loader.notes.update((FileNote(*note), None) for note in odd)
        for text in noted:
            run.predictor.note(text)
        for index, reason in others:
            _count_failed(failed, index, reason)
    loader.say_notes()


def _count_failed(failed: dict[int, str], index: int, reason: str) -> None:
    if index not in failed:
        failed[index] = reason
        logger.warning("skipped: %s", reason)


def logits_of(predictor: Predictor, batch: Batch) -> Iterator[Tensor | str]:
    """Yield finite logits (K, H, W) of each image, or why there are none."""
    together: Tensor | None = None
    alone = predictor.mode != "whole" or predictor.window is not None
    if not alone and len(batch.images) > 1:
        try:
            # As in validation: the same numbers to the last bit.
            together = predictor.predict_batch(batch.images)
        except (ValueError, RuntimeError):
            together = None  # one by one, so that only those that fail are lost
    for index, image in enumerate(batch.images):
        try:
            one = predictor.predict_logits(image.numpy()) if together is None else together[index]
            check_finite(one)
        except (ValueError, RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                yield out_of_memory_advice(predictor.device)
            else:
                yield first_line(error)
        else:
            yield one


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
