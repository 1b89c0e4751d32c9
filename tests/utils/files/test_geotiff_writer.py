"""GeoTIFF files written row by row, read by GDAL and, for their layout, by tifffile."""

import os
import shutil

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings

from tests.row_files import check_guarantees, full_disk, random_cuts, write_all
from utils.files import geotiff_writer
from utils.files.geo_file import GeoReference, read_georeference
from utils.files.geotiff_writer import GeoTiffWriter

rasterio = pytest.importorskip("rasterio")

CRS = rasterio.crs.CRS.from_epsg(32633)
TRANSFORM = (10.0, 0.0, 500_000.0, 0.0, -10.0, 6_000_000.0)
STRIPS = GeoReference(CRS.to_wkt(), TRANSFORM)
TILED = GeoReference(CRS.to_wkt(), TRANSFORM, nodata=0.0, block=(256, 256))
COLOURS = [(i, 255 - i, i * 7 % 256) for i in range(256)]


def regions(height, width):
    """Ids of regions that are 37 pixels wide."""
    return (np.add.outer(np.arange(height) // 37, np.arange(width) // 37) % 19).astype(np.uint8)


def probabilities(count, height, width):
    return np.random.default_rng(0).random((count, height, width), np.float32)


@pytest.mark.parametrize("geo", [STRIPS, TILED])
def test_feature_gdal_reads_ids_where_they_lie(tmp_path, geo):
    ids = regions(700, 1300)
    path = tmp_path / "ids.tif"
    writer = GeoTiffWriter(path, ids.shape, np.uint8, geo, palette=COLOURS, nodata=255)
    write_all(writer, ids, [1, 500, 513])
    with rasterio.open(path) as source:
        assert np.array_equal(source.read(1), ids)
        assert source.crs == CRS and tuple(source.transform)[:6] == TRANSFORM
        assert source.nodata == 255 and source.colormap(1)[7] == (*COLOURS[7], 255)
        assert source.block_shapes == [(512, 512)] and source.profile["compress"] == "deflate"
        assert bool(source.overviews(1)) == (geo is TILED)
    assert read_georeference(path).transform == TRANSFORM
    assert os.listdir(tmp_path) == ["ids.tif"]


@pytest.mark.parametrize("geo", [STRIPS, TILED])
def test_feature_gdal_reads_bands_with_their_names(tmp_path, geo):
    bands = probabilities(3, 530, 600)
    path = tmp_path / "p.tif"
    names = ["road", "B\u00e4ume", ""]
    writer = GeoTiffWriter(path, bands.shape, np.float32, geo, bands=names)
    write_all(writer, bands, [100, 515], axis=1)
    with rasterio.open(path) as source:
        assert np.array_equal(source.read(), bands)
        assert source.descriptions == ("road", "B\u00e4ume", None)
        assert source.nodata is None


@pytest.mark.parametrize(
    "geo",
    [
        GeoReference(None, (0.5, 0.1, 3.0, -0.1, -0.5, 7.0)),  # rotated, on no known map
        GeoReference(rasterio.crs.CRS.from_epsg(4326).to_wkt(), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)),
    ],
)
def test_feature_any_geo_reference_is_kept(tmp_path, geo):
    write_all(GeoTiffWriter(tmp_path / "a.tif", (20, 30), np.uint8, geo), regions(20, 30))
    written = read_georeference(tmp_path / "a.tif")
    assert written.transform == geo.transform
    crs = [rasterio.crs.CRS.from_wkt(each.crs) if each.crs else None for each in (written, geo)]
    assert crs[0] == crs[1]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_feature_a_tiled_source_gives_a_cog(tmp_path, dtype):
    """By the rules of the format: https://docs.ogc.org/is/21-026/21-026.html."""
    full = (regions(1500, 2600) if dtype == "uint8" else probabilities(1, 1500, 2600)[0]) * 1
    path = tmp_path / "cog.tif"
    geo = GeoReference(CRS.to_wkt(), TRANSFORM, overviews=True)
    write_all(GeoTiffWriter(path, full.shape, dtype, geo), full, [1000])
    with tifffile.TiffFile(path) as tiff:
        pages = list(tiff.pages)
        sizes = [(1500, 2600), (750, 1300), (375, 650), (187, 325)]  # until one tile is enough
        assert [page.shape for page in pages] == sizes
        assert [page.subfiletype for page in pages] == [0, 1, 1, 1]  # 1: a smaller copy
        assert all(page.tile == (512, 512) for page in pages)
        # Headers first, then the tiles, those of the smallest copy first.
        headers = [page.offset for page in pages]
        starts = [min(page.dataoffsets) for page in pages]
        assert headers == sorted(headers) and headers[-1] < starts[-1]
        assert starts == sorted(starts, reverse=True)
        for page in pages:
            assert list(page.dataoffsets) == sorted(page.dataoffsets)
    assert b"LAYOUT=IFDS_BEFORE_DATA" in path.read_bytes()[:200]
    with rasterio.open(path) as source:
        assert source.overviews(1) == [2, 4, 8]
        assert np.array_equal(source.read(1), full)
    with rasterio.open(path, overview_level=0) as half:
        small = half.read(1)
    if dtype == "uint8":
        # Ids are picked: each from the four pixels below it.
        corners = [full[i::2, j::2][:750, :1300] for i in (0, 1) for j in (0, 1)]
        assert np.logical_or.reduce([small == corner for corner in corners]).all()
    else:
        mean = full.reshape(750, 2, 1300, 2).mean((1, 3))
        assert np.abs(small - mean).max() < 1e-6


@given(cuts=random_cuts(90))
@settings(max_examples=10, deadline=None)
def test_feature_the_bytes_do_not_depend_on_the_cuts(tmp_path_factory, cuts):
    folder = tmp_path_factory.mktemp("geo")
    bands = probabilities(2, 90, 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geotiff_writer, "tile_height", lambda *_: 32)
        for name, where in (("a", []), ("b", cuts)):
            writer = GeoTiffWriter(folder / f"{name}.tif", bands.shape, np.float32, STRIPS)
            write_all(writer, bands, where, 1)
    assert (folder / "a.tif").read_bytes() == (folder / "b.tif").read_bytes()
    with rasterio.open(folder / "b.tif") as source:
        assert source.block_shapes[0] == (32, 512) and np.array_equal(source.read(), bands)


@pytest.mark.parametrize("geo", [STRIPS, TILED])
def test_feature_files_are_whole_or_not_there(tmp_path, geo):
    rows = np.random.default_rng(0).integers(0, 256, (1100, 1000), np.uint8)

    def open_one(path, overwrite=False):
        return GeoTiffWriter(path, rows.shape, rows.dtype, geo, overwrite=overwrite)

    check_guarantees(tmp_path, "a.tif", open_one, rows, 1_000_000)


@pytest.mark.parametrize("geo", [STRIPS, TILED])
def test_feature_a_disk_that_is_full_when_gdal_closes_a_file(tmp_path, geo):
    """GDAL gives no error then, or one without a reason, though the file is cut off."""
    rows = np.random.default_rng(0).integers(0, 256, (1024, 1024), np.uint8)
    write_all(GeoTiffWriter(tmp_path / "a.tif", rows.shape, np.uint8, geo), rows)
    size = (tmp_path / "a.tif").stat().st_size
    for room in (size - 1, size - 30, size - 80, size - 18_000, size - 140_000):
        writer = GeoTiffWriter(tmp_path / "b.tif", rows.shape, np.uint8, geo)
        with full_disk(room), pytest.raises(OSError, match=r"b\.tif"):
            try:
                writer.write(rows)
                writer.finish()
            finally:
                writer.discard()
        assert os.listdir(tmp_path) == ["a.tif"]


def test_feature_a_full_disk_is_called_so(tmp_path, monkeypatch):
    """GDAL only says that it cannot write."""
    rows = np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8)
    for free, text in ((0, "No space left"), (1 << 40, "GDAL cannot write it")):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda _, f=free: shutil._ntuple_diskusage(0, 0, f)
        )
        writer = GeoTiffWriter(tmp_path / "a.tif", rows.shape, np.uint8, STRIPS)
        with full_disk(1000), pytest.raises(OSError, match=rf"{text}.*a\.tif"):
            try:
                writer.write(rows)
                writer.finish()
            finally:
                writer.discard()


def test_exception_too_few_rows(tmp_path):
    writer = GeoTiffWriter(tmp_path / "a.tif", (20, 30), np.uint8, STRIPS)
    writer.write(regions(19, 30))
    with pytest.raises(ValueError, match="19 of 20"):
        writer.finish()
    assert os.listdir(tmp_path) == []


def test_exception_without_rasterio(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.files.gdal.has_rasterio", lambda: False)
    with pytest.raises(ValueError, match=r"a\.tif.*pip install rasterio"):
        GeoTiffWriter(tmp_path / "a.tif", (20, 30), np.uint8, STRIPS)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("geo", [STRIPS, TILED])
@pytest.mark.parametrize("value", [0, 255])
def test_feature_tiles_of_missing_pixels_are_written(tmp_path, geo, value):
    """GDAL can leave them out, which other readers do not expect."""
    ids = np.full((600, 600), value, np.uint8)
    path = tmp_path / "a.tif"
    write_all(GeoTiffWriter(path, ids.shape, np.uint8, geo, nodata=255), ids)
    assert np.array_equal(tifffile.imread(path), ids)
