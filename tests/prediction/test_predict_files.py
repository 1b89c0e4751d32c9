"""inference.py as a program: products, sizes, sources, shards, manifests."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy import ndimage

import inference
from prediction.load_model import restore
from prediction.predictor.network import Predictor
from prediction.predictor.windows import WindowRule
from tests.conftest import ROOT
from tests.prediction.conftest import CLASSES
from tests.prediction.test_inference import write_image, written
from utils.memory import resident_memory


def run(model_file, *arguments):
    words = ["-m", *map(str, [model_file] if isinstance(model_file, (str, Path)) else model_file)]
    extra = [] if "--mode" in arguments else ["--mode", "whole"]
    return inference.main([*words, "--device", "cpu", *extra, *map(str, arguments)])


def predictor_of(model_file, **settings):
    model, meta = restore(model_file, "cpu")
    return Predictor(model, meta.mean, meta.std, "cpu", mode="whole", **settings)


def pixels_of(path):
    return np.array(Image.open(path).convert("RGB"))


class TestProducts:
    def test_feature_each_is_what_the_logits_say(self, model_file, folder):
        source = write_image(folder / "a.png", (61, 44))
        save = "ids,ids.npy,colour,overlay,confidence,entropy.tif,probabilities,class:road"
        assert run(model_file, "-i", folder, "--save", save) == 0
        assert written(Path("outputs")) == [
            "a.npy", "a.png", "a_colour.png", "a_confidence.png", "a_entropy.tif",
            "a_overlay.png", "a_probabilities.npy", "a_road.png",
        ]  # fmt: skip
        logits = predictor_of(model_file).predict_logits(pixels_of(source))
        probabilities = logits.softmax(0).numpy()
        ids = logits.argmax(0).numpy()
        assert len(np.unique(ids)) > 1
        np.testing.assert_array_equal(np.load("outputs/a.npy"), ids)
        np.testing.assert_array_equal(np.array(Image.open("outputs/a.png")), ids)
        np.testing.assert_array_equal(np.array(Image.open("outputs/a_road.png")), 255 * (ids == 1))
        made = np.load("outputs/a_probabilities.npy")
        np.testing.assert_allclose(made, probabilities, atol=1e-3)
        confidence = np.array(Image.open("outputs/a_confidence.png")).astype(int)
        assert np.abs(confidence - 255 * probabilities.max(0)).max() <= 0.51
        entropy = -(probabilities * np.log(probabilities)).sum(0) / np.log(3)
        np.testing.assert_allclose(tifffile.imread("outputs/a_entropy.tif"), entropy, atol=1e-5)

    def test_feature_table_and_polygons(self, model_file, folder):
        rasterio = pytest.importorskip("rasterio.features")
        for name, size in (("a", (61, 44)), ("b", (30, 25))):
            write_image(folder / "sub" / f"{name}.png", size)
        assert run(model_file, "-i", folder, "--save", "ids,table,polygons,summary") == 0
        lines = list(csv.DictReader(Path("outputs/table.csv").read_text().splitlines()))
        assert len(lines) == 2 * len(CLASSES)
        for name in "ab":
            ids = np.array(Image.open(f"outputs/sub/{name}.png"))
            own = [line for line in lines if line["image"] == f"sub/{name}.png"]
            for number, line in enumerate(own):
                mask = ids == number
                assert (line["class"], int(line["pixels"])) == (CLASSES[number], mask.sum())
                assert int(line["regions"]) == ndimage.label(mask)[1]
            tree = json.loads(Path(f"outputs/sub/{name}.geojson").read_text())
            drawn = rasterio.rasterize(
                [(f["geometry"], f["properties"]["class_id"]) for f in tree["features"]],
                ids.shape, fill=255, dtype="uint8",
            )  # fmt: skip
            np.testing.assert_array_equal(drawn, ids)
        assert "<html" in Path("outputs/index.html").read_text()

    def test_feature_what_exists_is_kept_and_what_is_missing_is_made(
        self, model_file, folder, capsys
    ):
        write_image(folder / "a.png")
        assert run(model_file, "-i", folder) == 0
        before = Path("outputs/a.png").stat()
        assert run(model_file, "-i", folder, "--save", "ids,confidence,table") == 0
        assert Path("outputs/a.png").stat() == before
        assert written(Path("outputs"))[:3] == [".table.csv.lock", "a.png", "a_confidence.png"]
        capsys.readouterr()
        assert run(model_file, "-i", folder, "--save", "ids,confidence,table") == 0
        assert "0 masks written to outputs; 1 kept" in capsys.readouterr().out
        Path("outputs/table.csv").unlink()
        assert run(model_file, "-i", folder, "--save", "ids,table") == 0
        assert Path("outputs/table.csv").exists()

    def test_feature_unsure(self, model_file, folder):
        source = write_image(folder / "a.png", (61, 44))
        assert run(model_file, "-i", folder, "--unsure", "0.6", "--save", "ids,colour,table") == 0
        probabilities = predictor_of(model_file).predict_logits(pixels_of(source)).softmax(0)
        expected = np.where(probabilities.max(0).values < 0.6, 255, probabilities.argmax(0))
        np.testing.assert_array_equal(np.array(Image.open("outputs/a.png")), expected)
        text = Path("outputs/table.csv").read_text()
        assert f"a.png,255,(unsure),{(expected == 255).sum()}," in text

    @pytest.mark.parametrize(
        ("save", "message"),
        [
            ("idz", "no product 'idz'; did you mean 'ids'?"), ("class:raod", "did you mean 'road'"),
            ("ids.gif", "ids has no format 'gif'"), ("ids,ids", "named twice"),
            (",", "at least one"),
        ],
    )  # fmt: skip
    def test_exception_save(self, model_file, folder, capsys, save, message):
        write_image(folder / "a.png")
        assert run(model_file, "-i", folder, "--save", save) == 2
        assert message in capsys.readouterr().err
        assert not Path("outputs").exists()


class TestMaps:
    @pytest.fixture
    def map_file(self, folder):
        rasterio = pytest.importorskip("rasterio")
        pixels = np.random.default_rng(0).integers(1, 255, (150, 220, 3), dtype=np.uint8)
        pixels[:40, :50] = 0
        path = folder / "map.tif"
        kind = {"driver": "GTiff", "dtype": "uint8", "count": 3, "photometric": "rgb"}
        with rasterio.open(
            path, "w", height=150, width=220, crs="EPSG:32633", nodata=0, tiled=True,
            blockxsize=64, blockysize=64,
            transform=rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000), **kind,
        ) as file:  # fmt: skip
            file.write(np.moveaxis(pixels, 2, 0))
        return path

    @pytest.mark.parametrize("window", [(), ("--window", "64")])
    def test_feature_geo_reference_and_no_data(self, model_file, map_file, window):
        rasterio = pytest.importorskip("rasterio")
        save = "ids,confidence,polygons,table,overlay"
        assert run(model_file, "-i", map_file, "--save", save, *window) == 0
        assert written(Path("outputs"))[1:] == [
            "map.geojson", "map.tif", "map_confidence.tif", "map_overlay.png", "table.csv",
        ]  # fmt: skip
        rule = WindowRule(64) if window else None
        expected = predictor_of(model_file).predict(pixels_of(map_file), rule)
        expected[:40, :50] = 255
        with rasterio.open(map_file) as source, rasterio.open("outputs/map.tif") as mask:
            assert (mask.crs, mask.transform) == (source.crs, source.transform)
            assert mask.nodata == 255
            np.testing.assert_array_equal(mask.read(1), expected)
            assert mask.colormap(1)[1] == (40, 50, 60, 255)
        line = next(csv.DictReader(Path("outputs/table.csv").read_text().splitlines()))
        assert float(line["area"]) == int(line["pixels"]) * 0.25
        tree = json.loads(Path("outputs/map.geojson").read_text())
        points = np.array(tree["features"][0]["geometry"]["coordinates"][0])
        assert (points[:, 0] >= 400_000).all() and (points[:, 1] <= 5_000_000).all()

    def test_exception_without_rasterio(self, model_file, map_file, monkeypatch, capsys):
        monkeypatch.setattr("utils.files.gdal.has_rasterio", lambda: False)
        assert run(model_file, "-i", map_file) == 2
        err = capsys.readouterr().err
        assert "map.tif: is geo-referenced, and so are its masks" in err
        assert "pip install rasterio" in err


class TestSizes:
    @pytest.mark.parametrize("kind", ["png", "tif", "bmp", "jpg"])
    def test_feature_streamed_equals_in_memory(self, model_file, folder, kind, monkeypatch):
        """`--large` reading is forced by limits of nothing."""
        import prediction.predictor.memory as memory

        path = write_image(folder / f"a.{kind}", (333, 290))
        words = ["-i", path, "--window", "128", "--save", "ids,overlay,confidence"]
        assert run(model_file, *words, "-o", "whole") == 0
        shares = memory.Shares(0, 10**9, 0, 0, 0)
        monkeypatch.setattr(memory.MemoryBudget, "shares", lambda self: shares)
        assert run(model_file, *words, "-o", "streamed") == 0
        assert written(Path("whole")) == written(Path("streamed"))
        for name in written(Path("whole")):
            one, other = (Image.open(f"{at}/{name}") for at in ("whole", "streamed"))
            np.testing.assert_array_equal(np.array(one), np.array(other))
        expected = predictor_of(model_file).predict(pixels_of(path), WindowRule(128))
        np.testing.assert_array_equal(np.array(Image.open("streamed/a.png")), expected)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--window", "16"], "at least 32 pixels a side, got 16"),
            (["--window", "0"], "expected 1 or more, got '0'"),
            (["--overlap", "1"], "overlap of windows is in 0..0.9, got 1.0"),
            (["--memory", "lots"], "--memory: 'lots' is not a size"),
            (["--memory", "100MB"], "--memory: the program and the model alone take"),
            (["--scales", "1,x"], "expected a number, got 'x'"),
            (["--scales", "0"], "one or more positive numbers"),
            (["--unsure", "2"], "is not a probability"),
            (["--flip", "up"], "invalid choice"), (["--workers", "-1"], "0 or more, got '-1'"),
            (["--ensemble-weights", "1,2"], "2 weights for 1 models"),
            (["--shard", "5/4"], "'5/4' is no shard"),
            (["--manifest", "a.xml"], "a.xml"), (["--strength", "7"], "strength"),
        ],
    )  # fmt: skip
    def test_exception_values(self, model_file, folder, capsys, words, message):
        write_image(folder / "a.png")
        try:
            code = run(model_file, "-i", folder, *words)
        except SystemExit as end:
            code = end.code
        assert code == 2
        assert message in " ".join(capsys.readouterr().err.split())
        assert not list(Path().rglob("a*.png"))[1:]

    def test_exception_a_window_beyond_the_memory(self, model_file, folder, capsys):
        write_image(folder / "a.png", (3000, 2500))
        words = ["--memory", f"{resident_memory() + 600_000_000}", "--window", "2600"]
        assert run(model_file, "-i", folder, *words) == 2
        assert "--window: a window of 2600 pixels takes about" in capsys.readouterr().err
        assert written(Path("outputs")) == []


class TestPasses:
    def test_feature_an_ensemble(self, model_file, folder):
        content = torch.load(model_file, weights_only=True)
        content["state_dict"]["final_conv.weight"] *= -0.5
        torch.save(content, "other.pth")
        source = write_image(folder / "a.png", (40, 31))
        both = [model_file, "other.pth"]
        assert run(both, "-i", folder, "--ensemble-weights", "3,1", "--merge",
                   "mean-probabilities") == 0  # fmt: skip
        probabilities = [
            predictor_of(path).predict_logits(pixels_of(source)).softmax(0) for path in both
        ]
        expected = (3 * probabilities[0] + probabilities[1]).argmax(0)
        mask = np.array(Image.open("outputs/a.png"))
        assert (mask == expected.numpy()).mean() > 0.999

    @pytest.mark.parametrize("flip", ["both", "all8"])
    def test_feature_flips_make_turned_images_alike(self, model_file, folder, flip):
        source = write_image(folder / "a.png", (40, 32))
        turned = {"both": Image.Transpose.ROTATE_180, "all8": Image.Transpose.ROTATE_90}[flip]
        Image.open(source).transpose(turned).save(folder / "b.png")
        assert run(model_file, "-i", folder, "--flip", flip) == 0
        one, other = (Image.open(f"outputs/{name}.png") for name in "ab")
        same = np.array(one.transpose(turned)) == np.array(other)
        assert same.mean() > 0.999

    @pytest.mark.slow
    def test_feature_bf16_is_close(self, model_file, folder):
        write_image(folder / "a.png", (40, 32))
        assert run(model_file, "-i", folder, "-o", "plain") == 0
        assert run(model_file, "-i", folder, "-o", "half", "--amp", "bf16") == 0
        one, other = (np.array(Image.open(f"{at}/a.png")) for at in ("plain", "half"))
        assert 0.9 < (one == other).mean() < 1


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
            assert run(model_file, "-i", folder, "--workers", "0") == 2
        err = capsys.readouterr().err
        assert err.count("No space left") == 1 and "run the same command again" in err
        assert written(Path("outputs")) == ["a.png", "b.png"]
        assert run(model_file, "-i", folder) == 0
        assert written(Path("outputs")) == [f"{name}.png" for name in "abcd"]

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
