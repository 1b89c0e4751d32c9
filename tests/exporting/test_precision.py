"""Files of less than 32 bits: smaller, and refused if they score lower."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
import export
import exporting.formats as formats
import train
from exporting import validate
from exporting.export_model import ModelExport, export_model
from exporting.images import calibration_images
from exporting.spec import PRECISIONS, ExportSpec
from exporting.validate import Score, Validation
from prediction.exported.network import load_exported
from prediction.load_model import restore
from tests.conftest import ROOT
from tests.exporting.available import CONVERTER, is_available

pytest.importorskip("onnx")
CASES = [
    pytest.param(form, precision, marks=pytest.mark.skipif(
        not is_available(form, precision), reason=f"{form} {precision}"))
    for form in formats.__all__ for precision in getattr(formats, form).PRECISIONS
    if (form, precision) != ("tflite", "fp16")  # onnx2tf's transposed convolution is no fp16
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint that has learned a little, with its data."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["train_loader.args.num_images=80", "val_loader.args.num_images=10", "trainer.epochs=2",
             f"trainer.save_dir={folder}", f"trainer.log_dir={folder}/runs"]  # fmt: skip
    options = [word for each in words for word in ("-o", each)]
    assert train.main(["--config", str(ROOT / "config.json"), "--device", "cpu", *options]) == 0
    (path,) = folder.rglob("best_model.pth")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("form", "precision"), CASES)
def test_feature_smaller_and_as_good(trained, tmp_path, form, precision):
    """Source: the checkpoint's own figures by evaluate.py."""
    spec = ExportSpec(size=(64, 64), converter=CONVERTER)  # the size of the images
    (file,) = export_model(
        str(trained), [form], spec, precisions=[precision], output=tmp_path / "a",
        validate=True, tolerance=3,
    )  # fmt: skip
    figures = []
    for path in (trained, file.path):
        words = ["--model", str(path), "--device", "cpu", "--json", str(tmp_path / "a.json")]
        assert evaluate.main(words) == 0
        figures.append(json.loads((tmp_path / "a.json").read_text())["figures"])
        (tmp_path / "a.json").unlink()
    assert file.validation is not None
    scores = [file.validation.before, file.validation.after]
    for score, found in zip(scores, figures, strict=True):
        assert score.mean_iou == pytest.approx(found["Mean_IoU"], abs=1e-9)
    module = getattr(formats, form)
    size = sum(
        file.path.with_suffix(end).stat().st_size for end in (module.ENDING, *module.SIDE_ENDINGS)
    )
    network, meta = restore(trained, "cpu")
    weights = sum(each.numel() for each in network.parameters())
    bits = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8}[precision]
    assert weights * bits / 8 < size < weights * bits / 8 * 1.25 + 400_000
    own = load_exported(file.path, torch.device("cpu")).description
    assert own.precision == precision
    assert own.proof["validation"]["mean_iou_after"] == scores[1].mean_iou
    assert own.proof["validation"]["images"] == 10 and len(meta.classes) == len(own.meta["classes"])


@pytest.mark.slow
@pytest.mark.skipif(not is_available("torch"), reason="torch is too old")
def test_feature_the_table_of_all(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.pth").symlink_to(trained)
    assert export.main([
        "-m", "a.pth", "--to", "onnx", "torch", "--precision", "fp32", "fp16", "--tolerance", "3"
    ]) == 0  # fmt: skip
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert [row[0].strip() for row in rows[2:]] == [
        "a.pth", "a.onnx", "a.fp16.onnx", "a.pt2", "a.fp16.pt2"
    ]  # fmt: skip
    sizes = [float(row[1]) for row in rows[3:]]
    assert sizes[1] < 0.6 * sizes[0] and sizes[3] < 0.6 * sizes[2]
    assert rows[3][4].strip() == "" and " to " in rows[4][4]  # fp32 is not scored unasked


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_exception_a_file_that_scores_lower(trained, tmp_path, monkeypatch, precision):
    """The proof alone does not refuse 16 bits; what the file says of the data does."""
    scored = validate.score

    def worse(path, config, window=None):
        score = scored(path, config, window)
        if Path(path) == trained:
            return score
        counts = score.counts.copy()
        counts[:, 0] = counts[:, 0] // 2  # half of the right pixels
        return Score(counts)

    monkeypatch.setattr("exporting.export_model.score", worse)
    with pytest.raises(ValueError, match="on 10 validation images is .* points less; --tolerance"):
        export_model(
            str(trained), ["onnx"], ExportSpec(), precisions=[precision], output=tmp_path / "a",
            validate=True,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_validation_counts_points():
    counts = np.random.default_rng(0).integers(1, 100, (12, 3, 4))
    lower = counts.copy()
    lower[:, 0] //= 2
    validation = Validation(Score(counts), Score(lower))
    sums = [each.sum(0) for each in (counts, lower)]
    means = [(each[0] / each.sum(0)).mean() for each in sums]
    assert validation.change == pytest.approx(100 * (means[1] - means[0]))
    assert validation.interval.low < validation.change < validation.interval.high < 0
    validation.check(-validation.change + 0.01)
    with pytest.raises(ValueError, match="points less; --tolerance allows less than 0.5"):
        validation.check(0.5)
    Validation(Score(lower), Score(counts)).check(0.5)  # better is no loss


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--to", "onnx", "--precision", "bf16"], "--to onnx has fp32, fp16, int8"),
     (["--to", "torch", "--precision", "int8"], "--to torch has fp32, fp16, bf16"),
     (["--to", "torch", "--precision", "fp16"],
      "torch, fp16: needs the validation images, .*; name a config"),
     (["--to", "onnx", "--precision", "int8"], "onnx, int8: needs the validation images, .*"),
     (["--to", "torch", "--validate", "--tolerance", "0"], "--tolerance: 0 is not between 0"),
     (["--to", "torch", "--validate", "--tolerance", "nan"], "--tolerance: nan is not between"),
     (["--to", "torch", "--precision", "fp32", "fp16", "-o", "x"], "--output: is one file"),
     (["--to", "torch", "--validate"], "torch: needs the validation images, .*no val_loader")],
)  # fmt: skip
def test_exception_before_anything_is_left(
    model_file, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    bare = tmp_path / "bare.pth"
    content = torch.load(model_file, weights_only=True)
    content["config"] = {"arch": content["config"]["arch"]}
    torch.save(content, bare)
    assert export.main(["-m", str(bare), *words]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["bare.pth"]


def test_exception_int8_without_training_images(model_file):
    """The validation images alone do not set its ranges."""
    export_of = ModelExport(str(model_file))
    with pytest.raises(ValueError, match="needs images of the training set, .*; name a config"):
        list(calibration_images(export_of.checkpoint, export_of.path, None))


def test_feature_one_list_of_precisions():
    assert export.PRECISIONS == PRECISIONS
    for form in formats.__all__:
        assert set(getattr(formats, form).PRECISIONS) <= set(PRECISIONS)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--to", "onnx", "--size", "64"], "--size: is for --to tflite"),
     (["--to", "onnx", "--python", "python3"], "--python: is for --to tflite"),
     (["--to", "onnx", "--tolerance", "1"], "--tolerance: is for files that are scored")],
)  # fmt: skip
def test_exception_options_without_effect(model_file, capsys, words, message):
    assert export.main(["-m", str(model_file), *words]) == 2
    assert message in capsys.readouterr().err
