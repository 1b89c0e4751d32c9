"""The notes that accompany the metrics wherever they are shown."""

from collections.abc import Iterator

from base.compatibility import ignored_class
from base.label_counts import absent_classes
from evaluation.evaluation_run import EvaluationRun
from evaluation.scores import Results
from evaluation.table import OVERALL
from prediction.predictor.network import IN_WINDOWS
from utils.metrics.threshold import digest_of

FEW = 10  # images


def notes_of(run: EvaluationRun, results: Results) -> Iterator[str]:
    """Yield every note on the metrics."""
    yield from _optimistic(run)
    yield from _other_mode(run)
    yield from _left_out(run)
    yield from _unlabelled(run, results)
    yield from _uncertain(results)


def _optimistic(run: EvaluationRun) -> Iterator[str]:
    """Yield what was learnt or chosen on the images that are scored."""
    split = run.data.split
    was = "was" if run.as_trained else "may have been"
    so = "so its metrics are optimistic; report those of another split."
    if split == "train":
        yield f"The model {was} trained on these images, {so}"
    if split == "val" and run.monitored:
        yield f"The best epoch {was} chosen on these images, {so}"
    if run.searched.get("pictures") == digest_of(run.samples):
        yield f"The threshold {run.threshold:.4g} was chosen on these images, {so}"


def _other_mode(run: EvaluationRun) -> Iterator[str]:
    """Yield in which way the predictions differ from the training's or the threshold's."""
    mode = run.predictor.mode
    if mode != "whole":
        yield f"Predicted in mode {mode}; the metrics of the training are of mode whole."
    if run.predictor.window is not None:
        size = run.predictor.window.size
        yield f"Images larger than {size} pixels were predicted in windows of {size}, blended."
    if precision := run.predictor.views.precision.name:
        yield f"Predicted in {precision}; the metrics of the training are of 32 bits."
    if any(note.startswith(IN_WINDOWS) for note in run.predictor.notes):
        yield (
            "Memory was too small for some images as a whole. They were predicted in overlapping "
            f"windows, so their metrics are not quite those of mode {mode}."
        )
    searched = run.searched.get("mode", mode)
    if searched != mode:
        yield (
            f"The threshold {run.threshold:.4g} was chosen in mode {searched}; in mode {mode} "
            "another may be best."
        )


def _left_out(run: EvaluationRun) -> Iterator[str]:
    """Yield what could be scored and is not."""
    dataset = run.data.loader.source
    ignored = ignored_class(dataset.classes, run.data.ignore_index)
    if ignored is not None:
        yield ignored
    if dataset.problems:
        many = dataset.lost != 1
        yield (
            f"{dataset.lost} image{'s' * many} that lists or folders name "
            f"{'are' if many else 'is'} missing or incomplete."
        )


def _unlabelled(run: EvaluationRun, results: Results) -> Iterator[str]:
    """Yield the classes without a labelled pixel, whose IoU is 0 or none for any model."""
    labelled = results.confusion.sum(1).tolist()
    absent = [name for name, n in zip(run.meta.classes, labelled, strict=True) if not n]
    text = absent_classes(absent, len(labelled), run.data.split)
    if text:
        yield f"{text}."
    if len(absent) == len(labelled) - 1:
        yield "Only one class is labelled, so a mean over classes has little meaning."


def _uncertain(results: Results) -> Iterator[str]:
    """Yield which intervals are missing or too narrow."""
    count = sum(image.labelled > 0 for image in results.images)
    if count == 1:
        yield "Only one image has labelled pixels, so there are no 95 % intervals."
        return
    if count < FEW:
        yield f"Only {count} images have labelled pixels: the 95 % intervals are too narrow."
    names = dict(OVERALL)
    missing = [names[key] for key, interval in results.intervals.items() if interval is None]
    pairs = zip(results.metrics["Class_IoU"], results.intervals["Class_IoU"], strict=True)
    classes = sum(iou is not None and interval is None for iou, interval in pairs)
    if classes:
        missing.append(f"the IoU of {classes} class{'es' * (classes > 1)}")
    if missing:
        yield (
            f"No 95 % interval for {', '.join(missing)}: other choices of these images all score "
            "the same, or nearly all on one side of the metric, because they lose classes that few "
            "images have."
        )
