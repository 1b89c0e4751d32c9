"""Small videos, sound ones and others, and what decodes them again."""

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

RATE = 10.0

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # broken videos: what FFmpeg says of them


def moving_frames(count: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    """Return RGB frames of a few flat shapes that move, which encoders keep almost as they are."""
    frames = []
    for number in range(count):
        frame = np.full((height, width, 3), (60, 90, 160), np.uint8)
        frame[height // 2 :] = (80, 120, 70)
        left = 4 * number % (width - 24)
        frame[height // 4 : 3 * height // 4, left : left + 24] = (200, 60, 20)
        cv2.circle(frame, (width - left - 12, height // 3), height // 6, (230, 220, 30), -1)
        frames.append(frame)
    return frames


def write_video(
    path: Path, frames: Sequence[np.ndarray], codec: str = "mp4v", rate: float = RATE
) -> Path:
    """Write RGB frames of an even size."""
    height, width = frames[0].shape[:2]
    code = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, rate, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def read_video(path: Path, *, upright: bool = False) -> list[np.ndarray]:
    """Return all frames as RGB."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, float(upright))
    frames = []
    while True:
        is_there, frame = capture.read()
        if not is_there:
            return frames
        frames.append(np.ascontiguousarray(frame[..., ::-1]))


def rate_of(path: Path) -> float:
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FPS)


def claim_frames(path: Path, count: int) -> Path:
    """Let the header of an AVI file claim another number of frames."""
    data = bytearray(path.read_bytes())
    length = data.index(b"strh") + 8 + 32  # the chunk's name and size, then `dwLength`
    data[length : length + 4] = struct.pack("<I", count)
    path.write_bytes(data)
    return path


def turn(path: Path) -> Path:
    """Let the header of an MP4 file say that its frames are to be turned by a quarter."""
    data = bytearray(path.read_bytes())
    one = 1 << 16
    straight = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    matrix = data.index(straight, data.index(b"tkhd"))
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def write_jpegs(path: Path, frames: Sequence[np.ndarray]) -> Path:
    """Write a stream of JPEGs, whose frames may have several sizes, and which has no header."""
    encoded = (cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in frames)
    path.write_bytes(b"".join(encoded))
    return path


def blank_middle(path: Path) -> Path:
    """Overwrite a tenth of a file."""
    data = bytearray(path.read_bytes())
    start, length = 4 * len(data) // 10, len(data) // 10
    data[start : start + length] = bytes(length)
    path.write_bytes(data)
    return path
