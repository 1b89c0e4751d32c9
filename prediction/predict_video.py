"""The run of inference.py over a video file."""

import argparse
import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from prediction.frames import FrameOutputs, Frames
from prediction.jobs.plan import make_output_folder
from prediction.open_model import OpenedModel
from prediction.predict_files import Outcome, load
from prediction.predict_frames import (
    Sheets,
    Tally,
    frame_outputs,
    predict_frames,
    refuse_other_images,
)
from prediction.products.video_file import BackgroundVideo, VideoFile
from prediction.provenance import Provenance, endings_of
from prediction.source.frame import Frame
from prediction.source.read_ahead import ReadAhead
from prediction.source.video import Video
from utils.cli.launcher import refuse_several
from utils.cli.sanitize import first_line
from utils.files.output_files import refuse_full_disk
from utils.progress import complain

AHEAD = 2  # frames that are decoded before they are wanted


def predict_video(models: Sequence[str], arguments: argparse.Namespace) -> Outcome:
    """Predict the frames of a video, into one video with their overlays and into files of each.

    Raises:
        ValueError: If the video, the model or a product cannot be used.
    """
    refuse_several()
    path = Path(arguments.images[0])
    target = Path(arguments.output) / f"{path.stem}_overlay.mp4"
    is_there = os.path.lexists(target) and not arguments.overwrite
    if is_there and arguments.save == "overlay":
        return Outcome(kept=1, text=f"{target} kept as it was (--overwrite replaces it)")
    with Video(path, arguments.every) as video:
        opened = load(models, arguments)
        refuse_other_images(opened.meta, str(path))
        _note_oddities(video, opened)
        outputs = frame_outputs(arguments, opened.meta, Frames(str(path), path.stem))
        outputs = dataclasses.replace(outputs, shows=outputs.has_video and not is_there)
        _check_provenance(models, arguments, outputs, target, path.stem)
        tally = _predict(models, opened, outputs, video, target, arguments)
        places = [str(target)] * outputs.shows
        if outputs.per_image or not places:
            places.append(str(outputs.folder / path.stem if outputs.per_image else outputs.folder))
        more = f"; {target} kept as it was" if outputs.has_video and is_there else ""
        return _with_shortfall(tally.outcome(opened, places, more), video)


def _check_provenance(
    models: Sequence[str],
    arguments: argparse.Namespace,
    outputs: FrameOutputs,
    target: Path,
    stem: str,
) -> None:
    """Refuse files of frames, and a video, that would lie beside some that were made otherwise.

    Raises:
        ValueError: If there are any.
    """
    provenance = Provenance(models, arguments)
    if provenance.differs:
        endings = tuple(endings_of(outputs))
        files = [str(path) for path in (outputs.folder / stem).glob("*")]
        own = {path for path in files if path.endswith(endings)} if endings else set()
        own |= {str(target)} if outputs.has_video else set()
        provenance.check_files(own, {*files, str(target)} - own)
    make_output_folder(outputs.folder)
    provenance.record(outputs)


def _note_oddities(video: Video, opened: OpenedModel) -> None:
    """Say what is done with a video that lacks its rate, or lies on its side."""
    note = opened.predictor.note
    if not video.has_rate:
        note(f"{video.path}: does not say how many frames a second it has; 25 are assumed")
    if video.rotation and opened.meta.exif is None:
        note(
            f"{video.path}: its rotation by {video.rotation} degrees is not applied, as in "
            "training: frames and masks are as they are stored, not as a player shows them; "
            "--exif apply turns them upright"
        )


def _predict(
    models: Sequence[str],
    opened: OpenedModel,
    outputs: FrameOutputs,
    video: Video,
    target: Path,
    arguments: argparse.Namespace,
) -> Tally:
    """Predict the frames, and write their overlays."""
    sheets = Sheets(opened.meta, arguments)
    frames = video.frames(upright=opened.meta.exif == "apply")
    with contextlib.ExitStack() as stack:
        ahead = stack.enter_context(ReadAhead(frames, AHEAD))
        work = functools.partial(
            predict_frames, models, opened, outputs, ahead, video.expected, arguments
        )
        if not outputs.shows:
            return work(None)
        file = VideoFile(target, video.rate, overwrite=arguments.overwrite)
        written = BackgroundVideo(file)
        stack.enter_context(writing(target, written))

        def show(frame: Frame, overlay: np.ndarray) -> None:
            written.write(functools.partial(sheets.below, overlay))

        tally = work(show)
        written.finish()
    note_look(opened, file, sheets)
    return tally


class _Unfinished(Protocol):
    def discard(self) -> None: ...


@contextlib.contextmanager
def writing(path: Path, video: _Unfinished) -> Iterator[None]:
    """Remove a video that is not finished at the end of the context, and say why.

    Raises:
        ValueError: If it cannot be written.
    """
    try:
        yield
    except OSError as error:
        refuse_full_disk(error)
        raise ValueError(f"{path}: {error.strerror or first_line(error)}") from None
    except KeyboardInterrupt:
        complain(f"{path} was not finished and is removed")
        raise
    finally:
        video.discard()


def note_look(opened: OpenedModel, file: VideoFile, sheets: Sheets) -> None:
    """Say where a video looks otherwise than its overlays."""
    if file.is_padded:
        opened.predictor.note(
            f"{file.path}: encoders take even sizes, so its last column or row is doubled"
        )
    if sheets.lacks_room:
        opened.predictor.note(
            f"{file.path}: has no legend, since one of all classes would be larger than a frame"
        )


def _with_shortfall(outcome: Outcome, video: Video) -> Outcome:
    """Say what was missing at the end."""
    shortfall = video.shortfall()
    if shortfall is None:
        return outcome
    text, is_damage = shortfall
    complain(f"{text}; what is written is whole")
    return outcome._replace(is_cut=is_damage)
