"""A video file that is written frame by frame, and gets its name when it is complete."""

import collections
import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from utils.files.atomic_write import move, refuse_existing, temporary_path
from utils.files.video_encoder import ENCODERS, FAST_ENCODERS, Encoder, count_frames, open_encoder

_ROOM = 1 << 20  # bytes; the disk counts as full if it has less left
_WAITING = 4  # frames that wait to be encoded


class VideoFile:
    """An MP4 file of RGB frames of one size.

    Encoders need even sizes: the last column and row of others are doubled.

    Args:
        path: The file.
        rate: Frames a second.
        overwrite: Whether to replace a file of this name.
        live: Whether frames come as they happen, so that encoding must not take long.

    Raises:
        FileExistsError: If the path exists and `overwrite` is off.
    """

    def __init__(
        self, path: Path, rate: float, *, overwrite: bool = False, live: bool = False
    ) -> None:
        if not overwrite:
            refuse_existing(path)
        self.path = path
        self.frames = 0
        self.is_padded = False
        self._rate, self._overwrite = rate, overwrite
        self._encoders = FAST_ENCODERS if live else ENCODERS
        hidden = temporary_path(path)
        self._temporary = hidden.with_name(f"{hidden.name}.mp4")  # OpenCV goes by the ending
        self._encoder: Encoder | None = None
        self._size = (0, 0)

    def write(self, image: np.ndarray) -> None:
        """Add a frame (H, W, 3) uint8 RGB.

        Raises:
            ValueError: If it has another size than the first one.
            OSError: If the file cannot be written, or the disk is full.
        """
        height, width = image.shape[:2]
        if self._encoder is None:
            self._size = (height, width)
            self.is_padded = bool(height % 2 or width % 2)
            self._temporary.touch(exist_ok=False)  # says better than OpenCV why that is impossible
            self._encoder = open_encoder(
                self._temporary, self._rate, width + width % 2, height + height % 2, self._encoders
            )
        if (height, width) != self._size:
            raise ValueError(f"{self.path}: its frames are {self._size}, and one {height, width}")
        # The encoder does not say that it cannot write, and would go on for hours.
        if shutil.disk_usage(self.path.parent).free < _ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        if self.is_padded:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        self._encoder.write(image)
        self.frames += 1

    def finish(self) -> None:
        """Complete the file and give it its name.

        Raises:
            FileExistsError: If the path has come to exist and `overwrite` is off.
            OSError: If it could not be written as a whole; nothing is left behind.
        """
        try:
            assert self._encoder is not None  # there has been a frame
            self._encoder.close()
            if count_frames(self._temporary) != self.frames:
                raise OSError(errno.EIO, "could not be written as a whole", str(self.path))
            move(self._temporary, self.path, overwrite=self._overwrite)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what has been written, if the file has not got its name; may be called twice."""
        with contextlib.suppress(OSError):
            if self._encoder is not None:
                self._encoder.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)


class BackgroundVideo:
    """A video whose frames are drawn and encoded in a thread of their own, in order.

    Args:
        file: The video.
    """

    def __init__(self, file: VideoFile) -> None:
        self.file = file
        self.count = 0  # frames that were handed over
        self._thread = ThreadPoolExecutor(1, "encoder")
        self._waiting: collections.deque[Future[None]] = collections.deque()

    @property
    def is_late(self) -> bool:
        """Whether `write()` would wait."""
        return len(self._waiting) >= _WAITING and not self._waiting[0].done()

    def write(self, draw: Callable[[], np.ndarray]) -> None:
        """Add a frame; wait where many are not encoded yet.

        Raises:
            OSError: If one before it could not be written.
        """
        self.count += 1
        self._waiting.append(self._thread.submit(lambda: self.file.write(draw())))
        while len(self._waiting) > _WAITING:
            self._waiting.popleft().result()

    def finish(self) -> None:
        """Complete the file and give it its name.

        Raises:
            OSError: If it could not be written as a whole; nothing is left behind.
        """
        while self._waiting:
            self._waiting.popleft().result()
        self.file.finish()

    def discard(self) -> None:
        """Remove what has been written, if the file has not got its name; may be called twice."""
        self._thread.shutdown(cancel_futures=True)
        self.file.discard()
