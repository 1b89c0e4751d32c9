"""TIFF files written row by row, read by tifffile, Pillow, OpenCV and GDAL."""

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from PIL import Image

from tests.row_files import check_guarantees, random_cuts, write_all
from utils.files import tiff_writer
from utils.files.raster_io import read_raster
from utils.files.tiff_writer import TILE, TILE_ROW_BYTES, TiffWriter, tile_height

COLOURS = [(i, 255 - i, i * 7 % 256) for i in range(256)]


def values(shape, dtype):
    return (np.random.default_rng(0).random(shape) * 250).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("shape", [(1, 1), (530, 1100), (3, 40, 600), (1, 20, 30)])
def test_feature_tifffile_reads_what_was_written(tmp_path, shape, dtype):
    array = values(shape, dtype)
    write_all(TiffWriter(tmp_path / "a.tif", shape, dtype), array, [7], len(shape) - 2)
    loaded = tifffile.imread(tmp_path / "a.tif")
    assert loaded.dtype == dtype and np.array_equal(np.squeeze(loaded), np.squeeze(array))
    bands_last = np.moveaxis(array, 0, 2) if len(shape) == 3 else array[..., None]
    assert np.array_equal(read_raster(tmp_path / "a.tif").pixels, bands_last)


def test_feature_other_libraries_read_ids_with_their_colours(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    ids = values((600, 700), "uint8")
    path = tmp_path / "ids.tif"
    write_all(TiffWriter(path, ids.shape, "uint8", palette=COLOURS, nodata=255), ids)
    image = Image.open(path)
    assert image.mode == "P" and np.array_equal(np.asarray(image), ids)
    shown = np.array(COLOURS, np.uint8)[ids]
    assert np.array_equal(np.asarray(image.convert("RGB")), shown)
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], shown)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(path) as source:
        assert np.array_equal(source.read(1), ids)
        assert source.nodata == 255 and source.colormap(1)[7] == (*COLOURS[7], 255)
        assert source.block_shapes == [(TILE, TILE)]


@given(cuts=random_cuts(75))
@settings(max_examples=20, deadline=None)
def test_feature_the_bytes_do_not_depend_on_the_cuts(tmp_path_factory, cuts):
    folder = tmp_path_factory.mktemp("tif")
    array = values((2, 75, 20), "float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiff_writer, "TILE", 32)
        write_all(TiffWriter(folder / "a.tif", array.shape, "float32"), array, [], 1)
        write_all(TiffWriter(folder / "b.tif", array.shape, "float32"), array, cuts, 1)
    assert (folder / "a.tif").read_bytes() == (folder / "b.tif").read_bytes()
    with tifffile.TiffFile(folder / "b.tif") as tiff:
        assert tiff.pages.first.tile == (32, 32)
        assert np.array_equal(tiff.asarray(), array)


def test_feature_a_file_beyond_4_gb_is_a_big_tiff(tmp_path, monkeypatch):
    """By the bytes of its compressed tiles, here with a limit of 100 kB."""
    noise = np.random.default_rng(0).integers(0, 256, (600, 600), np.uint8)
    monkeypatch.setattr(tiff_writer, "BIG_BYTES", 100_000)
    for name, array, is_big in (("big", noise, True), ("small", noise * 0, False)):
        write_all(TiffWriter(tmp_path / f"{name}.tif", array.shape, "uint8"), array)
        with tifffile.TiffFile(tmp_path / f"{name}.tif") as tiff:
            assert tiff.is_bigtiff == is_big and np.array_equal(tiff.asarray(), array)


@pytest.mark.parametrize(
    ("width", "bands", "itemsize"), [(500, 1, 1), (100_000, 1, 1), (100_000, 19, 4), (10**7, 9, 4)]
)
def test_feature_a_row_of_tiles_is_small(width, bands, itemsize):
    height = tile_height(width, bands, itemsize)
    assert height % 16 == 0 and 16 <= height <= TILE  # TIFF 6.0: a multiple of 16
    size = height * width * bands * itemsize
    assert size <= TILE_ROW_BYTES or height == 16
    assert size > TILE_ROW_BYTES // 2 or height == TILE


def test_feature_files_are_whole_or_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_writer, "_IN_MEMORY", 100_000)
    rows = np.random.default_rng(0).integers(0, 256, (1200, 1000), np.uint8)

    def open_one(path, overwrite=False):
        return TiffWriter(path, rows.shape, rows.dtype, overwrite=overwrite)

    check_guarantees(tmp_path, "a.tif", open_one, rows, 1_200_000)
