"""What has to be said wherever the figures are shown."""

from __future__ import annotations

from collections.abc import Iterator

from base.compatibility import ignored_class
from base.label_counts import absent_classes
from evaluation.scores import Results
from evaluation.subject import EvaluationRun
from evaluation.table import OVERALL
from prediction.predictor import IN_TILES
from utils.metrics.threshold import digest_of

FEW = 10  # pictures


def notes_of(subject: EvaluationRun, results: Results) -> Iterator[str]:
    """Every sentence that belongs to the figures."""
    yield from _optimistic(subject)
    yield from _other_mode(subject)
    yield from _left_out(subject)
    yield from _unlabelled(subject, results)
    yield from _uncertain(results)


def _optimistic(subject: EvaluationRun) -> Iterator[str]:
    """What was learnt or chosen on the very pictures that are scored."""
    split = subject.data.split
    was = "was" if subject.as_trained else "may have been"
    so = "so its figures are optimistic; report those of another split."
    if split == "train":
        yield f"The model {was} trained on these pictures, {so}"
    if split == "val" and subject.monitored:
        yield f"The best epoch {was} chosen on these pictures, {so}"
    if subject.searched.get("pictures") == digest_of(subject.samples):
        yield f"The threshold {subject.threshold:.4g} was chosen on these pictures, {so}"


def _other_mode(subject: EvaluationRun) -> Iterator[str]:
    """Where the figures are not those of the training or of the threshold's search."""
    mode = subject.predictor.mode
    if mode != "whole":
        yield f"Predicted in mode {mode}; the figures of the training are of mode whole."
    if IN_TILES in subject.predictor.notes:
        yield (
            "Memory was too small for some pictures as a whole. They were predicted in overlapping "
            f"tiles, so their figures are not quite those of mode {mode}."
        )
    searched = subject.searched.get("mode", mode)
    if searched != mode:
        yield (
            f"The threshold {subject.threshold:.4g} was chosen in mode {searched}; in mode {mode} "
            "another may be best."
        )


def _left_out(subject: EvaluationRun) -> Iterator[str]:
    """What could count and does not."""
    dataset = subject.data.loader.source
    ignored = ignored_class(dataset.classes, subject.data.ignore_index)
    if ignored is not None:
        yield ignored
    if dataset.problems:
        many = dataset.lost != 1
        yield (
            f"{dataset.lost} picture{'s' * many} that lists or folders name "
            f"{'are' if many else 'is'} not there or incomplete."
        )


def _unlabelled(subject: EvaluationRun, results: Results) -> Iterator[str]:
    """Name classes without a labelled pixel: their IoU is 0 or missing, whatever the model does."""
    labelled = results.confusion.sum(1).tolist()
    absent = [name for name, n in zip(subject.meta.classes, labelled, strict=True) if not n]
    text = absent_classes(absent, len(labelled), subject.data.split)
    if text:
        yield f"{text}."
    if len(absent) == len(labelled) - 1:
        yield "One class alone is labelled, so that every mean over classes says next to nothing."


def _uncertain(results: Results) -> Iterator[str]:
    """Intervals that are missing or too narrow."""
    count = sum(image.labelled > 0 for image in results.images)
    if count == 1:
        yield "Only one picture counts, so there are no 95 % intervals."
        return
    if count < FEW:
        yield f"Only {count} pictures count: the 95 % intervals are too narrow."
    names = dict(OVERALL)
    missing = [names[key] for key, interval in results.intervals.items() if interval is None]
    pairs = zip(results.figures["Class_IoU"], results.intervals["Class_IoU"], strict=True)
    classes = sum(iou is not None and interval is None for iou, interval in pairs)
    if classes:
        missing.append(f"the IoU of {classes} class{'es' * (classes > 1)}")
    if missing:
        yield (
            f"No 95 % interval for {', '.join(missing)}: other choices of these pictures score all "
            "the same, or nearly all to one side of the figure, as they lose classes that few "
            "pictures have."
        )
