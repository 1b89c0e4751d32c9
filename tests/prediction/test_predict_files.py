"""inference.py as a program: products, maps, sizes, passes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy import ndimage

from prediction.predictor.windows import WindowRule
from tests.prediction.conftest import CLASSES
from tests.prediction.program import pixels_of, predictor_of, run, write_image, written
from utils.memory import resident_memory


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

    @pytest.mark.parametrize(
        ("kind", "said"), [("mask", True), ("alpha", True), ("infrared", False)]
    )
    @pytest.mark.parametrize("window", [(), ("--window", "64")])
    def test_feature_masks_and_alpha_are_no_data(self, model_file, folder, kind, said, window):
        """Source: GDAL's mask of the file; a band with many values is no mask."""
        rasterio = pytest.importorskip("rasterio")
        generator = np.random.default_rng(0)
        pixels = generator.integers(1, 255, (3, 150, 220), dtype=np.uint8)
        valid = np.full((150, 220), 255, np.uint8)
        valid[30:90, 100:] = 0
        fourth = generator.integers(0, 255, (150, 220), dtype=np.uint8)
        alpha = {} if kind == "mask" else {"alpha": "YES"}
        bands = {"mask": pixels, "alpha": np.stack([*pixels, valid]),
                 "infrared": np.stack([*pixels, fourth])}[kind]  # fmt: skip
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(
                folder / "map.tif", "w", driver="GTiff", dtype="uint8", count=len(bands),
                height=150, width=220, photometric="rgb", crs="EPSG:32633",
                transform=rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000), **alpha,
            ) as file,
        ):  # fmt: skip
            file.write(bands)
            if kind == "mask":
                file.write_mask(valid)
        save = "ids,confidence,entropy,probabilities,table"
        assert run(model_file, "-i", folder, "--save", save, *window) == 0
        rule = WindowRule(64) if window else None
        expected = predictor_of(model_file).predict(np.moveaxis(pixels, 0, 2), rule)
        hole = (valid == 0) & said
        expected[hole] = 255
        with rasterio.open("outputs/map.tif") as mask:
            np.testing.assert_array_equal(mask.read(1), expected)
        for name in ("confidence", "entropy", "probabilities"):
            with rasterio.open(f"outputs/map_{name}.tif") as file:
                assert (np.isnan(file.read().astype("f4")) == hole).all()
                assert np.isnan(file.nodata) if said else file.nodata is None
        rows = list(csv.DictReader(Path("outputs/table.csv").read_text().splitlines()))
        empty = [int(row["pixels"]) for row in rows if row["class"] == "(no data)"]
        assert empty == ([hole.sum()] if said else [])
        assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-4)
        assert sum(int(row["pixels"]) for row in rows) == 150 * 220

    def test_feature_what_is_not_taken_over_is_said(self, model_file, folder, capsys):
        rasterio = pytest.importorskip("rasterio")
        from rasterio.control import GroundControlPoint

        kind = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": 30, "width": 40,
                "photometric": "rgb"}  # fmt: skip
        corners = [(0, 0), (0, 40), (30, 0), (30, 40)]
        points = [GroundControlPoint(r, c, 4e5 + c, 5e6 - r - c / 9) for r, c in corners]
        with rasterio.open(
            folder / "points.tif", "w", gcps=points, crs="EPSG:32633", **kind
        ) as file:
            file.write(np.full((3, 30, 40), 9, np.uint8))
        assert run(model_file, "-i", folder) == 0
        assert written(Path("outputs")) == ["points.png"]
        assert "points.tif: is placed by ground control points" in capsys.readouterr().err
        (folder / "points.tif").unlink()
        for name, world in (("a.png", "a.pgw"), ("b.jpg", "b.wld"), ("c.tif", "c.tfw")):
            write_image(folder / name)
            (folder / world).write_text("1\n0\n0\n-1\n0\n0\n")
            assert run(model_file, "-i", folder / name) == 0
            assert f"{name}: is placed by the world file {world}" in capsys.readouterr().err
        assert run(model_file, "-i", folder, "-o", "again") == 0  # of several, it is said once
        assert capsys.readouterr().err.count("is placed by the world file") == 1

    def test_exception_without_rasterio(self, model_file, map_file, monkeypatch, capsys):
        monkeypatch.setattr("utils.files.gdal.has_rasterio", lambda: False)
        assert run(model_file, "-i", map_file) == 2
        err = capsys.readouterr().err
        assert "map.tif: is geo-referenced, and so are its masks" in err
        assert "pip install rasterio" in err


class TestNames:
    def test_exception_names_that_would_be_too_long(self, model_file, folder, capsys):
        """Before anything of the image is written."""
        write_image(folder / f"{'n' * 240}.png")
        write_image(folder / "a.png")
        assert run(model_file, "-i", folder, "--save", "ids,probabilities") == 1
        assert "would have a name of more than 255 bytes" in capsys.readouterr().err
        assert written(Path("outputs")) == ["a.png", "a_probabilities.npy"]

    def test_feature_names_like_formulas_stay_apart(self, model_file, folder):
        for number, name in enumerate(["=x.png", "'=x.png"]):
            write_image(folder / name, seed=number)
        assert run(model_file, "-i", folder, "--save", "ids,table") == 0
        rows = csv.DictReader(Path("outputs/table.csv").read_text().splitlines())
        assert {row["image"] for row in rows} == {"'=x.png", "''=x.png"}


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
            (["--scales", "0", "--mode", "multiscale"], "one or more numbers above 0"),
            (["--scales", "2"], "--scales: is for --mode multiscale, not whole"),
            (["--simplify", "2"], "--simplify: is for --save polygons, which is not asked"),
            (["--outlines"], "--outlines: is for --save overlay"),
            (["--output", ""], "--output: the name of the folder is empty"),
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
        assert "--memory: a window of 2600 pixels takes about" in capsys.readouterr().err
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
