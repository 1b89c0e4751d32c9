"""The frames of a video file, as far as they can be decoded."""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from prediction.source.frame import Frame
from utils.files.data_file import MAX_PIXELS, DataError, damaged, open_file
from utils.files.video_capture import Capture, open_video

_USUAL_RATE = 25.0  # frames a second, of a video that does not say it
_MAX_RATE = 1000.0  # what claims more has another unit in mind
# Their headers have no number of frames, which then is an estimate.
_WITHOUT_COUNT = (".mkv", ".webm")


class Video:
    """A video whose frames are decoded in order.

    What its header says about its length is only a claim, see `shortfall()`. Where frames change
    their size, FFmpeg scales them to that of the first one.

    Args:
        path: The file.
        every: Of so many frames, the first one is taken.
        open_capture: Opens the file.

    Raises:
        DataError: If it is no video, or cannot be decoded.
    """

    def __init__(
        self, path: Path, every: int = 1, open_capture: Callable[[Path], Capture] = open_video
    ) -> None:
        with open_file(path):
            pass  # it says what is wrong with a path better than FFmpeg
        self.path, self.every = path, every
        self.decoded = 0  # frames so far, those that are not taken too
        self._capture = open_capture(path)
        if not self._capture.isOpened():
            raise damaged(path, "is no video that FFmpeg can open, or has no index, as if cut off")
        self._claim = self._property(cv2.CAP_PROP_FRAME_COUNT)
        self._refuse_bomb()
        rate = self._property(cv2.CAP_PROP_FPS)
        self.has_rate = 0 < rate <= _MAX_RATE
        self._rate = rate if self.has_rate else _USUAL_RATE
        self._last = 0.0  # when the last frame is shown, in seconds
        self._problem = ""

    def __enter__(self) -> "Video":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._capture.release()

    @property
    def rate(self) -> float:
        """The frames a second that are taken."""
        return self._rate / self.every

    @property
    def rotation(self) -> int:
        """By how many degrees the video says that its frames are to be turned."""
        return int(self._property(cv2.CAP_PROP_ORIENTATION_META)) % 360

    @property
    def expected(self) -> int | None:
        """How many frames will be taken, by what the file claims; None if it claims nothing."""
        return math.ceil(self._claim / self.every) if self._claim > 0 else None

    def frames(self, *, upright: bool) -> Iterator[Frame]:
        """Yield the frames.

        Args:
            upright: Whether they are turned as the video says.

        Raises:
            DataError: If not even the first one can be decoded.
        """
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, float(upright))
        shape: tuple[int, ...] | None = None
        while self._capture.grab():
            if self.decoded % self.every == 0:
                is_decoded, image = self._capture.retrieve()
                if not is_decoded:
                    break
                shape = shape or image.shape
                if image.shape != shape:
                    self._problem = _other_size(self.decoded, image, shape)
                    break
                pixels = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                yield Frame(self.decoded, self.decoded / self._rate, pixels)
            self._last = self._property(cv2.CAP_PROP_POS_MSEC) / 1000
            self.decoded += 1
        if shape is None:
            raise damaged(self.path, "none of its frames can be decoded")

    def shortfall(self) -> tuple[str, bool] | None:
        """Return what was missing at the end, and whether that is damage; None for nothing."""
        text = f"{self.path}: {self.decoded} of the {self._claim:.0f} frames that it claims"
        if self._problem:
            return f"{self.path}: ends after {self.decoded} frames: {self._problem}", True
        missing = self._claim - self.decoded
        if missing <= 0:
            return None
        if self.path.suffix.lower() in _WITHOUT_COUNT and self._reaches_end():
            return (
                f"{text} could be read to its end; its frame rate varies, or some are lost",
                False,
            )
        # A file that is sound may claim a few frames that have been trimmed off.
        is_damage = missing > min(self._rate, 0.02 * self._claim)
        return f"{text} could be decoded", is_damage

    def _reaches_end(self) -> bool:
        return self._last + max(1.0, 2 / self._rate) >= 0.98 * self._claim / self._rate

    def _property(self, number: int) -> float:
        value = self._capture.get(number)
        return value if math.isfinite(value) else 0.0

    def _refuse_bomb(self) -> None:
        width = self._property(cv2.CAP_PROP_FRAME_WIDTH)
        height = self._property(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > MAX_PIXELS:
            raise DataError(
                f"{self.path}: claims frames of {width:.0f}x{height:.0f} pixels in "
                f"{os.path.getsize(self.path)} bytes; more than {MAX_PIXELS} are not decoded"
            )


def _other_size(number: int, image: np.ndarray, first: tuple[int, ...]) -> str:
    height, width = image.shape[:2]
    return f"frame {number} has {width}x{height} pixels, the first one {first[1]}x{first[0]}"
