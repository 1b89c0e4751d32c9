"""One pass over a split: from pictures to figures."""

from __future__ import annotations

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
from evaluation.notes import notes_of
from evaluation.result import Evaluation, PredictedImage, Skipped
from evaluation.scores import Scores
from evaluation.subject import EvaluationRun
from prediction.predictor import Predictor, check_finite, out_of_memory_advice
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
    """What the model says of a picture, and what is right.

    Args:
        index: The picture's place in the dataset.
        logits: (K, H, W), on the device or, if they are large, in the machine's memory.
        labels: (H, W) integers in 0..K-1, or the ignored one.
    """

    index: int
    logits: Tensor
    labels: Tensor


def evaluate(subject: EvaluationRun, command: str = "") -> Evaluation:
    """Score a model on every picture of its split; several processes share the pictures.

    Args:
        subject: The model and the pictures.
        command: What was typed.

    Returns:
        The same on every process.

    Raises:
        ValueError: If no picture could be scored, or none has a pixel that counts.
        DataError: If more than one picture, and more than one in twenty, cannot be read.
    """
    date, started = datetime.datetime.now().astimezone(), time.perf_counter()
    scores = Scores(subject.data.loader.source, subject.num_classes, subject.data.ignore_index)
    failed: dict[int, str] = {}
    for prediction in predictions(subject, failed):
        count = functools.partial(_count, scores, subject.threshold, prediction)
        with_cpu_fallback(count, prediction.logits)
    scores.exchange()
    results = scores.results()
    samples = subject.data.loader.source.samples
    left_out = sorted({**subject.data.loader.bad, **failed}.items())
    return Evaluation(
        checkpoint=subject.checkpoint,
        arch=subject.arch,
        dataset=subject.data.dataset,
        split=subject.data.split,
        mode=subject.predictor.mode,
        threshold=subject.threshold,
        classes=subject.meta.classes,
        palette=subject.meta.palette[: subject.num_classes],
        ignore_index=subject.data.ignore_index,
        **results._asdict(),
        skipped=[Skipped(samples[index].name, reason) for index, reason in left_out],
        seconds=time.perf_counter() - started,
        device=_name(subject.predictor.device),
        date=date.isoformat(timespec="seconds"),
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
        notes=tuple(notes_of(subject, results)),
        command=command,
        run=subject.run,
        model=subject.model,
        data=subject.data.folder,
    )


def _count(scores: Scores, threshold: float | None, prediction: Prediction, logits: Tensor) -> None:
    """Count a picture; `logits` are the prediction's, in any memory."""
    ids = predict_labels(logits[None], threshold)[0]
    scores.update(prediction.index, logits.softmax(0), ids.cpu(), prediction.labels)


def look_at(subject: EvaluationRun, index: int) -> PredictedImage:
    """A picture with its label and what the model says, predicted anew."""
    dataset = subject.data.loader.source
    image, label = subject.data.loader.samples.pair(index)
    logits = subject.predictor.predict_logits(image)
    ids = with_cpu_fallback(
        lambda part: predict_labels(part[None], subject.threshold)[0].cpu(), logits
    )
    return PredictedImage(
        dataset.preview(image), label, ids.numpy(), label.shape[0], label.shape[1]
    )


def predictions(subject: EvaluationRun, failed: dict[int, str]) -> Iterator[Prediction]:
    """The model's logits for every picture of this process, with `Progress`.

    Args:
        subject: The model and the pictures.
        failed: Gets the places of pictures that the model could not take, and why; at the end those
            of all processes.

    Raises:
        DataError: If more than one picture, and more than one in twenty, cannot be read.
    """
    loader = subject.data.loader
    bar = Progress(total=loader.num_samples, unit="image", label=subject.data.split)
    with bar, subject.predictor.watched_by(bar.inside):
        for group in loader.epoch(EPOCH):
            assert isinstance(group, list)
            for batch in group:
                places = batch.indices.tolist()
                found = logits_of(subject.predictor, batch)
                for index, labels in zip(places, batch.labels, strict=True):
                    # The others are as far, more or less.
                    at_once = min(world_size(), loader.num_samples - bar.done)
                    bar.begin(loader.source.samples[index].name, at_once)
                    logits = next(found)
                    bar.update(at_once)
                    if isinstance(logits, Tensor):
                        yield Prediction(index, logits, labels)
                    else:
                        reason = f"{loader.source.samples[index].image}: {logits}"
                        _count_failed(failed, index, reason)
    notes = subject.predictor.notes
    own = [list(loader.bad.items()), list(failed.items()), notes, list(loader.notes)]
    for bad, others, noted, odd in all_gather_json(own):
        loader.count_bad(bad)
        loader.notes.update((FileNote(*note), None) for note in odd)
        for text in noted:
            subject.predictor.note(text)
        for index, reason in others:
            _count_failed(failed, index, reason)
    loader.say_notes()


def _count_failed(failed: dict[int, str], index: int, reason: str) -> None:
    if index not in failed:
        failed[index] = reason
        logger.warning("skipped: %s", reason)


def logits_of(predictor: Predictor, batch: Batch) -> Iterator[Tensor | str]:
    """Finite logits (K, H, W) of each picture, or why there are none."""
    together: Tensor | None = None
    if predictor.mode == "whole" and len(batch.images) > 1:
        try:
            # As validation does it: the same numbers to the last bit.
            together = predictor.predict_batch(batch.images)
        except (ValueError, RuntimeError):
            together = None  # one by one, so that only those are lost that fail
    for place, image in enumerate(batch.images):
        try:
            one = predictor.predict_logits(image.numpy()) if together is None else together[place]
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
