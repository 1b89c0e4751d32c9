"""inference.py as a program: many images, sources, faults."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.conftest import ROOT
from tests.prediction.program import run, run_apart, write_image, written


class TestMany:
    def images(self, folder, count=9):
        for number in range(count):
            write_image(folder / f"d{number % 2}" / f"{number}.png", seed=number)

    def test_feature_shards_make_each_image_once(self, model_file, folder):
        self.images(folder)
        assert run(model_file, "-i", folder, "-o", "whole") == 0
        names = []
        for number in (1, 2, 3):
            assert run(model_file, "-i", folder, "-o", f"s{number}", "--shard", f"{number}/3") == 0
            names += written(Path(f"s{number}")) if Path(f"s{number}").exists() else []
        assert sorted(names) == written(Path("whole"))

    def test_feature_a_manifest_verifies_and_skips(self, model_file, folder, capsys):
        self.images(folder, 4)
        (folder / "bad.png").write_bytes(b"no image")
        words = ["-i", folder, "--manifest", "m.csv", "--save", "ids,confidence"]

        def said():
            code = run(model_file, *words)
            return code, capsys.readouterr().out.splitlines()[-1]

        assert said()[0] == 1
        rows = {row["path"]: row for row in csv.DictReader(Path("m.csv").read_text().splitlines())}
        assert len(rows) == 5 and rows["bad.png"]["error"] and not rows["d0/0.png"]["error"]
        code, text = said()
        assert (code, text.partition(";")[0]) == (1, "0 masks written to outputs")
        assert "4 kept as they were" in text
        # A product that was changed is made again, one that is gone too.
        good = Path("outputs/d0/0.png").read_bytes()
        Path("outputs/d0/0.png").write_bytes(good + b"x")
        Path("outputs/d1/1_confidence.png").unlink()
        code, text = said()
        assert text.startswith("2 masks written")
        assert Path("outputs/d0/0.png").read_bytes() == good
        # So is everything with other options, or if an image has changed.
        write_image(folder / "d0/0.png", seed=77)
        assert said()[1].startswith("1 mask written")
        words += ["--flip", "horizontal"]
        assert said()[1].startswith("4 masks written")

    @pytest.mark.parametrize("manifest", [(), ("--manifest", "m.csv")])
    @pytest.mark.parametrize("gone", ["table.csv", "index.html"])
    def test_feature_a_table_or_page_that_is_gone_is_made_again(
        self, model_file, folder, manifest, gone
    ):
        self.images(folder, 3)
        words = ["-i", folder, "--save", "ids,table,summary", *manifest]
        assert run(model_file, *words) == 0
        before = Path("outputs", gone).read_text()
        Path("outputs", gone).unlink()
        assert run(model_file, *words) == 0
        after = Path("outputs", gone).read_text()
        assert after == before if gone == "table.csv" else "d0/0.png" in after

    @pytest.mark.parametrize("manifest", [(), ("--manifest", "m.csv")])
    def test_feature_a_page_that_did_not_fit_on_the_disk(
        self, model_file, folder, capsys, monkeypatch, manifest
    ):
        import prediction.products.summary as module

        self.images(folder, 3)
        words = ["-i", folder, "--save", "ids,summary", *manifest]

        def full(*words, **options):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(module, "write_text", full)
            assert run(model_file, *words) == 1
        assert "No space left" in capsys.readouterr().err
        assert not Path("outputs/index.html").exists()
        assert run(model_file, *words) == 0
        assert "d0/2.png" in Path("outputs/index.html").read_text()

    def test_feature_two_runs_at_once_make_each_image_once(
        self, model_file, folder, capsys, monkeypatch
    ):
        """What the other one has finished meanwhile is kept, and no failure."""
        import prediction.predict_images as module

        self.images(folder, 3)
        whole = module.open_image

        def overtaken(path, *rest):
            target = Path("outputs/d0/2.png")
            if path.name == "2.png":
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(b"by the other run")
            return whole(path, *rest)

        monkeypatch.setattr(module, "open_image", overtaken)
        assert run(model_file, "-i", folder) == 0
        assert "1 kept as they were" in capsys.readouterr().out
        assert Path("outputs/d0/2.png").read_bytes() == b"by the other run"

    def test_feature_options_given_again_add_up(self, model_file, folder):
        for name in "ab":
            write_image(folder / f"{name}.png")
        words = ["-i", folder / "a.png", "-i", folder / "b.png"]
        assert run(model_file, *words, "--save", "ids", "--save", "confidence") == 0
        assert written(Path("outputs")) == [
            "a.png", "a_confidence.png", "b.png", "b_confidence.png"
        ]  # fmt: skip
        words = ["-m", model_file, *words, "--ensemble-weights", "1,2", "-o", "two"]
        assert run(model_file, *words) == 0

    def test_feature_a_manifest_leaves_foreign_files(self, model_file, folder, capsys):
        self.images(folder, 1)
        Path("outputs/d0").mkdir(parents=True)
        Path("outputs/d0/0.png").write_text("mine")
        assert run(model_file, "-i", folder, "--manifest", "m.csv") == 1
        assert "exists and is not in the manifest" in capsys.readouterr().err
        assert Path("outputs/d0/0.png").read_text() == "mine"


class TestSources:
    def test_feature_a_list(self, model_file, folder):
        for name in "abc":
            write_image(folder / f"{name}.png")
        (folder / "list.csv").write_text("label,file\n1,a.png\n2,c.png\n")
        assert run(model_file, "-i", folder / "list.csv") == 0
        assert written(Path("outputs")) == ["a.png", "c.png"]

    def test_feature_standard_input_and_output(self, model_file, folder, capfdbinary, monkeypatch):
        for name in "ab":
            write_image(folder / f"{name}.png")
        lines = f"{folder}/a.png\n{folder}/gone.png\n{folder}/b.png\n{folder}/a.png\n"
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
        assert run(model_file, "-i", "-") == 1
        out, err = capfdbinary.readouterr()
        below = str(folder).lstrip("/")
        assert out.decode().splitlines()[:2] == [
            f"outputs/{below}/a.png", f"outputs/{below}/b.png"
        ]  # fmt: skip
        assert b"gone.png: no such file" in err and b"masks written to outputs" in err

    def test_feature_each_path_is_answered_before_the_next_one_comes(
        self, model_file, folder, monkeypatch
    ):
        for name in "ab":
            write_image(folder / f"{name}.png")
        seen = []

        class Lines:
            def __iter__(self):
                for name in "ab":
                    yield f"{folder}/{name}.png\n".encode()
                    seen.append(len(list(Path("outputs").rglob("*.png"))))

        class Stream:
            buffer = Lines()

        monkeypatch.setattr("sys.stdin", Stream())
        assert run(model_file, "-i", "-", "--save", "ids,table") == 0
        assert seen == [1, 2]
        assert run(model_file, "-i", "-", "--save", "table") == 0

    @pytest.mark.slow
    def test_feature_a_pipe_that_is_closed(self, model_file, folder):
        for number in range(30):
            write_image(folder / f"{number}.png")
        command = (
            f"ls {folder}/*.png | {sys.executable} {ROOT}/inference.py -m {model_file} -i - "
            "--mode whole --device cpu | head -1"
        )
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, timeout=300,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.stdout.startswith("outputs/") and "Traceback" not in done.stderr


class TestStreams:
    """Standard streams that are closed, full, or not what they should be."""

    @pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
    def test_edge_a_closed_stream(self, model_file, folder, streams):
        write_image(folder / "a.png")
        assert run_apart(model_file, "-i", folder, streams=streams).returncode == 0
        assert written(Path("outputs")) == ["a.png"]

    def test_exception_paths_from_a_closed_stream(self, model_file, folder):
        done = run_apart(model_file, "-i", "-", streams="<&-")
        assert done.returncode == 2 and "without standard input" in done.stderr

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_exception_a_full_standard_output(self, model_file, folder):
        write_image(folder / "a.png")
        done = run_apart(model_file, "-i", folder, streams="> /dev/full")
        assert done.returncode == 1
        assert "standard output: No space left on device" in done.stderr
        assert written(Path("outputs")) == ["a.png"]

    def test_exception_lines_that_are_separated_by_nuls(
        self, model_file, folder, capsys, monkeypatch
    ):
        write_image(folder / "a.png")
        lines = f"{folder}/a.png\0{folder}/b.png\0".encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
        assert run(model_file, "-i", "-") == 2
        assert "got NULs (find without -print0)" in capsys.readouterr().err


class TestFaults:
    def test_feature_a_full_disk_ends_the_run(self, model_file, folder, capsys, monkeypatch):
        for name in "abcd":
            write_image(folder / f"{name}.png")
        from utils.files.png_writer import PngWriter

        whole, made = PngWriter.write, []

        def full(self, rows):
            made.append(rows)
            if len(made) > 2:
                raise OSError(28, "No space left on device")
            whole(self, rows)

        with monkeypatch.context() as patch:
            patch.setattr(PngWriter, "write", full)
            assert run(model_file, "-i", folder, "--workers", "0") == 1
        err = capsys.readouterr().err
        assert err.count("No space left") == 1 and "run the same command again" in err
        assert written(Path("outputs")) == ["a.png", "b.png"]
        assert run(model_file, "-i", folder) == 0
        assert written(Path("outputs")) == [f"{name}.png" for name in "abcd"]

    def test_feature_a_disk_that_is_full_in_the_middle_of_a_mosaic(
        self, model_file, folder, capsys, monkeypatch
    ):
        write_image(folder / "a.png")
        write_image(folder / "b.png", (700, 900))
        from utils.files.png_writer import PngWriter

        whole, rows_of = PngWriter.write, []

        def full(self, rows):
            if rows.shape[1] == 700:
                rows_of.append(len(rows))
                if len(rows_of) > 3:
                    raise OSError(28, "No space left on device")
            whole(self, rows)

        words = ["-i", folder, "--window", "128", "--workers", "0"]
        with monkeypatch.context() as patch:
            patch.setattr(PngWriter, "write", full)
            assert run(model_file, *words) == 1
        assert 0 < sum(rows_of) < 900
        assert "run the same command again" in capsys.readouterr().err
        assert written(Path("outputs")) == ["a.png"]
        assert run(model_file, *words) == 0
        assert written(Path("outputs")) == ["a.png", "b.png"]

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_feature_a_signal_in_the_middle_of_a_mosaic(self, model_file, folder, number):
        """No half file stays, and the same command goes on."""
        write_image(folder / "a.png", (30, 20))
        write_image(folder / "b.png", (2500, 2500))
        command = [
            sys.executable, ROOT / "inference.py", "-m", model_file, "-i", folder, "--device",
            "cpu", "--mode", "whole", "--window", "64", "--save", "ids,overlay,probabilities",
        ]  # fmt: skip
        process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        until, names = time.monotonic() + 200, ["a.png", "a_overlay.png", "a_probabilities.npy"]

        def is_in_the_middle():
            there = [path.name for path in Path("outputs").glob("*")]
            return set(names) < set(there) and process.poll() is None

        while not is_in_the_middle() and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=200)
        assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[number], err
        assert b"Traceback" not in err
        assert written(Path("outputs")) == names
        assert run(model_file, "-i", folder, "--window", "512", "--save", "ids,overlay") == 0
        assert "b.png" in written(Path("outputs"))

    def test_feature_an_image_that_vanishes(self, model_file, folder, capsys, monkeypatch):
        import prediction.predict_images as module

        for name in "abc":
            write_image(folder / f"{name}.png")
        whole = module.open_image

        def gone(path, *rest):
            if path.name == "b.png":
                path.unlink()
            return whole(path, *rest)

        monkeypatch.setattr(module, "open_image", gone)
        assert run(model_file, "-i", folder) == 1
        assert "skipped" in (err := capsys.readouterr().err) and "b.png: no such file" in err
        assert written(Path("outputs")) == ["a.png", "c.png"]

    def test_feature_a_window_that_cannot_be_read(self, model_file, folder, capsys, monkeypatch):
        """In the middle of a mosaic: nothing of it is there."""
        import prediction.predictor.memory as memory

        tifffile.imwrite(folder / "a.tif", np.random.default_rng(0).integers(
            0, 255, (300, 300, 3), dtype=np.uint8), photometric="rgb", tile=(64, 64),
            compression="zlib")  # fmt: skip
        data = bytearray((folder / "a.tif").read_bytes())
        data[-9000:-4000] = bytes(5000)
        (folder / "a.tif").write_bytes(data)
        write_image(folder / "b.png")
        shares = memory.Shares(0, 10**9, 10**9, 10**9, 10**9)
        monkeypatch.setattr(memory.MemoryBudget, "shares", lambda self: shares)
        assert run(model_file, "-i", folder, "--window", "64") == 1
        assert "a.tif: is damaged" in capsys.readouterr().err
        assert written(Path("outputs")) == ["b.png"]
