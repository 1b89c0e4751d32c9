"""export.py: files that answer like the model, or none."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import evaluate
import export
import exporting.formats as formats
import models
import train
from exporting.export_model import Description, export_model
from exporting.proof import prove
from exporting.spec import ExportSpec
from exporting.whole_task import module_of
from prediction import Segmenter
from prediction.exported.description import KEY
from prediction.exported.network import load_exported
from prediction.exported.openvino_file import import_openvino
from prediction.load_model import Meta, restore
from tests.conftest import ROOT, run_code
from tests.exporting.available import is_available
from tests.prediction.program import run, write_image, written
from utils.checkpoint.model_file import EXPORTED

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
FORMATS = [
    pytest.param(name, marks=pytest.mark.skipif(not is_available(name), reason=name))
    for name in formats.__all__
    if not getattr(formats, name).NEEDS_SIZE
]
SPECS = {
    "ids": ExportSpec(), "everything": ExportSpec("all", ("ids", "confidence", "logits")),
    "network": ExportSpec("network", ("logits",)),
}  # fmt: skip


@pytest.fixture(scope="module", params=FORMATS)
def exported(request, model_file, tmp_path_factory):
    """The files of a model in a format, by the name of their spec."""
    target = tmp_path_factory.mktemp(request.param)
    module, made = getattr(formats, request.param), {}
    for name, spec in SPECS.items():
        (one,) = export_model(str(model_file), [request.param], spec, output=target / name)
        assert one.proof.inputs == 4
        made[name] = one.path
    endings = (module.ENDING, *module.SIDE_ENDINGS)
    names = sorted(f"{name}{ending}" for name in SPECS for ending in endings)
    assert sorted(path.name for path in target.iterdir()) == names
    return made


def runner_of(path):
    """Return what runs a file by its runtime alone, without this project."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"images": images})
    if path.suffix == ".pt2":
        program = torch.export.load(path).module()
        return lambda images: [each.numpy() for each in program(torch.from_numpy(images))]
    import_openvino()
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    return lambda images: [compiled({"images": images})[port] for port in compiled.outputs]


def text_of(path):
    if path.suffix == ".onnx":
        return {each.key: each.value for each in onnx.load(path).metadata_props}[KEY]
    if path.suffix == ".pt2":
        texts = {KEY: ""}
        torch.export.load(path, extra_files=texts)
        return texts[KEY]
    return import_openvino().Core().read_model(str(path)).get_rt_info(KEY).value


@pytest.mark.parametrize("size", [(1, 32, 32), (3, 67, 41), (2, 90, 33)])
def test_feature_a_user_needs_the_runtime_alone(exported, model_file, size):
    """Source: the checkpoint, by torch."""
    images = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    model, meta = restore(model_file, "cpu")
    values = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (meta.mean, meta.std))
    with torch.inference_mode():
        logits = model((values - mean) / std)
    ids, confidence, scores = runner_of(exported["everything"])(images)
    assert ids.dtype == np.uint8 and len(np.unique(ids)) > 1
    np.testing.assert_array_equal(ids, logits.argmax(1))
    np.testing.assert_allclose(confidence, logits.softmax(1).max(1).values, atol=1e-5)
    np.testing.assert_allclose(scores, logits, atol=1e-4)
    (alone,) = runner_of(exported["ids"])(images)
    np.testing.assert_array_equal(alone, ids)
    normalised = ((values - mean) / std).numpy()
    (bare,) = runner_of(exported["network"])(normalised)
    np.testing.assert_allclose(bare, logits, atol=1e-4)


def test_feature_a_file_says_what_it_is(exported):
    own = json.loads(text_of(exported["ids"]))
    assert own["meta"]["classes"] == ["sky", "road", "tree"] and own["inside"] == "all"
    assert own["meta"]["mean"] == [0.5] * 3 and own["input_type"] == "uint8"
    assert own["proof"]["equal_pixels"] >= 0.999 and len(own["checkpoint_sha256"]) == 64
    assert own["proof"]["runtime"].keys() & {"onnxruntime", "openvino", "torch"}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("window", [(), ("--window", "64", "--blend", "none")])
def test_feature_inference_takes_it_like_a_checkpoint(exported, model_file, folder, name, window):
    for number in range(3):
        write_image(folder / f"{number}.png", (130 - 40 * number, 90), seed=number)
    words = ["-i", folder, "--save", "ids,overlay,colour", *window]
    assert run(model_file, *words, "-o", "torch") == 0
    assert run(exported[name], *words, "-o", "onnx") == 0
    assert written(Path("torch")) == written(Path("onnx"))
    for file in written(Path("torch")):
        one, other = (np.array(Image.open(f"{at}/{file}")) for at in ("torch", "onnx"))
        assert (one == other).mean() > 0.999


@pytest.mark.parametrize("name", ["everything", "network"])
@pytest.mark.parametrize(
    "words", [("--mode", "multiscale"), ("--flip", "both"), ("--mode", "sliding")]
)
def test_feature_scores_can_be_merged(exported, model_file, folder, name, words):
    write_image(folder / "a.png", (70, 50))
    products = ["-i", folder, "--save", "ids,confidence.tif,table", *words]
    assert run(model_file, *products, "-o", "torch") == 0
    assert run(exported[name], *products, "-o", "onnx") == 0
    one, other = (np.array(Image.open(f"{at}/a.png")) for at in ("torch", "onnx"))
    # Scaled images have values between those that are stored.
    assert (one == other).mean() > (0.98 if name == "everything" else 0.999)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode", "multiscale"], "gives class ids alone, which cannot be averaged"),
        (["--flip", "both"], "use --mode whole without --flip"),
        (["--save", "ids,confidence"], "does not say how sure it is, as --save ids,confidence"),
        (["--unsure", "0.5"], "does not say how sure it is, as --unsure needs"),
        (["--amp", "bf16"], "--amp bf16: .* computes as it was exported"),
        (["--compile"], "--compile: .* computes as it was exported"),
    ],
)  # fmt: skip
def test_exception_what_ids_alone_cannot_do(exported, folder, capsys, words, message):
    write_image(folder / "a.png")
    assert run(exported["ids"], "-i", folder, *words) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not written(Path("outputs")) if Path("outputs").exists() else True


def test_feature_from_python(exported, model_file):
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    one, other = (
        Segmenter(path, device="cpu", mode="whole")(image)
        for path in (model_file, exported["everything"])
    )
    assert one.ids.tolist() == other.ids.tolist()
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-5)
    with pytest.raises(ValueError, match="gives class ids without confidence"):
        Segmenter(exported["ids"], device="cpu", mode="whole")


def replace_text(source, target, text):
    """Write a copy of a file that says something else of itself, or nothing."""
    if source.suffix == ".onnx":
        model = onnx.load(source)
        del model.metadata_props[:]
        if text is not None:
            onnx.helper.set_model_props(model, {KEY: text.decode()})
        onnx.save(model, target)
        return
    if source.suffix == ".pt2":
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
            for name in old.namelist():
                if not name.endswith(KEY):
                    new.writestr(name, old.read(name))
                elif text is not None:
                    new.writestr(name, text)
        return
    model = import_openvino().Core().read_model(str(source))
    if text is None:
        del model.get_rt_info()[KEY]
    else:
        model.set_rt_info(text.decode(), KEY)
    import_openvino().save_model(model, str(target), compress_to_fp16=False)


META = Meta(("a", "b", "c"), ((0, 0, 0),) * 3, (0.5,) * 3, (0.25,) * 3)


def exported_and_proved(form, network, folder, meta=META):
    spec = ExportSpec("all", ("ids", "logits"))
    example = torch.zeros(2, 64, 96, meta.channels, dtype=torch.uint8)
    module = getattr(formats, form)
    path = folder / f"a{module.ENDING}"
    module.export(module_of(network.eval(), meta, spec), example, spec, path)
    module.describe(path, Description(
        inside=spec.inside, outputs=spec.outputs, input_type="uint8", arch="Net",
        meta={"classes": list(meta.classes)}, checkpoint_sha256="", versions={},
    ))  # fmt: skip
    return prove(path, network, meta, spec, ())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("SMP", {"architecture": "Unet", "encoder_name": "resnet18", "encoder_weights": None}),
     ("UperNet", {"backbone": "timm/resnet18", "pretrained": False}),
     ("PSPNet", {"backbone": "resnet18", "pretrained": False})],
)  # fmt: skip
@pytest.mark.parametrize("form", FORMATS)
def test_feature_models_that_pad_and_pool(tmp_path, form, name, arguments):
    """At sizes that are no multiple of the stride, where rounding and pooling count."""
    torch.manual_seed(0)
    network = getattr(models, name)(3, **arguments)
    proof = exported_and_proved(form, network, tmp_path)
    assert proof.largest_difference < 1e-4


class PoolsWrong(nn.Module):
    """torch's own adaptive pooling is exported for the traced size, without a complaint."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, images):
        features = self.first(images)
        pooled = F.adaptive_avg_pool2d(features, 3)
        return self.last(features + F.interpolate(pooled, features.shape[2:]))


def test_exception_a_network_that_torch_exports_wrongly(tmp_path):
    with pytest.raises(ValueError, match="^random |cannot be run: .*random "):
        exported_and_proved("onnx", PoolsWrong(), tmp_path)


@pytest.mark.parametrize("form", FORMATS)
def test_exception_a_broken_exporter(model_file, tmp_path, monkeypatch, form):
    module = getattr(formats, form)
    whole = module.export

    def broken(network, *rest):
        with torch.no_grad():
            kept = network.network.final_conv.bias.clone()
            network.network.final_conv.bias[0] += 0.3
            whole(network, *rest)
            network.network.final_conv.bias.copy_(kept)

    monkeypatch.setattr(module, "export", broken)
    for spec in SPECS.values():
        with pytest.raises(ValueError, match=rf"{form}: random \(2, 128, 160\): "):
            export_model(str(model_file), [form], spec, output=tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("form", "name"), [("onnx", "a.onnx"), ("openvino", "a.bin")])
def test_exception_a_file_that_exists(model_file, tmp_path, form, name):
    path = tmp_path / name
    path.write_text("mine")
    with pytest.raises(ValueError, match="already exists; --overwrite replaces it"):
        export_model(str(model_file), [form], ExportSpec(), output=tmp_path / "a")
    assert path.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot (be )?read"), (b"no", "cannot (be )?read"),
     (None, "was not written by export.py"), (b"{}", "what it says of itself cannot be read")],
)  # fmt: skip
def test_exception_foreign_files(exported, folder, capsys, content, message):
    write_image(folder / "a.png")
    path = Path(f"foreign{exported['ids'].suffix}")
    if content in (None, b"{}"):
        replace_text(exported["ids"], path, content)
    else:
        path.write_bytes(content)
    assert run(path, "-i", folder) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("place", ["../secret.bin", "secret.bin"])
def test_exception_weights_elsewhere(tmp_path, place):
    """A stranger's file must not read another one: not above its folder, not through a link."""
    helper = onnx.helper
    (tmp_path / "in").mkdir()
    np.arange(4, dtype=np.float32).tofile(tmp_path / "secret.bin")
    if "/" not in place:
        (tmp_path / "in" / place).symlink_to(tmp_path / "secret.bin")
    weights = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=1)
    for key, value in (("location", place), ("offset", "0"), ("length", "16")):
        weights.external_data.add(key=key, value=value)
    sizes = [helper.make_tensor_value_info(name, 1, [4]) for name in "xy"]
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", sizes[:1], sizes[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (tmp_path / "in" / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="[Ee]xternal data path"):
        load_exported(tmp_path / "in" / "a.onnx", torch.device("cpu"))


def test_feature_one_list_of_formats():
    """The program's words, which load nothing heavy, are the formats; each can be read again."""
    assert list(export.FORMATS) == formats.__all__
    assert {getattr(formats, name).ENDING for name in formats.__all__} == set(EXPORTED)


@pytest.mark.parametrize(
    ("output", "message"),
    [("nowhere/a.onnx", "--output: there is no folder nowhere"), ("my.model", None)],
)
def test_feature_names_of_files(model_file, tmp_path, monkeypatch, capsys, output, message):
    monkeypatch.chdir(tmp_path)
    code = export.main(["-m", str(model_file), "--to", "onnx", "-o", output])
    if message is None:
        assert code == 0 and [path.name for path in tmp_path.iterdir()] == ["my.model.onnx"]
    else:
        assert code == 2 and message in capsys.readouterr().err


def test_exception_without_the_packages(model_file, tmp_path):
    """The command to type, before anything is loaded."""
    code = (
        "import sys, importlib.metadata as metadata\n"
        "real = metadata.version\n"
        "def version(name):\n"
        "    if name.startswith('onnx'): raise metadata.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "metadata.version = version\n"
        "import export\n"
        f"sys.exit(export.main(['-m', {str(model_file)!r}, '--to', 'onnx']))"
    )
    done = run_code(code)
    assert "pip install onnx onnxscript onnxruntime" in done.stderr


@pytest.mark.slow
def test_feature_evaluate_scores_it_like_the_checkpoint(tmp_path, capsys, monkeypatch):
    """From a config to a checkpoint, to an ONNX file, to the same figures."""
    monkeypatch.chdir(tmp_path)
    sizes = ["train_loader.args.num_images=80", "val_loader.args.num_images=12", "trainer.epochs=1"]
    words = [word for size in sizes for word in ("-o", size)]
    assert train.main(["--config", str(ROOT / "config.json"), "--device", "cpu", *words]) == 0
    (model,) = Path("saved").rglob("best_model.pth")
    capsys.readouterr()
    assert export.main(["--model", str(model), "--to", "onnx"]) == 0
    assert "on 8 inputs, 4 of them real: 100.0000% equal pixels" in capsys.readouterr().out
    figures = []
    for path in (model, model.with_suffix(".onnx")):
        words = ["--model", str(path), "--json", "scores.json", "--mode", "whole"]
        assert evaluate.main([*words, "--device", "cpu"]) == 0
        figures.append(json.loads(Path("scores.json").read_text())["figures"]["Mean_IoU"])
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)
    words = ["--model", str(model.with_suffix(".onnx")), "--find-threshold"]
    assert evaluate.main(words) == 2
    assert "is exported; search in the checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", ["uint16", "float32", "uint8"])
def test_feature_models_of_other_sensors(form, dtype, tmp_path, folder):
    """Bands, their type and their statistics are those of the checkpoint."""
    torch.manual_seed(0)
    network = models.UNet(3, in_channels=4, base_channels=2)
    network.final_conv.weight.data.normal_()
    unit = 1 if dtype == "uint8" else 1000
    meta = {
        "classes": ["a", "b", "c"], "palette": [[0, 0, 0]] * 3, "mean": [0.5 * unit] * 4,
        "std": [0.25 * unit] * 4, "channels": 4, "band_rule": {"channels": 4, "dtype": dtype},
    }  # fmt: skip
    config = {"arch": {"type": "UNet", "args": {"base_channels": 2}}}
    content = {"state_dict": network.state_dict(), "config": config, "meta": meta}
    torch.save(content, tmp_path / "bands.pth")
    if (form, dtype) == ("openvino", "uint16"):
        with pytest.raises(ValueError, match="use --to onnx, or --inside network"):
            export_model(str(tmp_path / "bands.pth"), [form], ExportSpec())
        assert [path.name for path in tmp_path.glob("*.*")] == ["bands.pth"]
        return
    high = 255 if dtype == "uint8" else 1500
    image = np.random.default_rng(0).integers(0, high, (50, 70, 4)).astype(dtype)
    np.save(folder / "a.npy", image)
    (one,) = export_model(
        str(tmp_path / "bands.pth"), [form], ExportSpec(), images=[str(folder / "a.npy")]
    )
    assert one.proof.real_images == 1
    words = ["-i", folder, "--extension", "npy"]
    assert run(tmp_path / "bands.pth", *words, "-o", "torch") == 0
    assert run(one.path, *words, "-o", "exported") == 0
    made, expected = (np.array(Image.open(f"{at}/a.png")) for at in ("exported", "torch"))
    assert (made == expected).mean() > 0.999 and len(np.unique(expected)) > 1
    (ids,) = runner_of(one.path)(image[None])
    assert (ids[0] == expected).mean() > 0.999


@pytest.mark.parametrize("threshold", [None, 0.8])
def test_feature_a_binary_model_with_a_threshold(threshold, tmp_path, folder):
    torch.manual_seed(0)
    network = models.UNet(1, base_channels=2)
    network.final_conv.weight.data.normal_()
    meta = {
        "classes": ["a", "b"], "palette": [[0, 0, 0]] * 2, "mean": [0.5] * 3, "std": [0.25] * 3,
        "binary": True, "threshold": threshold,
    }  # fmt: skip
    config = {"arch": {"type": "UNet", "args": {"base_channels": 2}}}
    content = {"state_dict": network.state_dict(), "config": config, "meta": meta}
    torch.save(content, tmp_path / "two.pth")
    write_image(folder / "a.png", (70, 50))
    (one,) = export_model(str(tmp_path / "two.pth"), ["onnx"], ExportSpec())
    assert run(tmp_path / "two.pth", "-i", folder, "-o", "torch") == 0
    assert run(one.path, "-i", folder, "-o", "exported") == 0
    made, expected = (np.array(Image.open(f"{at}/a.png")) for at in ("exported", "torch"))
    assert (made == expected).all() and len(np.unique(expected)) == 2
