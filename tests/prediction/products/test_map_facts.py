"""Areas and coordinates of maps."""

import numpy as np
import pytest
from rasterio.crs import CRS

from prediction.products.map_facts import area_unit, crs_member, pixel_area, to_map
from utils.files.geo_file import GeoReference


def geo(crs, *transform):
    return GeoReference(crs and CRS.from_user_input(crs).to_wkt(), transform)


def test_feature_area_of_a_pixel():
    """By hand: the sides, and of a sheared pixel the determinant 3 * 2 + 1 * 1."""
    assert pixel_area(None) == 1
    assert pixel_area(geo(None, 0.5, 0, 9, 0, -0.25, 9)) == 0.125
    assert pixel_area(geo(None, 3, 1, 0, 1, -2, 0)) == 7


@pytest.mark.parametrize(
    ("crs", "unit"),
    [(32633, "square metre"), (4326, "square degree"), (2263, "square US survey foot"),
     (None, "square unit")],
)  # fmt: skip
def test_feature_units(crs, unit):
    assert area_unit(geo(crs, 1, 0, 0, 0, -1, 0)) == unit
    assert area_unit(None) == ""


def test_feature_points():
    """By hand; rounding keeps a ten-thousandth of a pixel."""
    points = np.array([[0, 0], [3, 4]])
    assert to_map(points, None) is points
    found = to_map(points, geo(None, 0.1, 0, 500_000, 0, -0.1, 100))
    assert found.tolist() == [[500_000, 100], [500_000.3, 99.6]]
    found = to_map(points, geo(None, 1e-5, 0, 11.5, 0, -1e-5, 48.1))
    assert found.tolist() == [[11.5, 48.1], [11.50003, 48.09996]]
    found = to_map(points, geo(None, 1e6 / 3, 0, 0, 0, -1e6 / 3, 0))
    assert found.tolist() == [[0, 0], [1_000_000, -1_333_333]]


def test_feature_no_member_without_a_reference():
    assert crs_member(None) == {} == crs_member(geo(None, 1, 0, 0, 0, -1, 0))
