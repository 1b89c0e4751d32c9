"""The picture of the imports: what it shows, and that it is today's."""

import graphlib
from xml.etree import ElementTree

import pytest

from docs import draw_architecture
from docs.draw_architecture import ROOMS, Chart, read_imports, reduce_edges, rows_of
from tests.conftest import ROOT


def test_feature_the_picture_is_todays():
    """If not: `python -m docs.draw_architecture`."""
    assert draw_architecture.PICTURE.read_text() == draw_architecture.draw()


def test_feature_the_picture_shows_every_folder():
    rooms = {path.parent.name for path in (ROOT / "utils").glob("*/__init__.py")}
    assert rooms == set(ROOMS)
    texts = {text.text for text in ElementTree.parse(draw_architecture.PICTURE).iter() if text.text}
    assert {f"{name}/" for name in rooms} | {"train.py", "trainer.py", "base/"} <= texts


def test_feature_imports_that_are_read():
    found = read_imports()
    assert found["train", "training"].name == "train.py"  # within a function
    assert ("builders", "utils/losses") in found  # from utils import losses
    assert ("prediction", "evaluation") not in found


def test_feature_the_folders_of_utils_import_in_no_circle():
    reduce_edges((a, b) for a, b in read_imports() if a.startswith("utils/"))


def test_feature_reduced_edges():
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d"), ("e", "d")]
    assert reduce_edges(edges) == [("a", "b"), ("b", "c"), ("c", "d"), ("e", "d")]
    assert rows_of("abcdef", edges) == [["a"], ["b"], ["c", "e"], ["d", "f"]]


def test_exception_a_circle():
    with pytest.raises(graphlib.CycleError):
        reduce_edges([("a", "b"), ("b", "c"), ("c", "a")])


def test_feature_a_long_arrow_passes_beside_the_boxes():
    """By hand: of three rows, the arrow from the first to the third has a lane in the second."""
    chart = Chart([["a"], ["b"], ["c"]], [("a", "b"), ("b", "c"), ("a", "c")], top=0, step=100)
    (lane,) = (name for name in chart.x if ">" in name)
    assert chart.y[lane] == chart.y["b"] == 100
    apart = draw_architecture.BOX / 2 + draw_architecture.GAP
    assert abs(chart.x[lane] - chart.x["b"]) >= apart


def test_feature_crossings_are_undone():
    chart = Chart([["a", "b"], ["c", "d"]], [("a", "d"), ("b", "c")], top=0, step=100)
    assert (chart.x["a"] < chart.x["b"]) == (chart.x["d"] < chart.x["c"])
