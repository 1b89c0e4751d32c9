"""Encoders of videos; OpenCV's decoder says what they have written."""

import builtins
import errno

import numpy as np
import pytest

from tests.videos import moving_frames, rate_of, read_video
from utils.files import video_encoder
from utils.files.video_encoder import ENCODERS, H264Encoder, count_frames, open_encoder


def encode(path, frames, rate, *names):
    height, width = frames[0].shape[:2]
    encoder = open_encoder(path, rate, width, height, names)
    for frame in frames:
        encoder.write(frame)
    encoder.close()
    encoder.close()


@pytest.mark.parametrize("name", ["h264", "vp09", "mp4v"])
@pytest.mark.parametrize("rate", [0.1, 1, 4.2814, 29.97, 60, 70.1234, 119.88, 999.9])
def test_feature_frames(tmp_path, name, rate):
    if name == "h264":
        pytest.importorskip("av")
    frames = moving_frames(9)
    path = tmp_path / "a.mp4"
    encode(path, frames, rate, name)
    found = read_video(path)
    assert len(found) == count_frames(path) == 9
    assert rate_of(path) == pytest.approx(rate, rel=2e-3)
    for one, other in zip(frames, found, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 6


def test_feature_the_first_that_there_is(tmp_path, monkeypatch, capfd):
    """No OpenCV wheel has an encoder of H.264; without PyAV the next ones are tried, silently."""
    monkeypatch.setattr(video_encoder.importlib.util, "find_spec", lambda name: None)
    path = tmp_path / "a.mp4"
    encode(path, moving_frames(3), 10, *ENCODERS)
    assert len(read_video(path)) == 3
    assert capfd.readouterr().err == ""


def test_exception_none(tmp_path):
    with pytest.raises(OSError, match="96x64"):
        open_encoder(tmp_path / "a.mp4", 10, 96, 64, ("none",))


def test_exception_pyav_says_when_it_cannot_write(tmp_path, monkeypatch):
    """OpenCV does not; see `VideoFile`."""
    pytest.importorskip("av")
    room = 20_000

    class Full:
        """A file on a disk that becomes full."""

        def __init__(self, path, mode):
            self.file = opened(path, mode)
            self.name = str(path)

        def write(self, data):
            if self.file.tell() + len(data) > room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    opened = builtins.open
    monkeypatch.setattr(video_encoder, "open", Full, raising=False)
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), np.uint8)
    encoder = H264Encoder(tmp_path / "a.mp4", 10, 96, 64)
    with pytest.raises(OSError) as caught:
        for frame in [*noise, *noise, *noise]:
            encoder.write(frame)
        encoder.close()
    assert caught.value.errno == errno.ENOSPC


def test_feature_not_complete(tmp_path):
    path = tmp_path / "a.mp4"
    encode(path, moving_frames(9), 10, "mp4v")
    path.write_bytes(path.read_bytes()[:-200])
    assert count_frames(path) == 0
    path.write_bytes(b"")
    assert count_frames(path) == 0
