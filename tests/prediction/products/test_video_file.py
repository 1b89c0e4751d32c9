import threading

import numpy as np
import pytest

from prediction.products import video_file
from prediction.products.video_file import BackgroundVideo, VideoFile
from tests.conftest import run_code
from tests.videos import moving_frames, read_video


def write(path, frames, **settings):
    file = VideoFile(path, 10.0, **settings)
    for frame in frames:
        file.write(frame)
    file.finish()
    return file


def test_feature_named_when_complete(tmp_path):
    path = tmp_path / "a.mp4"
    file = VideoFile(path, 10.0)
    for frame in moving_frames(4):
        file.write(frame)
    assert not path.exists()
    file.finish()
    assert [each.name for each in tmp_path.iterdir()] == ["a.mp4"]
    assert len(read_video(path)) == 4


def test_feature_discarded(tmp_path):
    file = VideoFile(tmp_path / "a.mp4", 10.0)
    file.discard()
    file.write(moving_frames(1)[0])
    file.discard()
    file.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("live", [False, True])
def test_feature_odd_sizes_are_padded(tmp_path, live):
    frames = [frame[:63, :95] for frame in moving_frames(3)]
    assert write(tmp_path / "a.mp4", frames, live=live).is_padded
    found = read_video(tmp_path / "a.mp4")
    padded = np.pad(frames[0], ((0, 1), (0, 1), (0, 0)), "edge")
    assert np.abs(found[0].astype(int) - padded).mean() < 6
    assert not write(tmp_path / "b.mp4", moving_frames(3)).is_padded


class TestExceptions:
    def test_exception_exists(self, tmp_path):
        path = tmp_path / "a.mp4"
        path.write_bytes(b"mine")
        with pytest.raises(FileExistsError):
            VideoFile(path, 10.0)
        write(path, moving_frames(2), overwrite=True)
        assert len(read_video(path)) == 2

    def test_exception_has_come_to_exist(self, tmp_path):
        path = tmp_path / "a.mp4"
        file = VideoFile(path, 10.0)
        file.write(moving_frames(1)[0])
        path.write_bytes(b"mine")
        with pytest.raises(FileExistsError):
            file.finish()
        assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"mine"]

    def test_exception_other_size(self, tmp_path):
        file = VideoFile(tmp_path / "a.mp4", 10.0)
        file.write(moving_frames(1)[0])
        with pytest.raises(ValueError, match="one"):
            file.write(moving_frames(1, 48, 32)[0])
        file.discard()

    def test_exception_no_folder(self, tmp_path):
        file = VideoFile(tmp_path / "none" / "a.mp4", 10.0)
        with pytest.raises(FileNotFoundError):
            file.write(moving_frames(1)[0])

    @pytest.mark.parametrize("encoder", ["h264", "mp4v"])
    def test_exception_the_file_cannot_grow(self, tmp_path, encoder):
        """What a full disk is to an encoder, in a process that may write no larger files."""
        if encoder == "h264":
            pytest.importorskip("av")
        code = (
            "import resource, sys; from pathlib import Path; import numpy as np\n"
            "from prediction.products import video_file\n"
            "video_file.ENCODERS = (sys.argv[2],)\n"
            "file = video_file.VideoFile(Path(sys.argv[1]), 10.0)\n"
            "noise = np.random.default_rng(0).integers(0, 256, (64, 64, 96, 3), np.uint8)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
            "try:\n"
            "    for frame in noise: file.write(frame)\n"
            "    file.finish()\n"
            "except OSError as error: print('refused')\n"
            "finally: file.discard()"
        )
        done = run_code(code, tmp_path / "a.mp4", encoder)
        assert (done.stdout, done.stderr) == ("refused\n", "")
        assert not list(tmp_path.iterdir())


class TestBackground:
    def test_feature_order(self, tmp_path):
        video = BackgroundVideo(VideoFile(tmp_path / "a.mp4", 10.0))
        frames = moving_frames(12)
        for frame in frames:
            video.write(lambda frame=frame: frame)
        video.finish()
        video.discard()
        for one, other in zip(frames, read_video(tmp_path / "a.mp4"), strict=True):
            assert np.abs(one.astype(int) - other).mean() < 6

    def test_feature_is_late(self, tmp_path):
        video = BackgroundVideo(VideoFile(tmp_path / "a.mp4", 10.0))
        gate, frame = threading.Event(), moving_frames(1)[0]

        def draw():
            gate.wait()
            return frame

        for _ in range(video_file._WAITING):
            assert not video.is_late
            video.write(draw)
        assert video.is_late
        gate.set()
        video.finish()
        video.discard()
        assert len(read_video(tmp_path / "a.mp4")) == video.count == video_file._WAITING

    def test_exception_of_the_thread(self, tmp_path):
        video = BackgroundVideo(VideoFile(tmp_path / "none" / "a.mp4", 10.0))
        video.write(lambda: moving_frames(1)[0])
        with pytest.raises(FileNotFoundError):
            video.finish()
        video.discard()
