"""docs/models.md says what is so."""

import json
import re

import pytest
import torch

import models
from benchmarks.models import NUM_CLASSES, OURS, THEIRS, build_ours, build_theirs, count
from models.smp import ARCHITECTURES
from tests.conftest import ROOT
from tests.models.test_model_golden import GOLDEN

TEXT = (ROOT / "docs/models.md").read_text()
ROWS = {
    f"{name}, {backbone}" if backbone else name: [cell.strip() for cell in cells.split("|")]
    for name, backbone, cells in re.findall(r"^\| `(\w+)`(?:, (\w+))? \|(.*)\|$", TEXT, re.M)
    if cells.count("|") == 4
}
SMP_ROW = ROWS.pop("SMP")


def row_of(name):
    """The row of an entry of the benchmark; a backbone that a row names may be its default."""
    backbone = OURS[name].get("backbone")
    return ROWS[f"{name.partition(',')[0]}, {backbone}" if backbone else name]


def test_cardinality_every_model_has_a_row():
    assert {name.partition(",")[0] for name in ROWS} == set(models.__all__) - {"SMP"}
    assert len(ROWS) == len(OURS)
    assert SMP_ROW
    for architecture in ARCHITECTURES.names:
        assert f"`{architecture}`" in TEXT


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_feature_figures(name):
    """Source: torch's own counter, on the meta device."""
    _, parameters, gflop, smallest, published = row_of(name)
    counted = count(build_ours, name, 512)
    assert (parameters, gflop) == tuple(f"{value:.2f}" for value in counted)
    with torch.device("meta"):
        assert int(smallest.split(";")[0]) == build_ours(name).min_size
    assert published


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_feature_parameters_agree_with_the_reference(path):
    golden = json.loads(path.read_text())
    assert golden["num_classes"] == NUM_CLASSES
    backbone = golden["args"].get("backbone")
    if golden["class"] == "UperNet":
        return  # three convolutions that were one, as the page says
    row = ROWS[f"{golden['class']}, {backbone}" if backbone else golden["class"]]
    assert row[1] == f"{golden['params'] / 1e6:.2f}"


@pytest.mark.slow
@pytest.mark.parametrize("name", THEIRS)
def test_smoke_peers(name):
    assert count(build_theirs, name, 64)[0] > 0
