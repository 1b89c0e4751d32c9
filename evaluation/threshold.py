"""The threshold of two classes: searched on a split, kept in the checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluation.run import predictions
from evaluation.scores import NO_PICTURE
from evaluation.subject import EvaluationRun
from utils.checkpoint.content import read_checkpoint
from utils.checkpoint.last import stamp_of
from utils.checkpoint.save_load import load_checkpoint, save_checkpoint
from utils.distributed.collectives import all_reduce_sum, run_on_main_and_broadcast
from utils.logits.to_labels import probability_of_second
from utils.metrics.threshold import BestThreshold, Figure, ThresholdSearch, search_record
from utils.out_of_memory import with_cpu_fallback
from utils.runs.run_lock import RunLock


def check_searchable(subject: EvaluationRun) -> None:
    """Find out before the work whether a threshold has a meaning and a place.

    Raises:
        ValueError: If it has none.
    """
    path = Path(subject.checkpoint)
    if subject.num_classes != 2:
        raise ValueError(
            f"--find-threshold: is for two classes, and {path} knows {subject.num_classes}"
        )
    if not read_checkpoint(path).meta:
        raise ValueError(
            f"--find-threshold: {path} has no place for it; a checkpoint of this program has "
            "(training with init_from makes one)"
        )
    if not os.access(path.resolve().parent, os.W_OK):
        raise ValueError(f"--find-threshold: {path} cannot be replaced, its folder is read-only")
    run_on_main_and_broadcast(lambda: _check_alone(path.resolve()), ValueError)


def find_threshold(subject: EvaluationRun, figure: Figure) -> BestThreshold:
    """The threshold that is best for a figure over every picture of the split.

    Several processes share the pictures; all find the same.

    Raises:
        ValueError: If no picture can be used, or the labels have one class only.
        DataError: If more than one picture, and more than one in twenty, cannot be read.
    """
    search = ThresholdSearch(subject.data.ignore_index)
    for prediction in predictions(subject, {}):
        probability = with_cpu_fallback(
            lambda logits: probability_of_second(logits[None]).cpu(), prediction.logits
        )
        search.update(probability, prediction.labels[None])
    if not all_reduce_sum(search.counts).any():  # not even an ignored pixel
        raise ValueError(f"--find-threshold: {NO_PICTURE}")
    labelled = search.labelled()
    if not all(labelled):
        counts = [f"{n:,} {name!r}" for n, name in zip(labelled, subject.meta.classes, strict=True)]
        raise ValueError(
            f"--find-threshold: the pixels of {subject.data.split} are labelled "
            f"{' and '.join(counts)}; a threshold needs both, so choose another --split"
        )
    return search.best(figure)


def keep_threshold(subject: EvaluationRun, figure: Figure, best: BestThreshold) -> EvaluationRun:
    """Write a threshold into the checkpoint; nothing else in it changes.

    Returns:
        The subject with this threshold, on every process; the main one writes.

    Raises:
        ValueError: If the file cannot be written; it is as it was then.
    """
    record = search_record(
        best,
        figure,
        samples=subject.samples,
        dataset=subject.data.dataset,
        split=subject.data.split,
        mode=subject.predictor.mode,
    )
    found = {"threshold": best.threshold, "threshold_search": record}
    run_on_main_and_broadcast(
        lambda: _write_meta(Path(subject.checkpoint), found, subject.stamp), ValueError
    )
    return dataclasses.replace(subject, threshold=best.threshold, searched=record)


def _write_meta(path: Path, found: Mapping[str, Any], stamp: tuple[int, ...] | None) -> None:
    target = path.resolve()  # a link stays one
    with _alone_in(target):
        if stamp_of(target) != stamp:
            raise ValueError(
                f"--find-threshold: {path} has been replaced since it was read, so the threshold "
                "is of other weights; start again"
            )
        checkpoint = load_checkpoint(target)
        meta = {**checkpoint["meta"], **found}
        try:
            save_checkpoint({**checkpoint, "meta": meta}, target)
        except OSError as error:
            raise ValueError(f"{target}: cannot be written ({error.strerror})") from None


def _check_alone(target: Path) -> None:
    with _alone_in(target):
        pass


@contextlib.contextmanager
def _alone_in(target: Path) -> Iterator[None]:
    """Keep the run folder that a checkpoint lies in from a training; both would replace the file.

    Raises:
        ValueError: If a training holds the folder; with what to type instead.
    """
    with RunLock() as lock:
        try:
            lock.take(target.parent, only_if_there=True)
        except OSError as error:
            raise ValueError(f"{target}: cannot be written ({error})") from None
        except ValueError as error:
            copy = f"{target.parent.name}_{target.name}"
            raise ValueError(
                f"--find-threshold: {error}, or use a copy: cp {shlex.quote(str(target))} "
                f"{shlex.quote(copy)} && python evaluate.py --model {shlex.quote(copy)} "
                "--find-threshold"
            ) from None
        yield
