"""No window is opened here: what OpenCV is asked for is looked at."""

import cv2
import numpy as np
import pytest

from prediction.preview_window import PreviewWindow, why_no_window


@pytest.mark.parametrize(
    ("framework", "display", "text"),
    [("", ":0", "opencv-python"), ("QT", "", "no display"), ("QT", ":0", "")],
)
def test_feature_why_not(monkeypatch, framework, display, text):
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: framework)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", display)
    assert text in why_no_window()
    assert bool(text) == bool(why_no_window())


@pytest.mark.parametrize(
    ("key", "is_open", "more"),
    [(-1, 1.0, True), (ord("x"), 1.0, True), (ord("q"), 1.0, False), (27, 1.0, False),
     (-1, 0.0, False)],
)  # fmt: skip
def test_feature_until_it_is_closed(monkeypatch, key, is_open, more):
    shown, closed = [], []
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append((title, image)))
    monkeypatch.setattr(cv2, "waitKey", lambda _: key)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: is_open)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: closed.append(1))
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    with PreviewWindow("camera:0") as window:
        assert window.show(image) is more
    ((title, found),) = shown
    assert title == "camera:0"
    assert np.array_equal(found, image[..., ::-1])
    assert closed
