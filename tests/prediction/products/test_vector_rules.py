"""What every format of polygons leaves out, and how it is written."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from prediction.products import polygons
from prediction.products.regions import Regions
from prediction.products.rows import Rows
from prediction.products.vector_rules import choose, tolerance, write_members
from tests.prediction.products.vector_case import Settings, facts_of
from utils.files.data_file import DataError
from utils.files.geo_file import GeoReference

GEO = GeoReference(None, (2.0, 0.0, 0.0, 0.0, -3.0, 0.0))
REGIONS = Regions(np.array([0, 1, 2, 3, 255, 3]), np.arange(6), np.array([9, 5, 4, 3, 9, 1]),
                  np.zeros(6))  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "min_area", "geo", "kept"),
    [
        (["background", "a", "b", "c"], 0, None, [1, 2, 3, 5]),
        (["a", "b", "_background_", "c"], 4, None, [0, 1]),
        (["a", "b", "c", "d"], 24, GEO, [0, 1, 2]),  # a pixel is 6 square units
        (["bg", "void", "None", "Un-labelled"], 0, None, []),
    ],
)
def test_feature_what_is_kept(classes, min_area, geo, kept):
    """By hand; names of a background are those that overlays leave clear."""
    facts = facts_of(np.zeros((4, 5)), Path("x"), classes=classes,
                     ignore_index=255, geo=geo)  # fmt: skip
    assert choose(REGIONS, facts, Settings(min_area=min_area)).firsts.tolist() == kept


@pytest.mark.parametrize("product", ["GeoJsonPolygons", "CocoPolygons"])
def test_exception_too_many_regions(tmp_path, product):
    """Counted before one is drawn; nothing is written."""
    ids = (np.indices((8, 8)).sum(0) % 2 + 1).astype(np.uint8)  # a chessboard of 64 regions
    facts = facts_of(ids, tmp_path)
    for most in (64, 63):
        settings = Settings(max_regions=most)
        made = getattr(polygons, product)(tmp_path / f"{most}.json", facts, settings)
        made.write(Rows(0, ids, np.ones(ids.shape, np.float32)))
        if most == 64:
            made.finish()
            continue
        with pytest.raises(DataError, match="64 regions, and 63"):
            made.finish()
    assert [path.name for path in tmp_path.glob("*.json")] == ["64.json"]


def test_feature_the_tolerance_is_in_pixels(tmp_path):
    ids = np.zeros((4, 5))
    assert tolerance(facts_of(ids, tmp_path), Settings(simplify=2)) == 2
    square = GeoReference(None, (0.5, 0.0, 0.0, 0.0, -0.5, 0.0))
    assert tolerance(facts_of(ids, tmp_path, geo=square), Settings(simplify=2)) == 4


@pytest.mark.parametrize("count", [0, 1, 3])
def test_feature_json_with_a_line_for_each_member(count):
    file = io.BytesIO()
    members = [{"n": number, "name": '\udcff"\n'} for number in range(count)]
    write_members(file, {"type": "x"}, "items", members)
    assert json.loads(file.getvalue()) == {"type": "x", "items": members}
    assert len(file.getvalue().splitlines()) == count + 2 and file.getvalue().isascii()
    with pytest.raises(ValueError):
        write_members(file, {"type": "x"}, "items", [{"n": float("nan")}])
