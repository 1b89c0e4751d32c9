"""A window that shows images as they come, where there is a display."""

import os
import sys
from types import TracebackType

import cv2
import numpy as np

_ESCAPE, _Q = 27, ord("q")


def why_no_window() -> str:
    """Return why no window can be shown here; "" if one can."""
    if not cv2.currentUIFramework():
        return (
            "this OpenCV has none: pip uninstall opencv-python-headless, then pip install "
            "opencv-python"
        )
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in displays):
        return "there is no display"
    return ""


class PreviewWindow:
    """A window that is open while the context lasts.

    Args:
        title: Its title.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def show(self, image: np.ndarray) -> bool:
        """Show an image (H, W, 3) uint8 RGB; return whether more are wanted.

        They are until the window is closed or the key q or Escape is pressed.
        """
        cv2.imshow(self._title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1) & 0xFF
        is_open = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        return key not in (_ESCAPE, _Q) and is_open

    def __enter__(self) -> "PreviewWindow":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        cv2.destroyAllWindows()
