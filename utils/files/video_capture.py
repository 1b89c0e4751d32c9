"""Videos and cameras through OpenCV, which would print messages of its own."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np


class Capture(Protocol):
    """What is used of a `cv2.VideoCapture`."""

    def isOpened(self) -> bool:
        """Return whether there is such a video or camera."""

    def grab(self) -> bool:
        """Take the next frame; False where there is none."""

    def retrieve(self) -> tuple[bool, np.ndarray]:
        """Return whether the frame could be decoded, and it as (H, W, 3) BGR."""

    def get(self, propId: int) -> float:
        """Return a property."""

    def set(self, propId: int, value: float) -> bool:
        """Set a property; return whether that is possible."""

    def release(self) -> None:
        """Close it."""


# What FFmpeg may read a file as. Others are lists, which would make it open further files.
_FORMATS = "mov,matroska,webm,avi,flv,asf,ogg,mpeg,mpegts,m4v,mjpeg,h264,hevc"


def open_video(path: Path) -> Capture:
    """Open a video file."""
    with quiet(), _setting("OPENCV_FFMPEG_CAPTURE_OPTIONS", f"format_whitelist;{_FORMATS}"):
        # A colon in a relative path would be read as a protocol.
        return cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)


def open_camera(number: int) -> Capture:
    """Open a camera, the first of which is number 0."""
    with quiet():
        return cv2.VideoCapture(number)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let OpenCV and FFmpeg print nothing; FFmpeg also later, where nobody has asked it to."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when FFmpeg is first used
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


@contextlib.contextmanager
def _setting(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment, from which alone OpenCV takes some settings."""
    former = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if former is not None:
            os.environ[name] = former
