"""Videos as frames; the truth is OpenCV's decoder called by hand, and arithmetic."""

import itertools

import cv2
import numpy as np
import pytest

from prediction.source.video import Video
from tests.conftest import run_code
from tests.videos import (
    RATE,
    blank_middle,
    claim_frames,
    moving_frames,
    read_video,
    turn,
    write_jpegs,
    write_video,
)
from utils.files.data_file import DataError

FORMATS = [("a.mp4", "mp4v"), ("a.mp4", "vp09"), ("a.avi", "MJPG"), ("a.mkv", "mp4v"),
           ("a.webm", "VP80")]  # fmt: skip


def frames_of(video, *, upright=False):
    return list(video.frames(upright=upright))


class ListedVideo:
    """A capture that claims what it is told and then gives the frames of a list."""

    def __init__(self, frames, claim=0.0, rate=RATE, seconds=None):
        self.frames = iter(frames)
        self.values = {cv2.CAP_PROP_FRAME_COUNT: claim, cv2.CAP_PROP_FPS: rate}
        self.seconds = seconds or itertools.count(0, 1 / RATE)
        self.frame = None

    def isOpened(self):
        return True

    def get(self, number):
        if number == cv2.CAP_PROP_POS_MSEC:
            return 1000 * next(self.seconds)
        return self.values.get(number, 0.0)

    def set(self, number, value):
        return True

    def grab(self):
        self.frame = next(self.frames, None)
        return self.frame is not None

    def retrieve(self):
        return True, self.frame

    def release(self):
        pass


@pytest.fixture
def listed(tmp_path):
    """Opens a `ListedVideo` under a name."""

    def make(*args, name="a.mp4", every=1, **kwargs):
        path = tmp_path / name
        path.write_bytes(b"x")
        return Video(path, every, lambda _: ListedVideo(*args, **kwargs))

    return make


class TestFrames:
    @pytest.mark.parametrize(("name", "codec"), FORMATS)
    @pytest.mark.parametrize("every", [1, 4])
    def test_feature_frames(self, tmp_path, name, codec, every):
        path = write_video(tmp_path / name, moving_frames(14), codec)
        expected = read_video(path)[::every]
        with Video(path, every) as video:
            assert video.expected == len(expected)
            assert video.rate == pytest.approx(RATE / every)
            frames = frames_of(video)
            assert video.shortfall() is None
        assert [frame.number for frame in frames] == list(range(0, 14, every))
        assert [frame.seconds for frame in frames] == pytest.approx(
            [number / RATE for number in range(0, 14, every)]
        )
        assert all(
            np.array_equal(frame.pixels, other)
            for frame, other in zip(frames, expected, strict=True)
        )

    def test_feature_odd_names(self, tmp_path, monkeypatch):
        """Letters that mean something to FFmpeg or OpenCV."""
        monkeypatch.chdir(tmp_path)
        plain = write_video(tmp_path / "a.mp4", moving_frames(2))
        for name in ("file:b.mp4", "c%03d.mp4", "d?.mp4", "stra\u00dfe |e.mp4"):
            target = tmp_path / name
            target.write_bytes(plain.read_bytes())
            with Video(target.relative_to(tmp_path)) as video:
                assert len(frames_of(video)) == 2, name

    def test_feature_rotation(self, tmp_path):
        path = turn(write_video(tmp_path / "a.mp4", moving_frames(2)))
        for upright in (False, True):
            with Video(path) as video:
                assert video.rotation == 90
                (frame, _) = frames_of(video, upright=upright)
            assert frame.pixels.shape == ((96, 64, 3) if upright else (64, 96, 3))
            assert np.array_equal(frame.pixels, read_video(path, upright=upright)[0])

    @pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 90_000.0])
    def test_feature_no_rate(self, listed, rate):
        video = listed(moving_frames(2), rate=rate)
        assert not video.has_rate
        assert video.rate == 25

    @pytest.mark.parametrize("claim", [0.0, -9.2e18, float("nan"), float("inf")])
    def test_feature_no_claim(self, listed, claim):
        video = listed(moving_frames(3), claim=claim)
        assert video.expected is None
        assert len(frames_of(video)) == 3
        assert video.shortfall() is None


class TestShortfall:
    def test_feature_damage(self, tmp_path):
        path = blank_middle(write_video(tmp_path / "a.mp4", moving_frames(40)))
        with Video(path) as video:
            count = len(frames_of(video))
            text, is_damage = video.shortfall()
        assert count == len(read_video(path)) < 40
        assert is_damage
        assert f"{count} of the 40 frames" in text

    @pytest.mark.parametrize(
        ("claim", "read", "is_damage"),
        [(20, 19, True), (100, 98, False), (100, 97, True), (1000, 990, False), (1000, 989, True)],
    )
    def test_feature_more_than_a_second_or_two_per_cent(self, listed, claim, read, is_damage):
        video = listed([np.zeros((2, 2, 3), np.uint8)] * read, claim=float(claim))
        assert len(frames_of(video)) == read
        text, found = video.shortfall()
        assert found is is_damage
        assert f"{read} of the {claim} frames" in text

    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
    def test_feature_a_varying_rate(self, listed, name):
        """Half as many frames as the rate says, to the end: only Matroska does not count them."""
        frames, times = moving_frames(20), itertools.count(0, 2 / RATE)
        video = listed(frames, claim=40.0, seconds=times, name=name)
        assert len(frames_of(video)) == 20
        assert video.shortfall()[1] is (name == "a.mp4")

    def test_feature_a_frame_of_another_size(self, listed):
        """FFmpeg scales them; other decoders may not."""
        frames = [*moving_frames(3), *moving_frames(3, 48, 32)]
        video = listed(frames, claim=6.0)
        assert len(frames_of(video)) == 3
        text, is_damage = video.shortfall()
        assert is_damage
        assert "frame 3 has 48x32 pixels, the first one 96x64" in text

    def test_feature_claims_fewer(self, tmp_path):
        path = claim_frames(write_video(tmp_path / "a.avi", moving_frames(9), "MJPG"), 4)
        with Video(path) as video:
            assert video.expected == 4
            assert len(frames_of(video)) == 9
            assert video.shortfall() is None

    def test_feature_no_header(self, tmp_path):
        path = write_jpegs(tmp_path / "a.avi", moving_frames(4))
        with Video(path) as video:
            assert video.expected is None
            assert len(frames_of(video)) == 4


class TestExceptions:
    def test_exception_text(self, tmp_path):
        path = tmp_path / "a.mp4"
        path.write_text("no video")
        with pytest.raises(DataError, match="a.mp4"):
            Video(path)

    def test_exception_lists_of_other_files(self, tmp_path):
        """A text may not make FFmpeg open another file, wherever that is."""
        other = write_video(tmp_path / "other.mp4", moving_frames(2))
        path = tmp_path / "a.mp4"
        for text in (
            f"#EXTM3U\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n",
            f"ffconcat version 1.0\nfile {other}\n",
            "ffconcat version 1.0\nfile other.mp4\n",
        ):
            path.write_text(text)
            with pytest.raises(DataError):
                Video(path)

    def test_exception_no_frame(self, listed):
        with pytest.raises(DataError, match="none of its frames"):
            frames_of(listed([]))

    def test_exception_bomb(self, listed, monkeypatch):
        monkeypatch.setattr(ListedVideo, "get", lambda self, number: 1e5)
        with pytest.raises(DataError, match="100000x100000"):
            listed([])


def test_feature_nothing_is_printed(tmp_path):
    """In a process of its own: FFmpeg is asked only once how much it may say."""
    path = blank_middle(write_video(tmp_path / "a.mp4", moving_frames(40)))
    code = (
        "import sys; from pathlib import Path; from prediction.source.video import Video\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        print(len(list(Video(Path(path)).frames(upright=False))))\n"
        "    except ValueError: print('no video')"
    )
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    done = run_code(code, path, text)
    assert done.stdout.split("\n")[1] == "no video"
    assert 0 < int(done.stdout.split("\n")[0]) < 40
    assert done.stderr == ""
