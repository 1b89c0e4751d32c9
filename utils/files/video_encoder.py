"""Encoders of MP4 files: H.264 through the optional package PyAV, else what OpenCV has."""

import errno
import importlib.util
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from utils.files.video_capture import open_video, quiet

# What is tried, the best first. H.264 plays everywhere; VP9 in browsers, but OpenCV takes ten times
# as long for it; MPEG-4 plays in no browser, but any OpenCV can write it, and fast.
ENCODERS = ("h264", "avc1", "vp09", "mp4v")
FAST_ENCODERS = ("h264", "avc1", "mp4v")


class Encoder(Protocol):
    """Writes frames of one size, which is even."""

    def write(self, image: np.ndarray) -> None:
        """Add a frame (H, W, 3) uint8 RGB."""

    def close(self) -> None:
        """Write what is missing, and close the file; may be called twice."""


class OpenCvEncoder:
    """An encoder of OpenCV, which does not say when it cannot write.

    Args:
        path: The file, whose ending is .mp4.
        codec: The four letters of the format.
        rate: Frames a second.
        width: In pixels.
        height: In pixels.

    Raises:
        ValueError: If this OpenCV has no such encoder.
    """

    def __init__(self, path: Path, codec: str, rate: float, width: int, height: int) -> None:
        code = cv2.VideoWriter.fourcc(*codec)
        # OpenCV makes thousandths of it, and MPEG-4 takes no numerator above 65535.
        rate = round(rate, 3 if rate < 60 else 1)
        with quiet():
            self._writer = cv2.VideoWriter(
                os.path.abspath(path), cv2.CAP_FFMPEG, code, rate, (width, height)
            )
        if not self._writer.isOpened():
            raise ValueError(f"this OpenCV writes no {codec}")

    def write(self, image: np.ndarray) -> None:
        """Add a frame (H, W, 3) uint8 RGB."""
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Write what is missing, and close the file; may be called twice."""
        self._writer.release()


class H264Encoder:
    """H.264 through PyAV.

    Args:
        path: The file.
        rate: Frames a second.
        width: In pixels.
        height: In pixels.

    Raises:
        ValueError: If PyAV is not installed, or has no such encoder.
    """

    def __init__(self, path: Path, rate: float, width: int, height: int) -> None:
        if importlib.util.find_spec("av") is None:
            raise ValueError("PyAV is not installed")
        import av

        self._av = av
        self._file = open(path, "wb")  # noqa: SIM115  closed by `close()`
        try:
            self._container = av.open(self._file, "w", format="mp4")
            self._stream = self._container.add_stream(
                "libx264",
                rate=Fraction(rate).limit_denominator(10_000),
                options={"preset": "veryfast", "crf": "20"},
            )
        except Exception as error:
            self._file.close()
            raise ValueError(f"PyAV writes no H.264 ({error})") from None
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"  # the only one that all players know

    def write(self, image: np.ndarray) -> None:
        """Add a frame (H, W, 3) uint8 RGB.

        Raises:
            OSError: If the file cannot be written.
        """
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is missing, and close the file; may be called twice.

        Raises:
            OSError: If the file cannot be written.
        """
        if self._file.closed:
            return
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        finally:
            self._file.close()


def open_encoder(
    path: Path, rate: float, width: int, height: int, names: Sequence[str] = ENCODERS
) -> Encoder:
    """Open the first encoder that there is.

    Args:
        path: The file, whose ending is .mp4.
        rate: Frames a second.
        width: Even, in pixels.
        height: Even, in pixels.
        names: The encoders to try, from `ENCODERS`.

    Raises:
        OSError: If there is none, or the file cannot be written.
    """
    for name in names:
        try:
            if name == "h264":
                return H264Encoder(path, rate, width, height)
            return OpenCvEncoder(path, name, rate, width, height)
        except ValueError:
            continue
    raise OSError(errno.EINVAL, f"no video of {width}x{height} pixels can be encoded", str(path))


def count_frames(path: Path) -> int:
    """Return how many frames a complete MP4 file has; 0 if it is not complete."""
    with quiet():
        capture = open_video(path)
        try:
            if not (capture.isOpened() and capture.grab()):
                return 0
            return int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        finally:
            capture.release()
