"""JPEG files whose rows come one after the other; the encoder wants them all at once."""

import numpy as np
import simplejpeg

from utils.files.atomic_write import PendingFile
from utils.files.data_file import MAX_PIXELS, StrPath

MAX_SIDE = 65_500  # of libjpeg
QUALITY = 90


def check_jpeg_size(path: StrPath, width: int, height: int, below: int = 0) -> None:
    """Refuse a size that a JPEG cannot have, or whose pixels would take too much memory.

    Args:
        path: For the message.
        width: The width in pixels.
        height: The height of the image.
        below: The rows that may come below the image, a legend.

    Raises:
        ValueError: If it is too large.
    """
    if max(width, height + below) > MAX_SIDE or width * height > MAX_PIXELS:
        legend = f" with up to {below} rows of legend" if below else ""
        raise ValueError(
            f"{path}: {width}x{height}{legend} is too large for a JPEG, which has up to {MAX_SIDE} "
            f"pixels on a side and here {MAX_PIXELS / 1e6:.0f} million in all; choose png instead "
            "of jpg"
        )


class JpegWriter:
    """Write a JPEG; its rows are kept in memory until the end.

    Colours have the full resolution, since their borders are what such images show.

    Args:
        path: The name of the complete file.
        width: The width of the image in pixels; `check_jpeg_size` says how large it may be.
        overwrite: Whether to replace a file of this name.

    Raises:
        FileExistsError: If the path exists and `overwrite` is off.
        OSError: If it cannot be written.
    """

    def __init__(self, path: StrPath, width: int, *, overwrite: bool = False) -> None:
        self._width = width
        self._kept: list[np.ndarray] = []
        self._pending = PendingFile(path, overwrite=overwrite)

    def write(self, rows: np.ndarray) -> None:
        """Take the next rows, (h, W, 3) uint8 RGB."""
        self._kept.append(rows.copy())

    def finish(self) -> None:
        """Complete the file and give it its name.

        Raises:
            FileExistsError: If the path has come to exist and `overwrite` is off.
            OSError: If it cannot be written; nothing is left behind.
        """
        try:
            image = np.empty((sum(map(len, self._kept)), self._width, 3), np.uint8)
            top = 0
            while self._kept:  # freed one by one, so that all are in memory only once
                rows = self._kept.pop(0)
                image[top : top + len(rows)] = rows
                top += len(rows)
            self._pending.file.write(simplejpeg.encode_jpeg(image, QUALITY, "RGB", "444"))
            self._pending.finish()
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what has been written, unless the file is complete."""
        self._kept = []
        self._pending.discard()
