"""Videos through inference.py: the truth is what single frames give, and a second decoder."""

import csv
import json
import os
import re
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d

import inference
import models
from prediction.products import video_file
from tests.prediction.conftest import CLASSES
from tests.prediction.program import written
from tests.videos import (
    RATE,
    blank_middle,
    claim_frames,
    moving_frames,
    rate_of,
    read_video,
    turn,
    write_jpegs,
    write_video,
)
from utils.drawing.overlay import lay_over

BRIGHT = [[250, 30, 30], [30, 220, 60], [40, 60, 250]]  # colours that a tint shows


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bright_model(model_file, folder, monkeypatch):
    """A model of other colours whose classes are red, green and blue regions: no noise."""
    checkpoint = torch.load(model_file, weights_only=True)
    checkpoint["meta"]["palette"] = BRIGHT
    torch.save(checkpoint, "bright.pth")
    monkeypatch.setattr(models.UNet, "forward", lambda _, images: avg_pool2d(images, 15, 1, 7))
    return "bright.pth"


def run(model_file, *arguments):
    words = ["--model", str(model_file), "--device", "cpu", *map(str, arguments)]
    return inference.main([*words, "--mode", "whole"])


def names(folder="outputs"):
    return written(Path(folder))


def masks_of(folder):
    return {path.name: np.array(Image.open(path)) for path in sorted(Path(folder).glob("*.png"))}


def masks_of_images(model_file, frames, *arguments):
    """Return the masks of frames as PNG files, predicted as images."""
    source = Path("as_images")
    source.mkdir()
    for number, frame in frames.items():
        Image.fromarray(frame).save(source / f"{number:06d}.png")
    assert run(model_file, "-i", source, "-o", "of_images", *arguments) == 0
    return masks_of("of_images")


def distance(one, other):
    return np.abs(one.astype(float) - other).mean()


def quarter(image):
    """Return an image of means of 4x4 pixels: videos store colours in a lower resolution."""
    return cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA).astype(float)


class TestMasks:
    @pytest.mark.parametrize(
        "arguments",
        [[], ["--batch-size", "3"], ["--workers", "0"], ["--window", "40"], ["--unsure", "0.6"]],
    )
    def test_feature_equal_to_those_of_images(self, model_file, folder, arguments):
        video = write_video(folder / "street.mp4", moving_frames(11))
        every = {number: f for number, f in enumerate(read_video(video)) if number % 3 == 0}
        assert run(model_file, "-i", video, "--save", "ids", "--every", 3, *arguments) == 0
        expected = masks_of_images(model_file, every, *arguments)
        found = masks_of("outputs/street")
        assert list(found) == ["000000.png", "000003.png", "000006.png", "000009.png"]
        for name, ids in expected.items():
            assert len(np.unique(ids)) > 1
            assert np.array_equal(found[name], ids), name

    def test_feature_other_products(self, model_file, folder):
        video = write_video(folder / "street.mp4", moving_frames(2))
        words = "ids,confidence,polygons,overlay.png,class:road,table,summary"
        assert run(model_file, "-i", video, "--save", words) == 0
        each = [".png", ".geojson", "_road.png", "_confidence.png", "_overlay.png"]
        expected = [f"00000{number}{ending}" for number in (0, 1) for ending in each]
        assert sorted(names("outputs/street")) == sorted(expected)
        assert Path("outputs/index.html").is_file()
        rows = list(csv.DictReader(Path("outputs/table.csv").read_text().splitlines()))
        assert [row["image"] for row in rows[:: len(CLASSES)]] == ["street/000000", "street/000001"]
        mask = masks_of("outputs/street")["000001.png"]
        assert sum(int(row["pixels"]) for row in rows[len(CLASSES) :]) == mask.size
        assert json.loads(Path("outputs/street/000001.geojson").read_text())["features"]

    def test_feature_a_rerun_makes_what_is_missing(self, model_file, folder, capsys):
        video = write_video(folder / "street.mp4", moving_frames(4))
        assert run(model_file, "-i", video, "--save", "ids") == 0
        gone, kept = Path("outputs/street/000002.png"), Path("outputs/street/000001.png")
        data, time = gone.read_bytes(), kept.stat().st_mtime_ns
        gone.unlink()
        capsys.readouterr()
        assert run(model_file, "-i", video, "--save", "ids") == 0
        assert gone.read_bytes() == data
        assert kept.stat().st_mtime_ns == time
        out = capsys.readouterr().out
        assert out.startswith("1 frame written to outputs/street (")
        assert "3 kept" in out


class TestOverlay:
    @pytest.mark.parametrize(
        ("arguments", "opacity"), [([], 0.45), (["--strength", "0.9"], 0.9), (["--outlines"], 0.0)]
    )
    @pytest.mark.parametrize("encoders", [("h264",), ("vp09",), ("mp4v",)])
    def test_feature_frames(
        self, bright_model, folder, monkeypatch, capsys, encoders, arguments, opacity
    ):
        if encoders == ("h264",):
            pytest.importorskip("av")
        monkeypatch.setattr(video_file, "ENCODERS", encoders)
        video = write_video(folder / "street.mp4", moving_frames(11, 192, 128))
        frames = read_video(video)
        words = ["-i", video, "--every", 2, "--no-legend", *arguments]
        assert run(bright_model, *words) == 0
        assert names() == ["street_overlay.mp4"]
        target = Path("outputs/street_overlay.mp4")
        assert rate_of(target) == RATE / 2
        found = read_video(target)
        masks = masks_of_images(bright_model, dict(enumerate(frames[::2])))
        assert len(found) == len(masks) == 6
        for frame, ids, shown in zip(frames[::2], masks.values(), found, strict=True):
            drawn = lay_over(frame, ids, BRIGHT, opacity=opacity)
            assert shown.shape == drawn.shape
            assert distance(shown, drawn) < 6
            expected, frame, shown = quarter(drawn), quarter(frame), quarter(shown)
            changed = np.abs(expected - frame).max(2) > 10
            assert changed.sum() > 50
            to_frame = distance(shown[changed], frame[changed])
            assert distance(shown[changed], expected[changed]) < to_frame / 3
        text = r"6 frames written to outputs/street_overlay.mp4 \(mode whole, [\d.]+ frames/s\)"
        assert re.fullmatch(text, capsys.readouterr().out.splitlines()[0])

    def test_feature_the_same_legend_is_below_all_frames(self, bright_model, folder):
        video = write_video(folder / "street.mp4", moving_frames(5, 320, 240))
        assert run(bright_model, "-i", video) == 0
        found = read_video(Path("outputs/street_overlay.mp4"))
        height, width = found[0].shape[:2]
        assert width == 320
        assert 240 < height < 480
        legends = np.stack([frame[240:] for frame in found]).astype(int)
        assert np.abs(legends - legends[0]).max() < 40
        for colour in BRIGHT:
            near = np.abs(legends[0] - colour).max(2) < 40
            assert near.sum() > 50, colour

    def test_feature_no_room_for_a_legend(self, model_file, folder, caplog):
        video = write_video(folder / "street.mp4", moving_frames(2, 32, 16))
        assert run(model_file, "-i", video) == 0
        assert read_video(Path("outputs/street_overlay.mp4"))[0].shape == (16, 32, 3)
        assert "has no legend" in caplog.text

    def test_feature_odd_sizes(self, bright_model, folder, caplog):
        frames = [frame[:63, :95] for frame in moving_frames(3)]
        source = write_jpegs(folder / "street.avi", frames)
        assert read_video(source)[0].shape == (63, 95, 3)
        assert run(bright_model, "-i", source, "--no-legend", "--save", "overlay,ids") == 0
        assert masks_of("outputs/street")["000002.png"].shape == (63, 95)
        (shown, *_) = read_video(Path("outputs/street_overlay.mp4"))
        assert shown.shape == (64, 96, 3)
        assert distance(shown[:, 95], shown[:, 94]) < 25
        assert "even sizes" in caplog.text

    def test_feature_a_frame_that_fails_is_shown_as_it_is(
        self, bright_model, folder, monkeypatch, capsys
    ):
        forward = models.UNet.forward
        calls = []

        def fail_once(network, images):
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError("no good")
            return forward(network, images)

        video = write_video(folder / "street.mp4", moving_frames(5, 192, 128))
        frames = read_video(video)
        monkeypatch.setattr(models.UNet, "forward", fail_once)
        assert run(bright_model, "-i", video, "--no-legend", "--strength", "0.9") == 1
        found = read_video(Path("outputs/street_overlay.mp4"))
        assert len(found) == 5
        far = [distance(one, other) > 8 for one, other in zip(found, frames, strict=True)]
        assert far == [True, True, False, True, True]
        out, err = capsys.readouterr()
        assert f"skipped {video} frame 2: no good\n" in err
        assert "1 frame failed, named above" in out


class TestFiles:
    def test_feature_kept_unless_told(self, model_file, folder, capsys):
        video = write_video(folder / "street.mp4", moving_frames(2))
        Path("outputs").mkdir()
        target = Path("outputs/street_overlay.mp4")
        target.write_bytes(b"mine")
        assert run(model_file, "-i", video) == 0
        assert target.read_bytes() == b"mine"
        assert capsys.readouterr().out == f"{target} kept as it was (--overwrite replaces it)\n"
        assert run(model_file, "-i", video, "--save", "overlay,ids") == 0
        assert target.read_bytes() == b"mine"
        assert names() == ["street/000000.png", "street/000001.png", "street_overlay.mp4"]
        assert run(model_file, "-i", video, "--overwrite") == 0
        assert len(read_video(target)) == 2

    def test_feature_interrupted(self, model_file, folder, monkeypatch, capsys):
        """The video is gone, the masks stay and are not made again."""
        forward = models.UNet.forward
        calls = []

        def interrupt(network, images):
            calls.append(1)
            if len(calls) == 6:
                signal.raise_signal(signal.SIGINT)
            return forward(network, images)

        video = write_video(folder / "street.mp4", moving_frames(9))
        monkeypatch.setattr(models.UNet, "forward", interrupt)
        words = ["-i", video, "--save", "ids,overlay"]
        assert run(model_file, *words) == 130
        err = capsys.readouterr().err
        assert "street_overlay.mp4 was not finished" in err
        assert "Traceback" not in err
        there = {name: os.stat(f"outputs/{name}").st_mtime_ns for name in names()}
        assert 3 <= len(there) < 9
        assert all(name.startswith("street/") for name in there)
        assert run(model_file, *words) == 0
        assert len(read_video(Path("outputs/street_overlay.mp4"))) == 9
        assert len(masks_of("outputs/street")) == 9
        for name, time in there.items():
            assert os.stat(f"outputs/{name}").st_mtime_ns == time

    def test_feature_the_disk_is_full(self, model_file, folder, monkeypatch, capsys):
        real, calls = video_file.shutil.disk_usage, []

        def usage(path):
            calls.append(1)
            return real(path)._replace(free=0) if len(calls) > 4 else real(path)

        monkeypatch.setattr(video_file.shutil, "disk_usage", usage)
        video = write_video(folder / "street.mp4", moving_frames(30))
        assert run(model_file, "-i", video) == 1
        assert names() == []
        err = capsys.readouterr().err
        assert "the disk of the output folder is full" in err
        assert "Traceback" not in err


class TestBroken:
    @pytest.mark.parametrize("kind", ["cut", "empty", "text", "missing", "folder", "no frame"])
    def test_exception_no_video(self, model_file, folder, capfd, kind):
        video = folder / "street.mp4"
        if kind == "cut":
            data = write_video(video, moving_frames(20)).read_bytes()
            video.write_bytes(data[: len(data) // 2])
        elif kind == "no frame":
            video = folder / "street.avi"
            data = bytearray(write_video(video, moving_frames(20), "MJPG").read_bytes())
            start = data.index(b"movi") + 4
            video.write_bytes(data[:start] + bytes(len(data) - start))
        elif kind == "folder":
            (folder / "street.mp4").mkdir()
        elif kind != "missing":
            video.write_text("no video\n" * 20 * (kind == "text"))
        assert run(model_file, "-i", video if kind != "folder" else "other/street.mp4") == 2
        err = capfd.readouterr().err
        assert err.startswith("inference.py: ")
        assert len(err.splitlines()) == 1
        assert "street." in err
        assert not Path("outputs").exists() or names() == []

    @pytest.mark.parametrize("kind", ["cut", "claim", "blank"])
    def test_feature_ends_early(self, model_file, folder, capfd, kind):
        name, codec = ("street.mp4", "mp4v") if kind == "blank" else ("street.avi", "MJPG")
        video = write_video(folder / name, moving_frames(40), codec)
        if kind == "cut":
            data = video.read_bytes()
            video.write_bytes(data[: len(data) // 2])
        elif kind == "claim":
            claim_frames(video, 60)
        else:
            blank_middle(video)
        frames = read_video(video)
        assert kind == "claim" or 5 < len(frames) < 35
        assert run(model_file, "-i", video, "--save", "overlay,ids") == 1
        assert len(read_video(Path("outputs/street_overlay.mp4"))) == len(frames)
        assert len(masks_of("outputs/street")) == len(frames)
        out, err = capfd.readouterr()
        claimed = 60 if kind == "claim" else 40
        lines = [line for line in err.splitlines() if "warning: " not in line]
        assert len(lines) == 1
        assert lines[0].startswith(f"{video}: {len(frames)} of the {claimed} frames")
        assert out.startswith(f"{len(frames)} frames written to outputs/street_overlay.mp4")

    def test_feature_claims_fewer_frames(self, model_file, folder):
        video = claim_frames(write_video(folder / "a.avi", moving_frames(12), "MJPG"), 5)
        assert run(model_file, "-i", video, "--save", "ids") == 0
        assert len(masks_of("outputs/a")) == 12

    def test_feature_changing_sizes(self, model_file, folder):
        """Frames of another size are scaled to that of the first one; here they claim nothing."""
        frames = moving_frames(6, 96, 64) + moving_frames(6, 48, 48)
        video = write_jpegs(folder / "a.avi", frames)
        assert run(model_file, "-i", video, "--save", "ids,overlay") == 0
        shapes = {ids.shape for ids in masks_of("outputs/a").values()}
        assert shapes == {(64, 96)}
        assert len(read_video(Path("outputs/a_overlay.mp4"))) == 12


class TestSource:
    def test_feature_rotation(self, model_file, folder, caplog):
        video = turn(write_video(folder / "a.mp4", moving_frames(2)))
        upright = dict(enumerate(read_video(video, upright=True)))
        assert upright[0].shape == (96, 64, 3)
        assert run(model_file, "-i", video, "--save", "ids", "-o", "stored") == 0
        assert masks_of("stored/a")["000000.png"].shape == (64, 96)
        assert "rotation by 90 degrees is not applied" in caplog.text
        assert run(model_file, "-i", video, "--save", "ids", "--exif", "apply") == 0
        expected = masks_of_images(model_file, upright)
        found = masks_of("outputs/a")
        assert all(np.array_equal(found[name], ids) for name, ids in expected.items())

    def test_exception_models_of_other_images(self, model_file, folder, capsys):
        checkpoint = torch.load(model_file, weights_only=True)
        checkpoint["meta"] |= {
            "channels": 4, "mean": [0.5] * 4, "std": [0.25] * 4,
            "band_rule": {"channels": 4, "dtype": "uint16", "bands": [0, 1, 2, 3]},
        }  # fmt: skip
        weights = checkpoint["state_dict"]
        torch.manual_seed(0)
        weights.update(models.UNet(len(CLASSES), in_channels=4, base_channels=2).state_dict())
        torch.save(checkpoint, "bands.pth")
        video = write_video(folder / "a.mp4", moving_frames(2))
        assert run("bands.pth", "-i", video) == 2
        assert "4 channels of uint16" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (["--shard", "1/2"], "--shard"),
            (["--save", "polygons.labelme"], "labelme"),
            (["--save", "idz"], "idz"),
        ],
    )
    def test_exception_options(self, model_file, folder, capsys, words, text):
        video = write_video(folder / "a.mp4", moving_frames(2))
        assert run(model_file, "-i", video, *words) == 2
        assert text in capsys.readouterr().err

    def test_exception_every_of_images(self, model_file, folder, capsys):
        assert run(model_file, "-i", folder, "--every", 2) == 2
        assert "--every" in capsys.readouterr().err


def test_feature_street(real_data, folder, bright_model):
    """A real street, whose overlay is that of its frames."""
    images = sorted((real_data / "camvid" / "val").glob("*"))[:6]
    frames = [np.array(Image.open(path).convert("RGB")) for path in images]
    video = write_video(folder / "street.mp4", frames)
    assert run(bright_model, "-i", video, "--save", "ids,overlay", "--every", 2) == 0
    masks = masks_of("outputs/street")
    found = read_video(Path("outputs/street_overlay.mp4"))
    height, width = frames[0].shape[:2]
    for frame, ids, shown in zip(read_video(video)[::2], masks.values(), found, strict=True):
        expected = lay_over(frame, ids, BRIGHT)
        assert distance(shown[:height, :width], expected) < 12
