"""The frames of a camera until it is stopped."""

import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

import cv2

from prediction.source.frame import Frame
from utils.files.data_file import DataError
from utils.files.video_capture import Capture, open_camera

_USUAL_RATE = 25.0  # frames a second, of a camera that does not say it
_MAX_RATE = 240.0


class Camera:
    """A camera.

    Args:
        number: Which one, from 0.
        every: Of so many frames, the first one is taken.
        open_capture: Opens it.

    Raises:
        DataError: If there is none.
    """

    def __init__(
        self, number: int, every: int = 1, open_capture: Callable[[int], Capture] = open_camera
    ) -> None:
        self.name = f"camera:{number}"
        self.every = every
        self.is_lost = False  # whether it has ended by itself
        self._capture = open_capture(number)
        if not self._capture.isOpened():
            raise DataError(
                f"{self.name}: there is no such camera, or another program uses it, or this user "
                "may not; the first one is camera:0"
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = (rate if 0 < rate <= _MAX_RATE else _USUAL_RATE) / every
        self._stopped = threading.Event()

    def __enter__(self) -> "Camera":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._capture.release()

    def stop(self) -> None:
        """Let the frames end with the next one; may be called from anywhere."""
        self._stopped.set()

    def frames(self) -> Iterator[Frame]:
        """Yield the frames as they come, until `stop()` or the end of the camera."""
        number, started = 0, time.monotonic()
        while not self._stopped.is_set():
            if not self._capture.grab():
                self.is_lost = True
                return
            if number % self.every == 0:
                seconds = time.monotonic() - started
                is_decoded, image = self._capture.retrieve()
                if is_decoded:
                    yield Frame(number, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            number += 1
