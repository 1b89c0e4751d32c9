"""`Segmenter`: the same as inference.py, from Python, from any folder."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import inference
from prediction import Segmenter
from tests.conftest import ROOT
from tests.prediction.conftest import CLASSES
from utils.drawing.overlay import draw_overlay


def pixels_of(size=(30, 22), seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


@pytest.fixture
def segmenter(model_file):
    return Segmenter(model_file, device="cpu", mode="whole")


def test_feature_equals_inference(segmenter, model_file, folder):
    Image.fromarray(pixels_of()).save(folder / "a.png")
    words = ["-m", str(model_file), "-i", str(folder), "--mode", "whole", "--device", "cpu"]
    assert inference.main([*words, "--save", "ids,overlay"]) == 0
    expected = np.array(Image.open("outputs/a.png"))
    result = segmenter(folder / "a.png")
    assert result.ids.tolist() == expected.tolist()
    assert len(np.unique(expected)) > 1
    overlay = np.array(Image.open("outputs/a_overlay.png"))
    assert np.array(result.overlay()).tolist() == overlay.tolist()
    assert result.save("out", products=["ids"]) == [Path("out/a.png")]
    assert np.array(Image.open("out/a.png")).tolist() == expected.tolist()


def test_feature_every_kind_of_image_is_the_same(segmenter, folder):
    pixels = pixels_of()
    Image.fromarray(pixels).save(folder / "a.png")
    chw = torch.from_numpy(pixels).permute(2, 0, 1)
    kinds = [
        folder / "a.png", str(folder / "a.png"), Image.fromarray(pixels), pixels, chw,
        chw.float() / 255, np.asfortranarray(pixels),
    ]  # fmt: skip
    results = segmenter(kinds)
    assert len(results) == len(kinds)
    for result in results:
        assert result.ids.tolist() == results[0].ids.tolist()
    batch = segmenter(torch.stack([chw, chw]))
    assert [one.ids.tolist() for one in batch] == [results[0].ids.tolist()] * 2


def test_feature_result(segmenter):
    pixels = pixels_of()
    result = segmenter(pixels)
    assert result.ids.shape == result.confidence.shape == (22, 30)
    logits = segmenter._predictor.predict_logits(pixels)
    np.testing.assert_allclose(result.confidence, logits.softmax(0).max(0).values, rtol=1e-5)
    for number, name in enumerate(CLASSES):
        assert result.area(name) == (result.ids == number).sum() == result.mask(name).sum()
    assert result.unit == "pixels"
    palette = np.array(segmenter.palette, np.uint8)
    assert np.array(result.colour()).tolist() == palette[result.ids].tolist()
    expected = draw_overlay(pixels, result.ids, CLASSES, segmenter.palette)
    assert np.array(result.overlay()).tolist() == expected.tolist()
    assert repr(result).startswith("Segmentation(22x30, mostly ")


def test_feature_unsure_pixels_have_no_class(model_file):
    result = Segmenter(model_file, device="cpu", mode="whole", unsure=0.7)(pixels_of())
    assert (result.ids[result.confidence < 0.7] == 255).all()
    assert (result.ids[result.confidence >= 0.7] < len(CLASSES)).all()
    assert 0 < (result.ids == 255).mean() < 1
    assert sum(map(result.area, CLASSES)) == (result.ids != 255).sum()
    result.colour()
    result.overlay()


def test_feature_products(segmenter, tmp_path):
    pixels = pixels_of()
    products = ["ids.npy", "probabilities", "class:road", "confidence"]
    files = segmenter.save(pixels, tmp_path / "new", products, name="b")
    names = ["b.npy", "b_probabilities.npy", "b_road.png", "b_confidence.png"]
    assert [file.name for file in files] == names
    result = segmenter(pixels)
    assert np.load(files[0]).tolist() == result.ids.tolist()
    assert np.load(files[1]).shape == (len(CLASSES), 22, 30)
    with pytest.raises(FileExistsError, match=r"b\.npy already exists"):
        segmenter.save(pixels, tmp_path / "new", products, name="b")
    segmenter.save(pixels, tmp_path / "new", products, name="b", overwrite=True)


def test_feature_area_of_a_map(model_file, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    kind = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": 22, "width": 30}
    transform = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)
    with rasterio.open(
        tmp_path / "a.tif", "w", crs="EPSG:32633", transform=transform, photometric="rgb", **kind
    ) as file:
        file.write(np.moveaxis(pixels_of(), 2, 0))
    result = Segmenter(model_file, device="cpu", mode="whole")(tmp_path / "a.tif")
    assert result.area("road") == (result.ids == 1).sum() * 0.25
    assert result.unit == "square metre"
    (path,) = result.save(tmp_path / "out")
    with rasterio.open(path) as file:
        assert (file.crs.to_epsg(), file.transform) == (32633, transform)
        assert file.read(1).tolist() == result.ids.tolist()


def test_feature_an_ensemble(model_file, tmp_path):
    content = torch.load(model_file, weights_only=True)
    content["state_dict"]["final_conv.weight"] *= -1
    torch.save(content, tmp_path / "b.pth")
    both = Segmenter([model_file, tmp_path / "b.pth"], device="cpu", mode="whole")
    logits = [
        Segmenter(path, device="cpu", mode="whole")._predictor.predict_logits(pixels_of())
        for path in (model_file, tmp_path / "b.pth")
    ]
    assert both(pixels_of()).ids.tolist() == ((logits[0] + logits[1]) / 2).argmax(0).tolist()
    content["meta"]["classes"] = [*CLASSES[:2], "house"]
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(ValueError, match=r"same classes in one order \(class 2: 'tree' and 'ho"):
        Segmenter([model_file, tmp_path / "c.pth"])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), r"expected an image \(H, W, 3\).* got shape \(4, 4, 4\)"),
        (np.zeros((4, 4), np.uint8), r"got shape \(4, 4, 1\)"),
        (np.zeros((0, 4, 3), np.uint8), "got shape"),
        (torch.zeros(4, 4), r"expected a tensor \(C, H, W\)"),
        (np.full((4, 4, 3), 300, np.int32), "takes uint8 values .* got int32 from 300 to 300"),
        (np.full((4, 4, 3), 2.5), "floats in 0..1.* got float64 from 2.5"),
        ("nowhere.png", "no such file"),
        (Image.fromarray(np.full((4, 4), 700, np.uint16)), "mode I;16, which is not 8 bits"),
        (Image.fromarray(np.zeros((4, 4), np.float32)), "mode F, which is not 8 bits"),
        (None, "got NoneType"),
        ([None], "cannot be a NoneType"),
        (7, "got int"),
    ],
)
def test_exception_images(segmenter, image, message):
    with pytest.raises(ValueError, match=message):
        segmenter(image)


def test_exception_names(segmenter, model_file, tmp_path):
    with pytest.raises(ValueError, match="no class 'raod'; the classes are sky, road, tree"):
        segmenter(pixels_of()).area("raod")
    with pytest.raises(ValueError, match="table is of a whole run"):
        segmenter.save(pixels_of(), tmp_path, ["table"])
    with pytest.raises(ValueError, match="no product 'idz'; did you mean 'ids'"):
        segmenter.save(pixels_of(), tmp_path, ["idz"])
    with pytest.raises(ValueError, match="there is no file"):
        Segmenter(tmp_path / "gone.pth")
    for settings, message in (
        ({"memory": "much"}, "not a size"), ({"window": 0}, "at least 32 pixels a side, got 0"),
        ({"window": 64.5}, "whole number of pixels, got 64.5"), ({"exif": "x"}, "exif: expected"),
        ({"mode": "all"}, "no mode 'all'"), ({"scales": ()}, "one or more numbers"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            Segmenter(model_file, **settings)
    with pytest.raises(ValueError, match="at least one"):
        Segmenter([])


def test_feature_exif_of_files_and_of_pil(model_file, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels_of()).save(tmp_path / "a.png", exif=exif.tobytes())
    for rule, size in (("apply", (30, 22)), ("ignore", (22, 30))):
        segmenter = Segmenter(model_file, device="cpu", mode="whole", exif=rule)
        results = segmenter([tmp_path / "a.png", Image.open(tmp_path / "a.png")])
        assert [result.ids.shape for result in results] == [size, size]
        assert results[0].ids.tolist() == results[1].ids.tolist()


def printing(cell):
    """A cell that prints what a notebook would show: the value of its last line."""
    tree = ast.parse(cell)
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        shown = ast.Call(ast.Name("print", ast.Load()), [last.value], [])
        tree.body[-1] = ast.fix_missing_locations(ast.Expr(shown))
    return ast.unparse(tree)


def test_feature_the_notebook_of_the_guide_runs(model_file, tmp_path):
    """Its cells as one script, in its folder."""
    tree = json.loads((ROOT / "docs/prediction.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in tree["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 7 and all(not cell.get("outputs") for cell in tree["cells"])
    script = "\n".join(map(printing, cells))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT / "docs", capture_output=True, text=True,
        timeout=300, env={**os.environ, "MODEL": str(model_file), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Segmentation(" in done.stdout and "torch.Size([2, 3, 64, 64])" in done.stdout


class TestElsewhere:
    """The two lines of the guide, in another folder."""

    def run(self, folder, code):
        return subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300
        )

    def lines(self, model_file):
        return (
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
            "from prediction import Segmenter\n"
            "import numpy as np\n"
            f"segmenter = Segmenter({str(model_file)!r}, device='cpu', mode='whole')\n"
            "print(segmenter(np.zeros((5, 6, 3), np.uint8)).ids.shape)"
        )

    def test_feature_import(self, model_file, tmp_path):
        done = self.run(tmp_path, self.lines(model_file))
        assert done.stdout == "(5, 6)\n", done.stderr

    def test_feature_own_modules_of_the_same_names_do_no_harm_behind(self, model_file, tmp_path):
        (tmp_path / "utils.py").write_text("raise SystemError('mine')")
        done = self.run(tmp_path, self.lines(model_file))
        assert done.stdout == "(5, 6)\n", done.stderr

    @pytest.mark.parametrize("kind", ["imported before", "found before"])
    def test_exception_own_modules_in_front(self, model_file, tmp_path, kind):
        (tmp_path / "utils.py").write_text("mine = 1")
        lines = self.lines(model_file)
        if kind == "imported before":
            lines = f"import utils\n{lines}"
        else:
            lines = lines.replace("sys.path.insert(0, ", "sys.path.append(")
        done = self.run(tmp_path, lines)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("ImportError: 'utils' of ") and f"{kind} that of {ROOT}" in last


def test_exception_an_array_that_was_changed(segmenter, folder):
    """Products of other pixels than those of the result would contradict it."""
    for image in (pixels_of(), torch.from_numpy(pixels_of()).permute(2, 0, 1)):
        result = segmenter(image)
        result.overlay()
        image[:] = 0
        for call in (result.overlay, lambda result=result: result.save("out")):
            with pytest.raises(ValueError, match="the image has changed since it was predicted"):
                call()
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["", " ", "../a", "/tmp/a", "a/b", ".."])
def test_exception_names_with_folders(segmenter, folder, name):
    with pytest.raises(ValueError, match="name: expected that of a file, without folders"):
        segmenter.save(pixels_of(), "out", name=name)


def test_feature_half_precision_tensors(segmenter):
    image = torch.from_numpy(pixels_of()).permute(2, 0, 1) // 128 * 128 / 256
    expected = segmenter(image).ids
    assert segmenter(image.bfloat16()).ids.tolist() == expected.tolist()


def test_exception_an_address(segmenter):
    with pytest.raises(ValueError, match="addresses are for inference.py --allow-download"):
        segmenter("https://example.com/a.png")


def test_feature_classes_of_one_name_have_their_ids(model_file, folder):
    content = torch.load(model_file, weights_only=True)
    content["meta"]["classes"] = ["x", "x", "y"]
    torch.save(content, "same.pth")
    segmenter = Segmenter("same.pth", device="cpu", mode="whole")
    result = segmenter(pixels_of())
    with pytest.raises(ValueError, match="2 classes are called 'x'; name one by its id: 0, 1"):
        result.area("x")
    for number in range(3):
        count = int((result.ids == number).sum())
        assert result.area(number) == result.area(str(number)) == count
        (path,) = segmenter.save(pixels_of(), "out", [f"class:{number}"])
        assert (np.array(Image.open(path)) == 255).sum() == count
