"""The threshold of two classes: searched on a split, stored in the checkpoint."""

import contextlib
import dataclasses
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluation.evaluation_run import EvaluationRun
from evaluation.score_split import predictions
from evaluation.scores import NO_IMAGE
from utils.checkpoint.content import read_checkpoint
from utils.checkpoint.last import stamp_of
from utils.checkpoint.save_load import load_checkpoint, save_checkpoint
from utils.distributed.collectives import all_reduce_sum, run_on_main_and_broadcast
from utils.logits.to_labels import probability_of_second
from utils.metrics.threshold import BestThreshold, SearchedMetric, ThresholdSearch, search_record
from utils.out_of_memory import with_cpu_fallback
from utils.runs.run_lock import RunLock


def check_searchable(run: EvaluationRun) -> None:
    """Refuse before the work a model without a threshold, or a file that cannot store one.

    Raises:
        ValueError: If the search cannot be done or kept.
    """
    path = Path(run.checkpoint)
    if run.num_classes != 2:
        raise ValueError(f"--find-threshold is for two classes, and {path} has {run.num_classes}")
    if not read_checkpoint(path).meta:
        raise ValueError(
            f"--find-threshold: {path} cannot store it, only a checkpoint of this program can "
            "(training with init_from makes one)"
        )
    if not os.access(path.resolve().parent, os.W_OK):
        raise ValueError(f"--find-threshold: {path} cannot be replaced: its folder is read-only")
    run_on_main_and_broadcast(lambda: _check_alone(path.resolve()), ValueError)


def find_threshold(run: EvaluationRun, metric: SearchedMetric) -> BestThreshold:
    """Find the threshold that is best for a metric over every image of the split.

    Several processes share the images; all find the same.

    Raises:
        ValueError: If no image can be used, or the labels have one class only.
        DataError: If more than one image, and more than one in twenty, cannot be read.
    """
    search = ThresholdSearch(run.data.ignore_index)
    for prediction in predictions(run, {}):
        probability = with_cpu_fallback(
            lambda logits: probability_of_second(logits[None]).cpu(), prediction.logits
        )
        search.update(probability, prediction.labels[None])
    if not all_reduce_sum(search.counts).any():  # not even ignored pixels
        raise ValueError(f"--find-threshold: {NO_IMAGE}")
    labelled = search.labelled()
    if not all(labelled):
        counts = [f"{n:,} {name!r}" for n, name in zip(labelled, run.meta.classes, strict=True)]
        raise ValueError(
            f"--find-threshold: the pixels of {run.data.split} are labelled "
            f"{' and '.join(counts)}; a threshold needs both, so choose another --split"
        )
    return search.best(metric)


def keep_threshold(
    run: EvaluationRun, metric: SearchedMetric, best: BestThreshold
) -> EvaluationRun:
    """Write a threshold, and nothing else, into the checkpoint; return the run with it everywhere.

    Raises:
        ValueError: If the file cannot be written; it then stays as it was.
    """
    record = search_record(
        best,
        metric,
        samples=run.samples,
        dataset=run.data.dataset,
        split=run.data.split,
        mode=run.predictor.mode,
    )
    found = {"threshold": best.threshold, "threshold_search": record}
    run_on_main_and_broadcast(
        lambda: _write_meta(Path(run.checkpoint), found, run.stamp), ValueError
    )
    return dataclasses.replace(run, threshold=best.threshold, searched=record)


def _write_meta(path: Path, found: Mapping[str, Any], stamp: tuple[int, ...] | None) -> None:
    target = path.resolve()  # a link stays one
    with _alone_in(target):
        if stamp_of(target) != stamp:
            raise ValueError(
                f"--find-threshold: {path} has been replaced since it was read, so the threshold "
                "is for other weights; start again"
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
    """Lock the run folder of a checkpoint, because a training there replaces the file, too.

    Raises:
        ValueError: If a training has locked the folder; with the command to type instead.
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
