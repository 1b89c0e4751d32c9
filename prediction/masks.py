"""Masks of images: load the model, predict, write, draw over."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prediction.jobs.find_images import ImageFile, first_bands, leave_out_masks
from prediction.jobs.plan import Job
from prediction.load_model import Meta, restore_from
from prediction.predictor.network import Predictor, out_of_memory_advice
from utils.checkpoint.content import read_checkpoint
from utils.cli.launcher import launched_rank
from utils.cli.sanitize import first_line, plain_lines
from utils.devices import resolve_device
from utils.distributed.collectives import all_gather_json, is_main, rank, world_size
from utils.drawing.overlay import draw_overlay
from utils.drawing.palette import save_image, save_mask
from utils.files.file_notes import FileNote, collect_notes, count_notes
from utils.files.image_head import UPRIGHT, ExifRule, read_head, turn_upright
from utils.files.image_io import read_image
from utils.files.raster_io import band_siblings, read_bands
from utils.metrics.threshold import recorded_search
from utils.out_of_memory import is_out_of_memory
from utils.progress import Progress, complain
from utils.runs.last_score import LastScore, last_score


class LoadedModel(NamedTuple):
    """A model that is ready to predict, what belongs to it, and how it was scored last."""

    predictor: Predictor
    meta: Meta
    score: LastScore | None


def load_model(
    path: str, *, mode: str, device: str | None, config: str | None, exif: ExifRule | None
) -> LoadedModel:
    """Load a checkpoint's model for one mode of prediction.

    Raises:
        ValueError: If the checkpoint, the config or the device cannot be used.
    """
    chosen = resolve_device(device)
    checkpoint = read_checkpoint(path)
    try:
        model, meta = restore_from(checkpoint, path, chosen, config)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"--device: the model does not fit into the memory of {chosen}; try cpu"
        ) from None
    if meta.band_rule is None and meta.channels != 3:
        raise ValueError(
            f"{path} is for images of {meta.channels} channels and does not say how they are read"
        )
    searched = recorded_search(checkpoint.meta).get("mode", mode)
    if searched != mode and not launched_rank():
        print(
            f"note: the threshold {meta.threshold:.4g} was chosen in mode {searched}; in mode "
            f"{mode} another may be best",
            file=sys.stderr,
        )
    if exif is not None:
        meta = dataclasses.replace(meta, exif=exif)
    predictor = Predictor(model, meta.mean, meta.std, chosen, mode=mode, threshold=meta.threshold)
    return LoadedModel(predictor, meta, last_score(checkpoint, path))


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


def write_masks(jobs: Sequence[Job], predictor: Predictor, meta: Meta, *, overwrite: bool) -> int:
    """Write the masks; name each image that fails, and return how many failed in all processes.

    Several processes share the jobs. The main one shows its progress, counting the others as far
    as itself, and names their failures at the end.
    """
    failed = []
    bar = Progress(total=len(jobs), unit="image")
    with collect_notes() as file_notes, bar, predictor.watched_by(bar.inside):
        for job in jobs[rank() :: world_size()]:
            at_once = min(world_size(), len(jobs) - bar.done)
            bar.begin(job.image, at_once)
            reason = _attempt(job, predictor, meta, overwrite)
            bar.update(at_once)
            if reason is not None:
                text = f"skipped {job.image}: {reason.removeprefix(f'{job.image}: ')}"
                failed.append(plain_lines(text))
                if is_main():
                    complain(failed[-1])
    return _merge_processes(failed, predictor, file_notes)


def _merge_processes(
    failed: Sequence[str], predictor: Predictor, file_notes: Sequence[FileNote]
) -> int:
    """Say what the other processes have met, and return the number of failures in all."""
    count, merged = 0, []
    found = all_gather_json([failed, predictor.notes, file_notes])
    for number, (messages, notes, of_files) in enumerate(found):
        merged += [FileNote(*note) for note in of_files]
        for note in notes:
            predictor.note(note)
        for message in messages if is_main() and number else ():
            print(message, file=sys.stderr)
        count += len(messages)
    for line in count_notes(merged):
        predictor.note(f"{line}; read anyway")
    return count


def _attempt(job: Job, predictor: Predictor, meta: Meta, overwrite: bool) -> str | None:
    """Write the files of one image; return why that failed, or None."""
    try:
        write_mask(job, predictor, meta, overwrite=overwrite)
    except Exception as error:
        if is_out_of_memory(error):
            return out_of_memory_advice(predictor.device)
        if isinstance(error, (ValueError, RuntimeError, OSError)):
            return first_line(error)
        raise
    return None


def write_mask(job: Job, predictor: Predictor, meta: Meta, *, overwrite: bool) -> None:
    """Write the files of one image that do not exist, or all of them if `overwrite` is on.

    Raises:
        ValueError: If the image cannot be read or predicted.
        OSError: If a file cannot be written.
    """
    image = read_pixels(job.image, meta)
    if meta.exif is None:
        _note_orientation(job.image, predictor)
    ids = predictor.predict(image)
    job.mask.parent.mkdir(parents=True, exist_ok=True)
    if overwrite or not job.mask.exists():
        save_mask(job.mask, ids, meta.palette, overwrite=overwrite)
    if job.overlay is not None and (overwrite or not job.overlay.exists()):
        overlay = draw_overlay(meta.preview(image), ids, meta.classes, meta.palette)
        save_image(job.overlay, overlay, overwrite=overwrite)


def read_pixels(path: Path, meta: Meta) -> np.ndarray:
    """Return an image (H, W, C), read as in training.

    Raises:
        ValueError: If it cannot be read.
    """
    if meta.band_rule is None:
        pixels = read_image(path)
    else:
        paths = band_siblings(path, meta.band_rule.suffixes)
        pixels = read_bands(paths, meta.band_rule, meta.mean)[0]
    return turn_upright(pixels, read_head(path).orientation) if meta.exif == "apply" else pixels


def _note_orientation(path: Path, predictor: Predictor) -> None:
    """Say once that masks have the orientation of the stored pixels, where viewers turn images."""
    text = "its EXIF orientation is not applied"
    if any(text in note for note in predictor.notes):
        return
    orientation = read_head(path).orientation
    if orientation != UPRIGHT:
        predictor.note(
            f"{path}: {text} (orientation {orientation}), nor that of any other image, as in "
            "training: the mask fits the pixels as they are stored, not as a viewer shows the "
            "image; --exif apply turns image and mask upright"
        )
