"""The run of inference.py over the frames of a camera, until Ctrl-C."""

import argparse
import contextlib
import dataclasses
import datetime
import functools
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from prediction.frames import FrameOutputs, Frames
from prediction.open_model import OpenedModel
from prediction.predict_files import Outcome, load
from prediction.predict_frames import Sheets, frame_outputs, predict_frames, refuse_other_images
from prediction.predict_video import note_look, writing
from prediction.preview_window import PreviewWindow, why_no_window
from prediction.products.recording import Recording
from prediction.products.video_file import VideoFile
from prediction.source.camera import Camera
from prediction.source.frame import Frame
from prediction.source.read_ahead import ReadAhead
from utils.cli.launcher import refuse_several
from utils.progress import complain


def predict_camera(models: Sequence[str], arguments: argparse.Namespace) -> Outcome:
    """Predict the newest frame of a camera, again and again, until Ctrl-C or the window is closed.

    Raises:
        ValueError: If the camera, the model or a product cannot be used, or there is neither a
            window nor anything to write.
    """
    refuse_several()
    source = arguments.images[0]
    why_not = why_no_window()
    if why_not and not arguments.save:
        raise ValueError(
            f"--images: {source}: no window can be shown ({why_not}); name what is to be written, "
            "such as --save overlay"
        )
    if arguments.workers is None:  # frames that were read ahead would no longer be the newest
        arguments = argparse.Namespace(**{**vars(arguments), "workers": 1})
    with Camera(int(source.partition(":")[2]), arguments.every) as camera:
        opened = load(models, arguments)
        refuse_other_images(opened.meta, source)
        name = f"{source.replace(':', '')}_{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
        outputs = frame_outputs(arguments, opened.meta, Frames(source, name))
        outputs = dataclasses.replace(outputs, shows=outputs.has_video or not why_not)
        return _predict(models, opened, outputs, camera, name, arguments)


def _predict(
    models: Sequence[str],
    opened: OpenedModel,
    outputs: FrameOutputs,
    camera: Camera,
    name: str,
    arguments: argparse.Namespace,
) -> Outcome:
    """Predict, show and record frames until the camera is stopped."""
    sheets = Sheets(opened.meta, arguments)
    target = outputs.folder / f"{name}_overlay.mp4"
    recording = Recording(functools.partial(_open, target), camera.rate)
    with contextlib.ExitStack() as stack:
        window = None if why_no_window() else stack.enter_context(PreviewWindow(camera.name))
        stack.enter_context(writing(target, recording))
        ahead = stack.enter_context(ReadAhead(camera.frames(), 1, newest=True))
        stack.enter_context(_stopped_by_signals(camera.stop))

        def show(frame: Frame, overlay: np.ndarray) -> None:
            sheet = sheets.below(overlay)
            if outputs.has_video:
                recording.write(frame.seconds, sheet)
            if window is not None and not window.show(sheet):
                camera.stop()

        tally = predict_frames(models, opened, outputs, ahead, None, arguments, show)
        recording.finish()
    if recording.video is not None:
        note_look(opened, recording.video.file, sheets)
    places = [str(target)] * (recording.video is not None)
    places += [str(outputs.folder / name)] * bool(outputs.per_image)
    return _with_end(tally.outcome(opened, places, _dropped(ahead.dropped)), camera)


def _open(path: Path, rate: float) -> VideoFile:
    return VideoFile(path, rate, live=True)


def _dropped(count: int) -> str:
    are = "frame was dropped, since it" if count == 1 else "frames were dropped, since they"
    return f"; {count} {are} came faster than the model works" if count else ""


def _with_end(outcome: Outcome, camera: Camera) -> Outcome:
    """Say that a camera has ended by itself."""
    if camera.is_lost:
        complain(f"{camera.name}: gives no more frames; what is written is whole")
    return outcome._replace(is_cut=camera.is_lost)


@contextlib.contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C, or SIGTERM, call `stop`; another one ends the program at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(number, former[number])
        stop()

    former: dict[int, Any] = {
        number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
