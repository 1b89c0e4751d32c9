"""The images of a run: predicted, written, counted, and named where they fail."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from prediction.fields import LabelRule
from prediction.jobs.download import local_file
from prediction.jobs.find_images import first_bands, leave_out_masks
from prediction.jobs.image_file import ImageFile
from prediction.jobs.plan import is_done
from prediction.load_model import Meta
from prediction.open_model import OpenedModel
from prediction.outputs import Outputs, RunProducts
from prediction.pipeline import Done, Names, Pipeline, Task
from prediction.predictor.memory import MemoryBudget
from prediction.predictor.network import Predictor, out_of_memory_advice
from prediction.products.rows import ImageFacts, Product
from prediction.record import Recorder
from prediction.source.image_source import ImageSource, PixelRule
from prediction.source.open_image import Limits, open_image, open_map
from utils.cli.sanitize import first_line, plain_lines
from utils.distributed.collectives import all_gather_json, is_main, world_size
from utils.files.file_notes import FileNote, collect_notes, count_notes
from utils.files.geo_file import read_georeference
from utils.files.image_head import UPRIGHT, read_head
from utils.files.output_files import refuse_full_disk
from utils.out_of_memory import is_out_of_memory
from utils.progress import Progress, complain

# What is said once, of the first image that it is true of.
_NOT_TURNED = "its EXIF orientation is not applied"
_NOT_PLACED = "which its products do not have"
_ONCE = (_NOT_TURNED, _NOT_PLACED)


class Speed(NamedTuple):
    """How the work is spread."""

    workers: int = 2  # threads that read, and threads that write
    batch_size: int = 1
    large: bool = False  # whether large claims are believed


class ImageRun:
    """Predicts images with one model.

    Args:
        opened: The model.
        outputs: What is written.
        budget: What may be in memory.
        of_run: The products of the whole run.
        unsure: The confidence below which ids are the ignored one; None for none.
        speed: How the work is spread.
        replace: Whether files that exist are replaced.
        opener: Opens an image that is no file; None for files.
    """

    def __init__(
        self,
        opened: OpenedModel,
        outputs: Outputs,
        budget: MemoryBudget,
        *,
        of_run: RunProducts,
        unsure: float | None = None,
        speed: Speed | None = None,
        replace: bool = False,
        opener: Callable[[ImageFile], ImageSource] | None = None,
    ) -> None:
        self.predictor, self.meta = opened.predictor, opened.meta
        self.outputs, self.rule = outputs, pixel_rule(opened.meta)
        self.of_run, self._replace, self._opener = of_run, replace, opener
        speed = speed or Speed()
        self._pipeline = Pipeline(
            self.predictor,
            label_rule(self.meta, unsure),
            names_of(self.meta),
            budget,
            needs=outputs.needs,
            workers=speed.workers,
            batch_size=speed.batch_size,
            folder=outputs.folder,
            large=speed.large,
        )

    def run(
        self, images: Iterable[ImageFile], began: Callable[[ImageFile], None] = lambda image: None
    ) -> Iterator[Done[ImageFile]]:
        """Yield what has become of each image, in order; see `Pipeline.run()`."""
        with contextlib.ExitStack() as copies:
            tasks = (self._task(image, copies) for image in images)
            yield from self._pipeline.run(tasks, began)

    def _task(self, image: ImageFile, copies: contextlib.ExitStack) -> Task[ImageFile]:
        def open_source(limits: Limits) -> ImageSource:
            if self._opener is not None:
                return self._opener(image)
            # A download is removed when the run ends, since large images are read until then.
            path = copies.enter_context(local_file(image))
            if self.meta.exif is None:
                note_orientation(path, self.predictor)
            return (open_image if geo is None else open_map)(path, self.rule, limits)

        def open_products(facts: ImageFacts) -> list[Product]:
            wanted = self.of_run.opened
            products = self.outputs.open(image, facts, wanted, replace=self._replace)
            if not products:  # another run was quicker
                raise FileExistsError(f"{image.name} has all of its products")
            return products

        geo = read_georeference(image.path) if self.outputs.is_geo(image) else None
        if geo is None and (lost := self.outputs.lost_placement(image)):
            # Once: the other images are placed so too.
            text = f"{image.file}: is placed by {lost}, {_NOT_PLACED}"
            self.predictor.note(text, _NOT_PLACED)
        return Task(image, image.path, image.relative, open_source, open_products, geo)


def pixel_rule(meta: Meta) -> PixelRule:
    """Return how a model's images are read."""
    return PixelRule(meta.mean, meta.band_rule, meta.exif)


def label_rule(meta: Meta, unsure: float | None = None) -> LabelRule:
    """Return how a model's logits become ids."""
    return LabelRule(len(meta.classes), meta.threshold, unsure, meta.ignore_index)


def names_of(meta: Meta) -> Names:
    """Return the meaning of a model's ids."""
    return Names(meta.classes, meta.palette[: len(meta.classes)], meta.preview)


def images_for(
    meta: Meta, images: Sequence[ImageFile], sources: Sequence[str]
) -> Sequence[ImageFile]:
    """Return the images that a model predicts: no masks of its training, one file for each image.

    Raises:
        ValueError: If none is left.
    """
    images = leave_out_masks(images, meta.mask_prefix, meta.mask_suffix, sources)
    if meta.band_rule is not None and meta.band_rule.suffixes:
        return first_bands(images, meta.band_rule.suffixes[0])
    return images


class Counts(NamedTuple):
    """What has become of images, in all processes."""

    failed: int
    kept: int  # which a manifest knows to be done, or another run has made meanwhile


def predict_all(
    run: ImageRun,
    images: Iterable[ImageFile],
    total: int | None,
    recorder: Recorder | None = None,
    finished: Callable[[Done[ImageFile]], None] | None = None,
    unit: str = "image",
) -> Counts:
    """Predict images, and name each that fails.

    Several processes share the images, of which this one's are given. The main one shows its
    progress, counting the others as far as itself, and names their failures at the end.

    Args:
        run: Predicts them.
        images: The images of this process, perhaps as they arrive.
        total: How many images there are in all processes; None if that is not known.
        recorder: Says what is done already, and is told of the others.
        finished: Called after each image.
        unit: What an image is called.

    Raises:
        FullDiskError: If the disk is full: all other images would fail too.
    """
    failed: list[str] = []
    made_by_others = 0
    predictor = run.predictor
    bar = Progress(total=total, unit=unit)

    def end(done: Done[ImageFile]) -> None:
        nonlocal made_by_others
        bar.update(_at_once(bar, total))
        if isinstance(done.error, FileExistsError) and is_done(run.outputs.paths(done.job)):
            made_by_others += 1  # another run with the same output folder was quicker
        elif done.error is not None:
            reason = reason_of_failure(done.error, done.job.file, predictor)
            run.of_run.failed(done.job, reason)
            failed.append(plain_lines(f"skipped {done.job.file}: {reason}"))
            if is_main():
                complain(failed[-1])
        if finished is not None:
            finished(done)

    pending = images if recorder is None else recorder.to_do(images, end)
    with collect_notes() as file_notes, bar, predictor.watched_by(bar.inside):
        for done in run.run(pending, lambda image: bar.begin(image.file, _at_once(bar, total))):
            if recorder is not None:
                recorder.finished(done)
            end(done)
    kept = made_by_others + (0 if recorder is None else recorder.kept)
    return _merge_processes(failed, kept, predictor, file_notes)


def _at_once(bar: Progress, total: int | None) -> int:
    """Return how many images the processes are done with when this one is with one."""
    return 1 if total is None else min(world_size(), total - bar.done)


def reason_of_failure(error: BaseException, file: str, predictor: Predictor) -> str:
    """Return why an image failed, without its name; raise what is no fault of the image.

    Raises:
        FullDiskError: If the disk is full.
    """
    if is_out_of_memory(error):
        reason = out_of_memory_advice(predictor.device)
    elif isinstance(error, (ValueError, RuntimeError, OSError)):
        reason = first_line(error)
    else:
        raise error
    if isinstance(error, OSError):
        refuse_full_disk(error)
    return reason.removeprefix(f"{file}: ")


def _merge_processes(
    failed: Sequence[str], kept: int, predictor: Predictor, file_notes: Sequence[FileNote]
) -> Counts:
    """Say what the other processes have met, and return the counts of all."""
    count, kept_in_all, merged = 0, 0, []
    found = all_gather_json([failed, predictor.notes, file_notes, kept])
    for number, (messages, notes, of_files, others) in enumerate(found):
        kept_in_all += others
        merged += [FileNote(*note) for note in of_files]
        for note in notes:
            predictor.note(note, next((text for text in _ONCE if text in note), None))
        for message in messages if is_main() and number else ():
            print(message, file=sys.stderr)
        count += len(messages)
    for line in count_notes(merged):
        predictor.note(f"{line}; read anyway")
    return Counts(count, kept_in_all)


def note_orientation(path: Path, predictor: Predictor) -> None:
    """Say once that masks have the orientation of the stored pixels, where viewers turn images."""
    orientation = read_head(path).orientation
    if orientation != UPRIGHT:
        predictor.note(
            f"{path}: {_NOT_TURNED} (orientation {orientation}), nor that of any other image, as "
            "in training: the mask fits the pixels as they are stored, not as a viewer shows the "
            "image; --exif apply turns image and mask upright",
            _NOT_TURNED,
        )
