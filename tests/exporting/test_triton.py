"""The folder that Triton Inference Server reads."""

import re

import numpy as np
import pytest

import export
from exporting.export_model import export_model
from exporting.spec import ExportSpec
from exporting.triton import add_version, config_text, model_name
from prediction.exported.description import Description

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.slow
def test_feature_versions_of_a_model(model_file, tmp_path, capsys):
    words = ["-m", str(model_file), "--to", "onnx", "-o", str(tmp_path / "a.onnx")]
    repository = tmp_path / "repository"
    for _ in range(2):
        assert export.main([*words, "--overwrite", "--triton", str(repository)]) == 0
    (folder,) = repository.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "config.pbtxt"]
    assert f"{folder}/2/model.onnx" in capsys.readouterr().out
    text = (folder / "config.pbtxt").read_text()
    assert f'name: "{folder.name}"' in text  # Triton refuses another name
    # What the config says of sizes and types is what ONNX Runtime finds in the file.
    session = onnxruntime.InferenceSession(str(folder / "2" / "model.onnx"))
    kinds = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
    for tensor in (*session.get_inputs(), *session.get_outputs()):
        (data_type, sizes) = re.search(
            rf'name: "{tensor.name}" data_type: (\w+) dims: \[([-\d, ]+)\]', text
        ).groups()
        assert kinds[tensor.type] == data_type
        said = [int(size) for size in sizes.split(",")]
        assert len(said) == len(tensor.shape) - 1  # without the batch
        for size, own in zip(said, tensor.shape[1:], strict=True):
            assert size == (own if isinstance(own, int) else -1)
    (ids,) = session.run(["ids"], {"images": np.zeros((2, 32, 40, 3), np.uint8)})
    assert ids.shape == (2, 32, 40) and ids.dtype == np.uint8


@pytest.mark.slow
def test_exception_another_model_of_the_name(model_file, tmp_path):
    for outputs in (("ids",), ("ids", "logits")):
        (one,) = export_model(
            str(model_file), ["onnx"], ExportSpec("all", outputs), output=tmp_path / "a",
            overwrite=True,
        )  # fmt: skip
        if outputs == ("ids",):
            add_version(tmp_path / "models", one.path)
            continue
        with pytest.raises(ValueError, match=r"config.pbtxt is not that of this file"):
            add_version(tmp_path / "models", one.path)
    (folder,) = (tmp_path / "models").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["1", "config.pbtxt"]


@pytest.mark.parametrize(
    ("inside", "outputs", "classes", "expected"),
    [("all", ("ids", "confidence"), 300,
      {"images": ("TYPE_UINT16", [-1, -1, 4]), "ids": ("TYPE_INT32", [-1, -1]),
       "confidence": ("TYPE_FP32", [-1, -1])}),
     ("network", ("logits",), 3,
      {"images": ("TYPE_FP32", [4, -1, -1]), "logits": ("TYPE_FP32", [-1, -1, -1])})],
)  # fmt: skip
def test_feature_config(inside, outputs, classes, expected):
    description = Description(
        inside=inside, outputs=outputs, arch="Net", checkpoint_sha256="", versions={},
        input_type="uint16" if inside == "all" else "float32",
        meta={"classes": ["x"] * classes, "channels": 4},
    )  # fmt: skip
    text = config_text("a", description)
    found = re.findall(r'name: "(\w+)" data_type: (\w+) dims: (\[[-\d, ]+\])', text)
    assert {name: (kind, str(sizes)) for name, kind, sizes in found} == {
        name: (kind, str(sizes)) for name, (kind, sizes) in expected.items()
    }


@pytest.mark.parametrize(
    ("config", "name"),
    [({"name": "My run/1"}, "My_run_1"), ({}, "best_model_int8"), ({"name": 3}, "best_model_int8")],
)
def test_feature_names(tmp_path, config, name):
    assert model_name(config, tmp_path / "best_model.int8.onnx") == name


def test_exception_only_onnx(model_file, capsys):
    assert export.main(["-m", str(model_file), "--to", "openvino", "--triton", "x"]) == 2
    assert "--triton: takes an ONNX file: add --to onnx" in capsys.readouterr().err
