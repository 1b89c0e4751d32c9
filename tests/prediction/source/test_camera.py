import itertools

import cv2
import numpy as np
import pytest

from prediction.source.camera import Camera
from utils.files.data_file import DataError


class Frames:
    """A camera of so many frames, each as bright as its number; some cannot be decoded."""

    def __init__(self, count, rate=30.0, broken=()):
        self.count, self.rate, self.broken = count, rate, broken
        self.number = -1

    def isOpened(self):
        return self.count > 0

    def get(self, number):
        return self.rate if number == cv2.CAP_PROP_FPS else 0.0

    def grab(self):
        self.number += 1
        return self.number < self.count

    def retrieve(self):
        pixels = np.zeros((4, 6, 3), np.uint8)
        pixels[..., 2] = self.number  # red, in the order of OpenCV
        return self.number not in self.broken, pixels

    def release(self):
        self.count = 0


def test_feature_frames_until_it_ends():
    with Camera(0, 3, lambda number: Frames(10, broken=[6])) as camera:
        frames = list(camera.frames())
    assert [frame.number for frame in frames] == [0, 3, 9]
    assert [frame.pixels[0, 0].tolist() for frame in frames] == [[0, 0, 0], [3, 0, 0], [9, 0, 0]]
    assert sorted(frame.seconds for frame in frames) == [frame.seconds for frame in frames]
    assert camera.is_lost


def test_feature_stop():
    with Camera(0, 1, lambda number: Frames(100)) as camera:
        frames = camera.frames()
        assert len(list(itertools.islice(frames, 3))) == 3
        camera.stop()
        assert not list(frames)
    assert not camera.is_lost


@pytest.mark.parametrize(
    ("claimed", "rate"),
    [(30.0, 15.0), (0.0, 12.5), (-1.0, 12.5), (float("nan"), 12.5), (1e6, 12.5)],
)
def test_feature_rate(claimed, rate):
    with Camera(0, 2, lambda number: Frames(1, claimed)) as camera:
        assert camera.rate == rate


def test_exception_none():
    with pytest.raises(DataError, match="camera:3"):
        Camera(3, 1, lambda number: Frames(0))
