"""TensorFlow Lite: one image of a fixed size."""

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import export
from exporting.export_model import export_model
from exporting.formats import tflite
from exporting.spec import ExportSpec
from prediction.exported.description import Description
from prediction.exported.network import ExportedNetwork, load_exported
from prediction.load_model import restore
from tests.exporting.available import CONVERTER
from tests.prediction.program import run, write_image

litert = pytest.importorskip("ai_edge_litert.interpreter")
pytest.importorskip("onnxscript")
needs_converter = pytest.mark.skipif(not CONVERTER, reason="no onnx2tf")
SIZE = (48, 64)
SPECS = {
    "ids": ExportSpec(size=SIZE, converter=CONVERTER),
    "everything": ExportSpec("all", ("ids", "confidence", "logits"), "fp32", SIZE, CONVERTER),
    "network": ExportSpec("network", ("logits",), "fp32", SIZE, CONVERTER),
}


@pytest.fixture(scope="module")
def exported(model_file, tmp_path_factory):
    target = tmp_path_factory.mktemp("tflite")
    made = {}
    for name, spec in SPECS.items():
        (one,) = export_model(str(model_file), ["tflite"], spec, output=target / name)
        made[name] = one.path
    assert sorted(path.name for path in target.iterdir()) == sorted(f"{n}.tflite" for n in SPECS)
    return made


@needs_converter
@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_feature_a_user_needs_litert_alone(exported, model_file, name):
    """Source: the checkpoint, by torch."""
    images = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    model, meta = restore(model_file, "cpu")
    values = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (meta.mean, meta.std))
    with torch.inference_mode():
        logits = model((values - mean) / std)
    interpreter = litert.Interpreter(str(exported[name]))
    runner = interpreter.get_signature_runner()
    given = images if name != "network" else ((values - mean) / std).numpy()
    found = runner(images=given)
    assert tuple(found) and set(found) == set(SPECS[name].outputs)
    if "ids" in found:
        assert found["ids"].dtype == np.uint8 and len(np.unique(found["ids"])) > 1
        np.testing.assert_array_equal(found["ids"], logits.argmax(1))
    if "logits" in found:
        scores = found["logits"]  # the converter chooses the place of the channels
        scores = scores if scores.shape == logits.shape else scores.transpose(0, 3, 1, 2)
        np.testing.assert_allclose(scores, logits, atol=1e-4)
    if "confidence" in found:
        expected = logits.softmax(1).max(1).values
        np.testing.assert_allclose(found["confidence"], expected, atol=1e-5)


@needs_converter
@pytest.mark.slow
def test_feature_inference_takes_it_like_a_checkpoint(exported, model_file, folder):
    for number in range(2):
        write_image(folder / f"{number}.png", SIZE[::-1], seed=number)
    words = ["-i", folder, "--mode", "whole"]
    assert run(model_file, *words, "-o", "torch") == 0
    for name in SPECS:
        assert run(exported[name], *words, "-o", name, "--batch-size", "2") == 0
        for number in range(2):
            one, other = (np.array(Image.open(f"{at}/{number}.png")) for at in ("torch", name))
            assert (one == other).mean() > 0.999


@needs_converter
@pytest.mark.slow
def test_feature_other_sizes(exported, model_file, folder, capsys):
    """Smaller images get their edges repeated; larger ones go through in windows."""
    pixels = np.array(Image.open(write_image(folder / "small.png", (40, 30))))
    assert run(exported["ids"], "-i", folder, "--mode", "whole", "-o", "small") == 0
    missing = (SIZE[0] - 30, SIZE[1] - 40)
    grown = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    Path("grown").mkdir()
    Image.fromarray(grown).save("grown/small.png")
    assert run(model_file, "-i", "grown", "--mode", "whole", "-o", "torch") == 0
    one, other = (np.array(Image.open(f"{at}/small.png")) for at in ("small", "torch"))
    assert one.shape == (30, 40) and (one == other[:30, :40]).mean() > 0.999

    write_image(folder / "small.png", (110, 90))
    capsys.readouterr()
    assert run(exported["ids"], "-i", folder, "--mode", "whole", "-o", "large") != 0
    assert "takes images of 48 x 64 only: use --window 48" in capsys.readouterr().err
    words = ["-i", folder, "--mode", "whole", "--window", "48", "--blend", "none"]
    assert run(exported["ids"], *words, "-o", "large") == 0
    assert np.array(Image.open("large/small.png")).shape == (90, 110)


@needs_converter
@pytest.mark.slow
def test_exception_a_broken_exporter(model_file, tmp_path, monkeypatch):
    whole = tflite.export

    def broken(network, *rest):
        with torch.no_grad():
            network.network.final_conv.bias[0] += 0.3
            whole(network, *rest)
            network.network.final_conv.bias[0] -= 0.3

    monkeypatch.setattr(tflite, "export", broken)
    with pytest.raises(ValueError, match="tflite: random 0: "):
        export_model(str(model_file), ["tflite"], SPECS["ids"], output=tmp_path / "a")
    assert not list(tmp_path.iterdir())


@needs_converter
@pytest.mark.slow
def test_exception_what_says_nothing_of_itself(exported, tmp_path):
    """The archive at the end is taken off and put on again: the model stays as it is."""
    path = tmp_path / "a.tflite"
    path.write_bytes(exported["ids"].read_bytes())
    own = load_exported(path, torch.device("cpu")).description
    length = tflite.length_of_model(path)
    tflite.describe(path, own)
    assert tflite.length_of_model(path) == length
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [tflite.ENTRY]
    assert own.size == SIZE and own.proof["equal_pixels"] >= 0.999
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="was not written by export.py"):
        load_exported(path, torch.device("cpu"))


def test_feature_a_network_of_one_size():
    """It gets images with their edges repeated, and refuses larger ones."""
    given = []

    def run(images):
        given.append(images)
        return [np.zeros((1, 3, *images.shape[1:3]), np.float32)]

    description = Description(
        inside="all", outputs=("logits",), size=(4, 6), input_type="uint8", arch="Net",
        meta={"classes": ["a", "b", "c"]}, checkpoint_sha256="", versions={},
    )  # fmt: skip
    network = ExportedNetwork(description, run)
    images = torch.arange(3 * 2 * 5.0).reshape(1, 3, 2, 5)
    assert network(images).shape == (1, 3, 2, 5)
    expected = np.pad(images[0].permute(1, 2, 0), ((0, 2), (0, 1), (0, 0)), mode="edge")
    np.testing.assert_array_equal(given[0], expected[None])
    with pytest.raises(ValueError, match="takes images of 4 x 6 only: use --window 4"):
        network(torch.zeros(1, 3, 5, 6))


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "--to tflite: needs --size HEIGHTxWIDTH"),
     (["--size", "0x4"], "--size: expected HEIGHTxWIDTH in pixels"),
     (["--size", "64*64"], "--size: expected HEIGHTxWIDTH in pixels"),
     (["--size", "64", "--python", "nowhere"], "--python: nowhere cannot be run"),
     (["--size", "64", "--python", sys.executable], "has no onnx2tf. It needs Python 3.12")],
)  # fmt: skip
def test_exception_before_anything_is_loaded(model_file, capsys, words, message):
    assert export.main(["-m", str(model_file), "--to", "tflite", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no", b"\0" * 100])
def test_exception_foreign_files(tmp_path, content):
    path = tmp_path / "a.tflite"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="LiteRT cannot read it"):
        load_exported(path, torch.device("cpu"))


@pytest.mark.parametrize(
    ("body", "message"),
    [("exit 0", "onnx2tf cannot convert it: without a word"),
     # It is called with -m onnx2tf -i FILE -o FOLDER.
     ('echo x > "$6/model_float32.tflite"; echo no such operator >&2; exit 1',
      "onnx2tf cannot convert it: no such operator")],
)  # fmt: skip
def test_exception_a_converter_that_fails_or_lies(model_file, tmp_path, body, message):
    """A program that ends well and writes nothing, or writes and ends with a reason."""
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\n{body}\n")
    fake.chmod(0o755)
    spec = ExportSpec(size=SIZE, converter=str(fake))
    with pytest.raises(ValueError, match=message):
        export_model(str(model_file), ["tflite"], spec, output=tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["python"]
