"""The threshold of two classes: searched on a split, kept in the checkpoint."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from evaluation.run import predictions
from evaluation.subject import Subject
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.decision import probability_of_second
from utils.threshold import BestThreshold, Figure, ThresholdSearch


def check_searchable(subject: Subject) -> None:
    """Find out before the work whether a threshold has a meaning and a place.

    Raises:
        ValueError: If it has none.
    """
    path = Path(subject.checkpoint)
    if subject.num_classes != 2:
        raise ValueError(
            f"--find-threshold: is for two classes, and {path} knows {subject.num_classes}"
        )
    if load_checkpoint(path).get("meta") is None:
        raise ValueError(
            f"--find-threshold: {path} has no place for it; a checkpoint of this program has "
            "(training with init_from makes one)"
        )
    if not os.access(path.resolve().parent, os.W_OK):
        raise ValueError(f"--find-threshold: {path} cannot be replaced, its folder is read-only")


def find_threshold(subject: Subject, figure: Figure) -> BestThreshold:
    """The threshold that is best for a figure over every picture of the split.

    Raises:
        ValueError: If no pixel is labelled.
        DataError: If more than one picture in twenty cannot be read.
    """
    search = ThresholdSearch(subject.data.ignore_index)
    for prediction in predictions(subject, {}):
        probability = probability_of_second(prediction.logits[None])
        search.update(probability.cpu(), prediction.labels[None])
    best = search.best(figure)
    if best.score != best.score:
        raise ValueError("--find-threshold: no picture has a labelled pixel, so none is best")
    return best


def keep_threshold(subject: Subject, figure: Figure, best: BestThreshold) -> Subject:
    """Write a threshold into the checkpoint; nothing else in it changes.

    Returns:
        The subject with this threshold.

    Raises:
        ValueError: If the file cannot be written; it is as it was then.
    """
    target = Path(subject.checkpoint).resolve()  # a link stays one
    checkpoint = load_checkpoint(target)
    checkpoint["meta"] = {
        **checkpoint["meta"],
        "threshold": best.threshold,
        "threshold_search": {
            "split": subject.data.split,
            "dataset": subject.data.dataset,
            "mode": subject.predictor.mode,
            "figure": figure,
            "score": best.score,
            "score_at_half": best.score_at_half,
        },
    }
    try:
        save_checkpoint(checkpoint, target)
    except OSError as error:
        raise ValueError(f"{target}: cannot be written ({error.strerror})") from None
    return dataclasses.replace(
        subject,
        threshold=best.threshold,
        searched_on=subject.data.split,
    )
