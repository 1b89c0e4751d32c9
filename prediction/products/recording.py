"""A video of what comes when it comes, such as the frames of a camera."""

from collections.abc import Callable

import numpy as np

from prediction.products.video_file import BackgroundVideo, VideoFile

_MEASURED = 2.0  # seconds at the start, whose frames tell the frame rate of the video
_MOST = 64  # frames, at most
_SLOWEST = 0.1  # frames a second


class Recording:
    """Writes frames so that the video plays as fast as they came.

    A video has one frame rate: that of the first seconds, whose frames wait in memory. Later ones
    that come late let the last one be shown for longer; those that come early are left out.

    Args:
        make: Makes the file, given the frame rate.
        rate: The most frames a second.
    """

    def __init__(self, make: Callable[[float], VideoFile], rate: float) -> None:
        self.video: BackgroundVideo | None = None
        self._make, self._rate = make, rate
        self._first: list[tuple[float, np.ndarray]] = []
        self._last: np.ndarray | None = None
        self._started = 0.0  # when the first frame came

    def write(self, seconds: float, image: np.ndarray) -> None:
        """Add a frame (H, W, 3) uint8 RGB that came at a time.

        Raises:
            OSError: If one before it could not be written.
        """
        if self.video is not None:
            self._add(seconds, image)
            return
        self._first.append((seconds, image))
        if seconds - self._first[0][0] >= _MEASURED or len(self._first) == _MOST:
            self._begin()

    def finish(self) -> None:
        """Complete the file and give it its name, if there has been any frame.

        Raises:
            OSError: If it could not be written as a whole; nothing is left behind.
        """
        if self.video is None and self._first:
            self._begin()
        if self.video is not None:
            self.video.finish()

    def discard(self) -> None:
        """Remove what has been written, if the file has not got its name."""
        if self.video is not None:
            self.video.discard()

    def _begin(self) -> None:
        seconds = self._first[-1][0] - self._first[0][0]
        rate = (len(self._first) - 1) / seconds if seconds > 0 else self._rate
        self._rate = min(max(rate, _SLOWEST), self._rate)
        self._started = self._first[0][0]
        self.video = BackgroundVideo(self._make(self._rate))
        for each in self._first:
            self._add(*each)
        self._first = []

    def _add(self, seconds: float, image: np.ndarray) -> None:
        assert self.video is not None
        due = round((seconds - self._started) * self._rate)
        if self._last is not None:
            if due < self.video.count - 1:  # by more than cameras are irregular
                return
            # An encoder that is late already would only be later.
            while self.video.count < due and not self.video.is_late:
                self._put(self._last)
        self._put(image)
        self._last = image

    def _put(self, image: np.ndarray) -> None:
        assert self.video is not None
        self.video.write(lambda: image)
