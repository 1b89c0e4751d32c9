"""What a video and a camera share: frames in, their products and overlays out."""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prediction.fields import LabelRule
from prediction.frames import FrameOutputs, Frames
from prediction.jobs.image_file import ImageFile
from prediction.jobs.plan import is_done, make_output_folder
from prediction.load_model import Meta
from prediction.open_model import OpenedModel
from prediction.outputs import Outputs, RunProducts, settings_of
from prediction.pipeline import Done
from prediction.predict_files import Outcome, how_made, image_run, run_facts
from prediction.predict_images import label_rule, predict_all
from prediction.products.frame_overlay import legend_of_all, with_legend
from prediction.products.rows import ImageFacts
from prediction.source.frame import Frame

# Takes each frame in order when its products are complete, with its overlay.
Show = Callable[[Frame, np.ndarray], None]


class Tally(NamedTuple):
    """What has become of frames."""

    written: int
    kept: int
    failed: int
    how: str

    def outcome(self, opened: OpenedModel, places: Sequence[str], more: str = "") -> Outcome:
        """Return what is reported: `places` are the files and folders, if frames were written."""
        done = f"written to {' and '.join(places)}" if places else "shown"
        text = f"{self.written} {_frames(self.written)} {done}"
        text += f" ({self.how})" * bool(self.written and self.how) + more
        if self.kept:
            text += f"; {self.kept} kept as they were (--overwrite replaces them)"
        if self.failed:
            text += f"; {self.failed} {_frames(self.failed)} failed, named above"
        return Outcome(self.written, self.kept, self.failed, self.how, opened.score, text)


def _frames(count: int) -> str:
    return "frame" if count == 1 else "frames"


def refuse_other_images(meta: Meta, source: str) -> None:
    """Refuse a model that does not take the frames of a video.

    Raises:
        ValueError: If it takes other images than 8-bit RGB.
    """
    if meta.band_rule is not None:
        rule = meta.band_rule
        raise ValueError(
            f"--images: {source} has frames of 3 channels in 8 bits, and the model takes images of "
            f"{rule.channels} channels of {rule.dtype}; predict image files with it"
        )


def frame_outputs(arguments: argparse.Namespace, meta: Meta, frames: Frames) -> FrameOutputs:
    """Return what is written of each frame, and make the output folder if something is.

    Raises:
        ValueError: If there is no such product, or frames cannot have it.
    """
    output, settings = Path(arguments.output), settings_of(arguments)
    if not arguments.save:
        return FrameOutputs(output, (), settings, frames)
    kinds = Outputs.of(arguments.save, meta.classes, output, settings).kinds
    if any((kind.name, kind.format) == ("polygons", "labelme") for kind in kinds):
        raise ValueError(
            "--save: polygons.labelme is to be opened with its image, and frames have no files"
        )
    make_output_folder(output)
    return FrameOutputs(output, kinds, settings, frames)


def predict_frames(
    models: Sequence[str],
    opened: OpenedModel,
    outputs: FrameOutputs,
    frames: Iterable[Frame],
    total: int | None,
    arguments: argparse.Namespace,
    show: Show | None,
) -> Tally:
    """Predict frames as they come, those left out whose files are there.

    Args:
        models: The checkpoints.
        opened: The model.
        outputs: What is written of each frame.
        frames: The frames.
        total: How many there may be; None if that is not known.
        arguments: The command line.
        show: Takes each frame; None if nobody looks at them. A frame that failed is shown as it is.

    Raises:
        ValueError: If frames cannot be read or the disk is full.
    """
    of_run = RunProducts(outputs.folder, arguments.save or "overlay")
    run = image_run(opened, outputs, of_run, arguments, outputs.frames.open)
    written = kept = 0

    def pending() -> Iterator[ImageFile]:
        nonlocal kept
        for frame in frames:
            image = outputs.frames.name(frame)
            is_there = is_done(outputs.paths(image)) and of_run.have(image)
            if show is None and is_there and not arguments.overwrite:
                kept += 1
            else:
                yield outputs.frames.add(frame)

    def finished(done: Done[ImageFile]) -> None:
        nonlocal written
        written += done.error is None
        frame, overlay = outputs.frames.take(done.job)
        if show is not None:
            show(frame, overlay)

    started = time.perf_counter()
    failed = predict_all(run, pending(), total, finished=finished, unit="frame").failed
    seconds = time.perf_counter() - started
    of_run.close(run_facts(models, arguments, seconds, str(run.predictor.device)))
    how = how_made(run, written / seconds, arguments.mode, "frame") if written else ""
    return Tally(written, kept, failed, how)


class Sheets:
    """Puts one legend of all classes below overlays of one size.

    Args:
        meta: The classes.
        arguments: The command line.
    """

    def __init__(self, meta: Meta, arguments: argparse.Namespace) -> None:
        self.lacks_room = False  # whether frames are too small for the legend that is wanted
        self._meta, self._wanted = meta, not arguments.no_legend
        self._rule = label_rule(meta, arguments.unsure)
        self._legend: np.ndarray | None = None

    def below(self, overlay: np.ndarray) -> np.ndarray:
        """Return an overlay with the legend."""
        if self._wanted and self._legend is None and not self.lacks_room:
            self._legend = legend_of_all(_facts(overlay, self._meta, self._rule))
            self.lacks_room = self._legend is None
        return with_legend(overlay, self._legend)


def _facts(overlay: np.ndarray, meta: Meta, rule: LabelRule) -> ImageFacts:
    height, width = overlay.shape[:2]
    may_ignore = rule.unsure is not None
    return ImageFacts(
        Path(), Path(), height, width, meta.classes, meta.palette[: len(meta.classes)],
        rule.ignored_id if may_ignore else None,
    )  # fmt: skip
