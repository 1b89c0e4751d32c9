"""GeoJSON polygons: burnt again by GDAL, measured by GEOS, read as other programs read them."""

import json

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine

from prediction.products.geojson import GeoJsonPolygons
from prediction.products.rows import Rows
from tests.conftest import run_code
from tests.prediction.products.vector_case import (
    CLASSES,
    Settings,
    facts_of,
    feed,
    random_ids,
    real_masks,
)
from utils.files.data_file import DataError
from utils.files.geo_file import GeoReference

UTM = GeoReference(CRS.from_epsg(32633).to_wkt(), (0.5, 0.0, 500_000.3, 0.0, -0.5, 5_200_000.0))
TURNED = GeoReference(CRS.from_epsg(32633).to_wkt(), (3.0, 1.0, 1000.0, 1.0, -2.0, 5000.0))
LON_LAT = GeoReference(CRS.from_epsg(4326).to_wkt(), (1e-5, 0.0, 11.5, 0.0, -1e-5, 48.1))
# A pond in a forest with an island, and a second forest in two parts that touch at a corner.
POND = np.array([[2, 2, 2, 2, 2, 0], [2, 1, 1, 1, 2, 0], [2, 1, 3, 1, 2, 0], [2, 1, 1, 1, 2, 0],
                 [2, 2, 2, 2, 2, 0], [0, 0, 0, 0, 0, 2]], np.uint8)  # fmt: skip


def write(path, ids, facts, settings=None, **fields):
    product = GeoJsonPolygons(path, facts, settings or Settings())
    feed(product, ids, **fields)
    return json.loads(path.read_text())


def burnt(tree, ids, transform=None):
    """The mask of all polygons, by GDAL."""
    shapes = [(item["geometry"], item["properties"]["class_id"]) for item in tree["features"]]
    options = {} if transform is None else {"transform": transform}
    return rasterize(shapes, ids.shape, fill=0, dtype="uint8", **options) if shapes else ids * 0


@pytest.mark.parametrize("step", [1, 7, 100])
@pytest.mark.parametrize("blur", [0.0, 1.5])
def test_feature_polygons_give_the_mask_again(tmp_path, blur, step):
    ids = random_ids(3, 45, 60, blur=blur)
    confidence = np.random.default_rng(0).random(ids.shape, np.float32)
    tree = write(tmp_path / "a.geojson", ids, facts_of(ids, tmp_path), step=step,
                 confidence=confidence)  # fmt: skip
    assert tree.keys() == {"type", "features"}
    assert (burnt(tree, ids) == ids).all()
    for item in tree["features"]:
        polygon = shapely.from_geojson(json.dumps(item["geometry"]))
        facts = item["properties"]
        assert polygon.is_valid and polygon.area == facts["pixels"] == facts["area"]
        # RFC 7946, 3.1.6: the outline counterclockwise, holes clockwise.
        assert polygon.exterior.is_ccw and not any(ring.is_ccw for ring in polygon.interiors)
        assert facts["class"] == CLASSES[facts["class_id"]]
        inside = rasterize([item["geometry"]], ids.shape).astype(bool)
        assert facts["mean_confidence"] == pytest.approx(confidence[inside].mean(), abs=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["a.geojson"]


def test_feature_holes_and_islands(tmp_path):
    """By hand: the forest has the pond as its hole, the pond the island; corners do not connect."""
    tree = write(tmp_path / "a.geojson", POND, facts_of(POND, tmp_path))
    found = sorted(
        (item["properties"]["class_id"], item["properties"]["pixels"],
         len(item["geometry"]["coordinates"]))
        for item in tree["features"]
    )  # fmt: skip
    assert found == [(1, 8, 2), (2, 1, 1), (2, 16, 2), (3, 1, 1)]
    assert "mean_confidence" not in tree["features"][0]["properties"]


def test_feature_real_masks(tmp_path):
    for number, ids in enumerate(real_masks()[::2]):
        classes = [f"class {n}" for n in range(20)]
        tree = write(tmp_path / f"{number}.geojson", ids, facts_of(ids, tmp_path, classes=classes))
        assert (burnt(tree, ids) == ids).all()


@pytest.mark.parametrize("geo", [UTM, TURNED, LON_LAT])
def test_feature_map_coordinates(tmp_path, geo):
    ids = random_ids(1, 40, 30)
    facts = facts_of(ids, tmp_path, geo=geo)
    tree = write(tmp_path / "a.geojson", ids, facts)
    transform = Affine(*geo.transform)
    # Back to pixels, as GDAL's burning rounds differently under a rotation.
    for item in tree["features"]:
        rings = item["geometry"]["coordinates"]
        item["geometry"]["coordinates"] = [[~transform @ point for point in ring] for ring in rings]
    rounded = shapely.transform(
        [shapely.from_geojson(json.dumps(item["geometry"])) for item in tree["features"]], np.rint
    )
    off = shapely.hausdorff_distance(
        rounded, [shapely.from_geojson(json.dumps(item["geometry"])) for item in tree["features"]]
    )
    assert off.max() < 1e-3
    for item, polygon in zip(tree["features"], rounded, strict=True):
        item["geometry"] = shapely.geometry.mapping(polygon)
    assert (burnt(tree, ids) == ids).all()
    one = tree["features"][0]["properties"]
    side = abs(np.linalg.det(np.reshape([*geo.transform, 0, 0, 1], (3, 3))))
    assert one["area"] == pytest.approx(one["pixels"] * side, rel=1e-9)


@pytest.mark.parametrize(
    ("crs", "member"),
    [(32633, "urn:ogc:def:crs:EPSG::32633"), (4326, None), ("OGC:CRS84", None), (None, None)],
)
def test_feature_the_crs_is_named_unless_it_is_the_default(tmp_path, crs, member):
    made = CRS.from_epsg(crs) if isinstance(crs, int) else crs and CRS.from_string(crs)
    geo = GeoReference(made and made.to_wkt(), (1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    tree = write(tmp_path / "a.geojson", POND, facts_of(POND, tmp_path, geo=geo))
    assert tree.get("crs", {}).get("properties", {}).get("name") == member


def test_feature_a_crs_without_a_number_is_written_as_wkt(tmp_path):
    crs = CRS.from_string("+proj=laea +lat_0=12 +lon_0=3 +ellps=GRS80 +units=m")
    geo = GeoReference(crs.to_wkt(), UTM.transform)
    tree = write(tmp_path / "a.geojson", POND, facts_of(POND, tmp_path, geo=geo))
    assert CRS.from_user_input(tree["crs"]["properties"]["name"]) == crs


def test_feature_small_regions_background_and_unsure_pixels_are_left_out(tmp_path):
    ids = POND.copy()
    ids[5, :2] = 255
    facts = facts_of(ids, tmp_path, ignore_index=255, geo=UTM)
    # A pixel is a quarter of a square metre.
    tree = write(tmp_path / "a.geojson", ids, facts, Settings(min_area=0.3))
    assert sorted(item["properties"]["pixels"] for item in tree["features"]) == [8, 16]
    nothing = facts_of(ids, tmp_path, ignore_index=255, classes=["Void", "BG", "other", "None"])
    assert write(tmp_path / "b.geojson", ids, nothing)["features"] == []


def test_feature_simplified_polygons_still_share_their_borders(tmp_path):
    """No gaps, no overlaps, all valid: as GEOS judges."""
    ids = random_ids(5, 200, 200, blur=6.0)
    classes = ("rock", *CLASSES[1:])
    exact = write(tmp_path / "a.geojson", ids, facts_of(ids, tmp_path, classes=classes))
    tree = write(
        tmp_path / "b.geojson", ids, facts_of(ids, tmp_path, classes=classes), Settings(simplify=3)
    )
    before, after = (
        np.array([shapely.from_geojson(json.dumps(item["geometry"])) for item in some["features"]])
        for some in (exact, tree)
    )
    points = [shapely.get_num_coordinates(some).sum() for some in (before, after)]
    assert points[1] < 0.4 * points[0]
    assert shapely.is_valid(after).all() and shapely.coverage_is_valid(after)
    assert shapely.area(shapely.union_all(after)) == pytest.approx(shapely.area(after).sum())
    assert shapely.area(after).sum() == pytest.approx(ids.size, rel=0.01)
    assert (burnt(tree, ids) == ids).mean() > 0.95
    # The properties are those of the prediction.
    pixels = [sorted(item["properties"]["pixels"] for item in some["features"])
              for some in (exact, tree)]  # fmt: skip
    assert pixels[0] == pixels[1]


def test_feature_the_tolerance_is_in_the_unit_of_the_map(tmp_path):
    ids = random_ids(5, 80, 90, blur=4.0)
    small = write(tmp_path / "a.geojson", ids, facts_of(ids, tmp_path), Settings(simplify=2))
    large = write(tmp_path / "b.geojson", ids, facts_of(ids, tmp_path, geo=UTM),
                  Settings(simplify=1))  # fmt: skip
    points = [
        [len(ring) for item in tree["features"] for ring in item["geometry"]["coordinates"]]
        for tree in (small, large)
    ]
    assert points[0] == points[1]


def test_feature_names_of_classes_are_data(tmp_path):
    classes = ["background", '"]}\n</x>', "\udcff", "\u202eabc"]
    tree = write(tmp_path / "a.geojson", POND, facts_of(POND, tmp_path, classes=classes))
    assert {item["properties"]["class"] for item in tree["features"]} == set(classes[1:])


def test_feature_other_programs_find_polygons_of_its_image(tmp_path):
    """The mask's TIFF and the polygons lie at one place."""
    ids = random_ids(2, 30, 40)
    tree = write(tmp_path / "a.geojson", ids, facts_of(ids, tmp_path, geo=UTM))
    path = tmp_path / "mask.tif"
    with rasterio.open(path, "w", driver="GTiff", height=30, width=40, count=1, dtype="uint8",
                       crs=32633, transform=Affine(*UTM.transform)) as file:  # fmt: skip
        file.write(ids, 1)
    with rasterio.open(path) as file:
        assert (burnt(tree, ids, file.transform) == file.read(1)).all()


def test_exception_existing_files_and_failures_leave_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "a.geojson"
    path.write_text("mine")
    product = GeoJsonPolygons(path, facts_of(POND, tmp_path), Settings())
    with pytest.raises(FileExistsError):
        feed(product, POND)
    assert [p.name for p in tmp_path.iterdir()] == ["a.geojson"] and path.read_text() == "mine"
    write(path, POND, facts_of(POND, tmp_path), Settings(overwrite=True))
    assert path.read_text() != "mine"
    product = GeoJsonPolygons(tmp_path / "b.geojson", facts_of(POND, tmp_path), Settings())
    product.discard()
    product.write(Rows(0, POND))
    product.discard()
    product.discard()
    assert [p.name for p in tmp_path.iterdir()] == ["a.geojson"]


def test_exception_blocks_that_did_not_reach_the_disk(tmp_path):
    """GDAL reads such a block as zeros, without an error."""
    product = GeoJsonPolygons(tmp_path / "a.geojson", facts_of(POND, tmp_path), Settings())
    product.write(Rows(0, POND))
    product._raster.write(0, POND * 0)
    with pytest.raises(OSError, match="0 of 4 regions"):
        product.finish()
    assert not any(tmp_path.iterdir())


def test_exception_missing_packages(tmp_path, monkeypatch):
    facts = facts_of(POND, tmp_path)
    monkeypatch.delattr(shapely, "coverage_simplify")
    GeoJsonPolygons(tmp_path / "a.geojson", facts, Settings())
    with pytest.raises(DataError, match=r"pip install 'shapely>=2.1'"):
        GeoJsonPolygons(tmp_path / "a.geojson", facts, Settings(simplify=1))
    monkeypatch.setattr("utils.files.gdal.has_rasterio", lambda: False)
    with pytest.raises(DataError, match="pip install rasterio"):
        GeoJsonPolygons(tmp_path / "a.geojson", facts, Settings())


LARGE = """
import json, pathlib, resource, sys
import numpy as np
from prediction.products.geojson import GeoJsonPolygons
from prediction.products.rows import ImageFacts, Rows
from tests.prediction.products.vector_case import Settings

path = pathlib.Path(sys.argv[1])
facts = ImageFacts(path, path, 10_000, 15_000, ("sea", "isle"), ((0, 0, 0), (9, 9, 9)))
block = np.zeros((100, 15_000), np.uint8)
block[10:20, 50:90] = 1
product = GeoJsonPolygons(path, facts, Settings())
product.write(Rows(0, block))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for top in range(100, facts.height, 100):
    product.write(Rows(top, block))
product.finish()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_feature_a_large_image_takes_no_memory_for_its_ids(tmp_path):
    path = tmp_path / "a.geojson"
    kilobytes = int(run_code(LARGE, str(path)).stdout)
    assert kilobytes < 90_000  # GDAL's cache is 64 MiB; the ids have 150 MB
    tree = json.loads(path.read_text())
    assert len(tree["features"]) == 101
    assert sum(item["properties"]["pixels"] for item in tree["features"]) == 150_000_000
