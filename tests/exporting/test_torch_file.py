"""Files of torch.export: a stranger's runs nothing."""

import contextlib
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from exporting.export_model import export_model
from exporting.spec import ExportSpec
from prediction.exported import torch_file, torch_operators
from prediction.exported.network import load_exported
from tests.exporting.available import is_available


@pytest.fixture(scope="module")
def program(model_file, tmp_path_factory):
    if not is_available("torch"):
        pytest.skip("torch is too old")
    path = tmp_path_factory.mktemp("torch") / "a.pt2"
    export_model(str(model_file), ["torch"], ExportSpec("all", ("ids", "logits")), output=path)
    return path


def change(source, target, ending, edit):
    """Write a copy of a file in which an entry is another."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, edit(content) if name.endswith(ending) else content)
    return target


def in_json(edit):
    def changed(content):
        value = json.loads(content)
        edit(value)
        return json.dumps(value).encode()

    return changed


def nodes(value):
    return value["graph_module"]["graph"]["nodes"]


def load(path):
    return load_exported(path, torch.device("cpu"))


@pytest.mark.parametrize(
    "target",
    ["os.system", "torch.load", "torch.hub.load", "torch.ops.aten.from_file.default",
     "torch.ops.aten.add.__class__", "torch.ops.aten.__class__.Tensor", "_operator.attrgetter",
     "_operator.methodcaller", "_operator.call", "#a.b", "torch.ops.load_library",
     "torch.ops.aten.add", "builtins.eval", "math.pow", ""],
)  # fmt: skip
def test_exception_operators_that_are_no_mathematics(program, tmp_path, target):
    def edit(value):
        nodes(value)[3]["target"] = target

    path = change(program, tmp_path / "b.pt2", "models/model.json", in_json(edit))
    with pytest.raises(ValueError, match="b.pt2: it has an operator that is not known here"):
        load(path)


class _Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


def test_exception_pickles_are_never_read(program, tmp_path, monkeypatch):
    """torch.export.load() would run them: it reads the sample inputs, weights and objects."""
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps(_Bomb())
    path = change(program, tmp_path / "b.pt2", "sample_inputs/model.pt", lambda _: bomb)
    images = np.zeros((1, 40, 50, 3), np.uint8)
    expected, found = load(program).run(images), load(path).run(images)
    np.testing.assert_array_equal(found[1], expected[1])

    def pickled(value):
        next(iter(value["config"].values()))["use_pickle"] = True

    ending = "weights/model_weights_config.json"
    path = change(program, tmp_path / "c.pt2", ending, in_json(pickled))
    with pytest.raises(ValueError, match="is a pickled object, which could run anything"):
        load(path)
    assert not Path("exploded").exists()
    with contextlib.suppress(Exception):
        torch.export.load(tmp_path / "b.pt2")
    assert Path("exploded").exists(), "the bomb does not work, so the test shows nothing"


def test_exception_expressions_are_never_evaluated(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "__import__('os').mkdir('exploded')"

    def edit(value):
        for each in value["graph_module"]["graph"]["sym_int_values"].values():
            if "as_expr" in each:
                each["as_expr"]["expr_str"] = code
        value["guards_code"] = [code]

    path = change(program, tmp_path / "b.pt2", "models/model.json", in_json(edit))
    load(path).run(np.zeros((1, 40, 50, 3), np.uint8))
    assert not Path("exploded").exists()
    with contextlib.suppress(Exception):
        torch.export.load(path)
    assert Path("exploded").exists(), "the expression does not work, so the test shows nothing"


def no_schema(value):
    value["schema_version"]["major"] = 99


def a_missing_name(value):
    nodes(value)[-1]["inputs"][0]["arg"] = {"as_tensor": {"name": "nobody"}}


def an_unknown_argument(value):
    nodes(value)[-1]["inputs"][0]["arg"] = {"as_graph": {}}


def no_graph(value):
    value["graph_module"] = []


@pytest.mark.parametrize(
    ("edit", "message"),
    [(no_schema, "its schema has version 99, and 8 is known here"),
     (an_unknown_argument, "an argument of an unknown kind, as_graph"),
     (no_graph, "is no program of torch.export")],
)  # fmt: skip
def test_exception_other_programs(program, tmp_path, edit, message):
    path = change(program, tmp_path / "b.pt2", "models/model.json", in_json(edit))
    with pytest.raises(ValueError, match=message):
        load(path)


def test_exception_weights_outside_of_their_file(program, tmp_path):
    """A size that is larger than what is stored would read other memory."""

    def edit(value):
        payload = next(iter(value["config"].values()))
        payload["tensor_meta"]["sizes"][0]["as_int"] = 1 << 20

    ending = "weights/model_weights_config.json"
    path = change(program, tmp_path / "b.pt2", ending, in_json(edit))
    with pytest.raises(ValueError, match="is no program of torch.export"):
        load(path)


def test_exception_a_size_that_the_program_does_not_take(program, tmp_path):
    """One that torch has traced with a condition says so, and no more."""
    network = load(program)

    def refuse(*_):
        raise RuntimeError("Runtime assertion failed for expression s0 >= 33\nmore")

    network.run.__self__._steps[0]._operator = refuse
    with pytest.raises(ValueError, match=r"does not take images of shape \(1, 8, 8, 3\) \(Runtime"):
        network.run(np.zeros((1, 8, 8, 3), np.uint8))


def test_feature_no_path_of_the_computer_stands_in_the_file(program):
    with zipfile.ZipFile(program) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                text = archive.read(name).decode()
                assert ".py" not in text and "stack_trace" not in text


def test_feature_values_go_as_soon_as_nobody_reads_them(program, monkeypatch):
    """The most that is held at once is small beside all that the network computes."""
    held, most = [], []
    run = torch_file._Step.run

    def watched(step, values):
        run(step, values)
        held.append(sum(isinstance(value, torch.Tensor) for value in values.values()))
        most.append(len(step.makes))

    network = load(program)
    monkeypatch.setattr(torch_file._Step, "run", watched)
    network.run(np.zeros((1, 64, 64, 3), np.uint8))
    weights = 0
    with zipfile.ZipFile(program) as archive:
        for kind in ("weights", "constants"):
            name = f"model/data/{kind}/model_{kind}_config.json"
            weights += len(json.loads(archive.read(name))["config"])
    assert max(held) - weights < 12 and sum(most) > 30


def test_feature_operators_exist():
    """A name that torch does not have would be a mistake in the list."""
    missing = [name for name in torch_operators._ATEN if not hasattr(torch.ops.aten, name)]
    assert not missing
