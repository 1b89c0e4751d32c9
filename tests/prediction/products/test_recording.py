"""When frames come, and when they are shown; the truth is arithmetic."""

import functools

import numpy as np
import pytest

from prediction.products import video_file
from prediction.products.recording import Recording
from prediction.products.video_file import BackgroundVideo, VideoFile
from tests.videos import rate_of, read_video


def record(path, seconds, rate):
    """Record frames that came at times; each is as bright as its number says."""
    recording = Recording(functools.partial(VideoFile, path, live=True), rate)
    for number, time in enumerate(seconds):
        recording.write(time, np.full((16, 16, 3), 10 * number, np.uint8))
    recording.finish()
    recording.discard()
    return [round(frame.mean() / 10) for frame in read_video(path)] if path.exists() else []


def test_feature_the_rate_is_measured(tmp_path):
    path = tmp_path / "a.mp4"
    assert record(path, [7 + number / 4 for number in range(20)], 25.0) == list(range(20))
    assert rate_of(path) == 4


def test_feature_short_ones(tmp_path):
    assert record(tmp_path / "a.mp4", [0, 0.5, 1], 25.0) == [0, 1, 2]
    assert rate_of(tmp_path / "a.mp4") == 2
    assert record(tmp_path / "b.mp4", [3], 25.0) == [0]
    assert rate_of(tmp_path / "b.mp4") == 25
    assert record(tmp_path / "c.mp4", [], 25.0) == []


def test_feature_late_ones_are_waited_for(tmp_path, monkeypatch):
    """Two frames a second; then one comes a second and a half late."""
    monkeypatch.setattr(video_file, "_WAITING", 20)  # here all come at once
    seconds = [0, 0.5, 1, 1.5, 2, 2.5, 4.5, 5]
    expected = [0, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7]
    assert record(tmp_path / "a.mp4", seconds, 25.0) == expected


def test_feature_early_ones_are_left_out(tmp_path):
    seconds = [0, 0.5, 1, 1.5, 2, *[2.05 + number / 100 for number in range(10)], 2.5, 3]
    shown = record(tmp_path / "a.mp4", seconds, 25.0)
    assert shown[:5] == [0, 1, 2, 3, 4]
    assert len(shown) <= 5 + 3
    assert shown[-1] == 16


@pytest.mark.parametrize("rate", [5.0, 25.0])
def test_feature_no_faster_than_the_camera(tmp_path, rate):
    record(tmp_path / "a.mp4", [number / 10 for number in range(24)], rate)
    assert rate_of(tmp_path / "a.mp4") == min(rate, 10)


def test_feature_an_encoder_that_is_late_gets_no_more_than_it_has_to(tmp_path, monkeypatch):
    monkeypatch.setattr(BackgroundVideo, "is_late", True)
    seconds = [0, 0.5, 1, 1.5, 2, 2.5, 4.5, 5]
    assert record(tmp_path / "a.mp4", seconds, 25.0) == list(range(8))
