"""Cameras through inference.py: frames come from a camera that is made of a list."""

import re
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import inference
from prediction import predict_camera
from tests.videos import moving_frames, read_video

real_capture = cv2.VideoCapture


class FakeCamera:
    """Delivers frames at a rate; after some of them Ctrl-C is pressed, or there are no more."""

    opened = True
    rate = 100.0
    seconds = 0.01  # from frame to frame
    interrupt_after = 40
    frames = moving_frames(60)
    end_after = 10_000

    def __init__(self):
        self.grabbed = 0

    def isOpened(self):
        return self.opened

    def get(self, number):
        return self.rate if number == cv2.CAP_PROP_FPS else 0.0

    def set(self, number, value):
        return False

    def grab(self):
        time.sleep(self.seconds)
        self.grabbed += 1
        if self.grabbed == self.interrupt_after:
            signal.raise_signal(signal.SIGINT)
        return self.grabbed <= self.end_after

    def retrieve(self):
        frame = self.frames[(self.grabbed - 1) % len(self.frames)]
        return True, np.ascontiguousarray(frame[..., ::-1])

    def release(self):
        self.opened = False


@pytest.fixture
def camera(monkeypatch):
    """A class of cameras to change; files are opened as ever."""

    class Camera(FakeCamera):
        pass

    def capture(source, *backend):
        return real_capture(source, *backend) if isinstance(source, str) else Camera()

    monkeypatch.setattr(cv2, "VideoCapture", capture)
    return Camera


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(model_file, *arguments):
    words = ["--model", str(model_file), "-i", "camera:0", "--device", "cpu", "--mode", "whole"]
    return inference.main([*words, *map(str, arguments)])


def the_file(pattern):
    (path,) = Path("outputs").glob(pattern)
    return path


NAME = r"camera0_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"


class TestRecording:
    def test_feature_ctrl_c_completes_the_video(self, model_file, folder, camera, capsys):
        before = signal.getsignal(signal.SIGINT)
        assert run(model_file, "--save", "overlay,ids") == 0
        path = the_file("*.mp4")
        assert re.fullmatch(rf"{NAME}_overlay\.mp4", path.name)
        masks = sorted(Path("outputs").glob("*/*.png"))
        assert re.fullmatch(NAME, masks[0].parent.name)
        assert len(masks) >= 2
        out = capsys.readouterr().out
        numbers = re.fullmatch(
            rf"(\d+) frames written to {path} and {masks[0].parent} \(.*\)"
            r"(; (\d+) frames? (was|were) dropped, since .*)?\n", out
        )  # fmt: skip
        assert numbers
        assert int(numbers[1]) == len(masks)
        assert len(masks) + int(numbers[3] or 0) >= 39  # what came was predicted or dropped
        assert read_video(path)[0].shape == (64, 96, 3)
        assert signal.getsignal(signal.SIGINT) is before

    def test_feature_frames_that_are_too_fast_are_dropped(
        self, model_file, folder, camera, capsys, monkeypatch
    ):
        camera.seconds, camera.interrupt_after = 0.001, 300
        assert run(model_file, "--save", "ids") == 0
        last = capsys.readouterr().out
        dropped = int(re.search(r"; (\d+) frames were dropped", last)[1])
        numbers = [int(path.stem) for path in sorted(Path("outputs").glob("*/*.png"))]
        assert dropped > 20
        assert len(numbers) + dropped >= 299
        assert len(numbers) > 2
        assert np.diff(numbers).max() > 1

    def test_feature_every(self, model_file, folder, camera):
        camera.interrupt_after = 25
        assert run(model_file, "--save", "ids", "--every", 10) == 0
        numbers = [int(path.stem) for path in Path("outputs").glob("*/*.png")]
        assert 0 < len(numbers) < 5
        assert all(number % 10 == 0 for number in numbers)

    def test_feature_ends_by_itself(self, model_file, folder, camera, capsys):
        camera.end_after = 20
        assert run(model_file, "--save", "overlay") == 1
        assert read_video(the_file("*.mp4"))
        assert "camera:0: gives no more frames" in capsys.readouterr().err


class TestMistakes:
    def test_exception_no_camera(self, model_file, folder, camera, capfd):
        camera.opened = False
        assert run(model_file, "--save", "ids") == 2
        err = capfd.readouterr().err
        assert err.startswith("inference.py: camera:0: ")
        assert len(err.splitlines()) == 1

    def test_exception_neither_window_nor_file(self, model_file, folder, camera, capsys):
        assert run(model_file) == 2
        err = capsys.readouterr().err
        assert "no window can be shown" in err
        assert "--save overlay" in err
        assert not Path("outputs").exists()

    def test_exception_no_frame(self, model_file, folder, camera, capsys):
        camera.end_after = 0
        assert run(model_file, "--save", "overlay") == 1
        assert not list(Path("outputs").iterdir())
        assert "gives no more frames" in capsys.readouterr().err


class TestWindow:
    @pytest.fixture
    def shown(self, monkeypatch):
        """Sheets that a window was asked to show; it is closed after five."""
        sheets = []

        class Window:
            def __init__(self, title):
                assert title == "camera:0"

            def __enter__(self):
                return self

            def __exit__(self, *error):
                sheets.append("closed")

            def show(self, image):
                sheets.append(image)
                return len(sheets) < 5

        monkeypatch.setattr(predict_camera, "why_no_window", lambda: "")
        monkeypatch.setattr(predict_camera, "PreviewWindow", Window)
        return sheets

    def test_feature_ends_when_it_is_closed(self, model_file, folder, camera, shown, capsys):
        camera.interrupt_after = 0
        assert run(model_file) == 0
        assert not Path("outputs").exists()
        assert shown[-1] == "closed"
        assert 5 <= len(shown) - 1 <= 12  # some were in work
        assert shown[0].shape == (64, 96, 3)
        assert re.match(r"\d frames shown \(", capsys.readouterr().out)

    def test_feature_and_written(self, model_file, folder, camera, shown):
        camera.interrupt_after = 0
        assert run(model_file, "--save", "overlay") == 0
        assert len(shown) > 4
        assert the_file("*.mp4")
