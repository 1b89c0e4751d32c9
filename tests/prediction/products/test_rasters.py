"""Ids, class masks, confidence, entropy and probabilities, read by other libraries."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from prediction.products.kinds import Settings, parse_save
from tests.prediction.products.case import IGNORED, TRANSFORM, geo_reference, make_case
from utils.drawing.palette import mask_palette, save_mask

CASE = make_case(60, 83, ignored=True)


def test_feature_ids_are_the_palette_png_that_save_mask_writes(tmp_path):
    path = CASE.write("ids", tmp_path, [7, 33])
    assert path == tmp_path / "a/b.c.png"
    save_mask(tmp_path / "mask.png", CASE.whole.ids, CASE.facts.palette)
    ours, theirs = Image.open(path), Image.open(tmp_path / "mask.png")
    assert ours.mode == "P" and ours.getpalette() == theirs.getpalette()
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    assert np.array_equal(np.asarray(ours), CASE.whole.ids)
    assert (np.asarray(ours) == IGNORED).any()


def test_feature_ids_as_an_array(tmp_path):
    ids = np.load(CASE.write("ids.npy", tmp_path, [7, 33]))
    assert ids.dtype == np.uint8 and np.array_equal(ids, CASE.whole.ids)


def test_feature_ids_as_a_tiff_with_colours(tmp_path):
    path = CASE.write("ids.tif", tmp_path, [7, 33])
    image = Image.open(path)
    assert image.mode == "P" and np.array_equal(np.asarray(image), CASE.whole.ids)
    colours = np.array(mask_palette(CASE.facts.palette), np.uint8)
    assert np.array_equal(np.asarray(image.convert("RGB")), colours[CASE.whole.ids])
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages.first.tags["GDAL_NODATA"].value == f"{IGNORED}"


@pytest.mark.parametrize("form", ["png", "tif", "npy"])
def test_feature_ids_of_many_classes_take_16_bits(tmp_path, form):
    case = make_case(30, 50, 300)
    assert case.whole.ids.max() > 255
    path = case.write(f"ids.{form}", tmp_path, [4])
    ids = np.load(path) if form == "npy" else cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert ids.dtype == np.uint16 and np.array_equal(ids, case.whole.ids)


def test_feature_few_classes_in_16_bits_take_8(tmp_path):
    """And an id that does not fit is an error, not another id."""
    facts, whole = CASE
    wide = CASE._replace(whole=whole._replace(ids=whole.ids.astype(np.uint16)))
    path = wide.write("ids", tmp_path)
    assert np.array_equal(np.asarray(Image.open(path)), whole.ids)
    wide.whole.ids[3, 4] = 256
    (kind,) = parse_save("ids", facts.classes)
    product = kind.open(tmp_path / "other.png", facts, Settings())
    with pytest.raises(ValueError, match=r"other\.png: an id is 256"):
        product.write(wide.whole)
    product.discard()


@pytest.mark.parametrize("form", ["png", "tif"])
def test_feature_a_class_is_255_where_it_is(tmp_path, form):
    path = CASE.write(f"class:tree top.{form}", tmp_path, [1, 2, 50])
    assert path.name == f"b.c_tree_top.{form}"
    mask = np.asarray(Image.open(path))
    assert Image.open(path).mode == "L"
    assert np.array_equal(mask == 255, CASE.whole.ids == 2)
    assert sorted(np.unique(mask)) == [0, 255]


@pytest.mark.parametrize("field", ["confidence", "entropy"])
def test_feature_values_in_8_bits_and_as_they_are(tmp_path, field):
    exact = getattr(CASE.whole, field).astype(np.float64)
    grey = Image.open(CASE.write(field, tmp_path, [9]))
    assert grey.mode == "L"
    assert np.abs(np.asarray(grey) - 255 * exact).max() < 0.5 + 1e-4
    stored = tifffile.imread(CASE.write(f"{field}.tif", tmp_path, [9]))
    assert stored.dtype == np.float32 and np.array_equal(stored, getattr(CASE.whole, field))


def test_feature_probabilities_sum_to_one(tmp_path):
    array = np.load(CASE.write("probabilities", tmp_path, [9, 31]))
    assert array.shape == (5, 60, 83) and array.dtype == np.float16
    assert np.array_equal(array, CASE.whole.probabilities.astype(np.float16))
    assert np.abs(array.astype(np.float64).sum(0) - 1).max() < 5 * 2**-11
    bands = tifffile.imread(CASE.write("probabilities.tif", tmp_path, [9, 31]))
    assert bands.dtype == np.float32 and np.array_equal(bands, CASE.whole.probabilities)


@pytest.mark.parametrize("tiled", [False, True])
def test_feature_products_of_a_geo_referenced_image_are_too(tmp_path, tiled):
    rasterio = pytest.importorskip("rasterio")
    geo = geo_reference(nodata=0.0, block=(256, 256) if tiled else None)
    case = make_case(600, 700, ignored=True, geo=geo)
    expected = {
        "ids": case.whole.ids[None],
        "confidence": case.whole.confidence[None],
        "entropy": case.whole.entropy[None],
        "probabilities": case.whole.probabilities,
        "class:road": np.where(case.whole.ids == 1, 255, 0)[None],
    }
    for name, pixels in expected.items():
        path = case.write(name, tmp_path, [100, 513])
        assert path.suffix == ".tif"
        with rasterio.open(path) as source:
            assert np.array_equal(source.read(), pixels), name
            assert source.crs.to_epsg() == 32633, name
            assert tuple(source.transform)[:6] == TRANSFORM, name
            assert source.nodata == (IGNORED if name == "ids" else None)
            assert bool(source.overviews(1)) == tiled
            if name == "ids":
                assert source.colormap(1)[2] == (*case.facts.palette[2], 255)
            if name == "probabilities":
                assert source.descriptions == case.facts.classes
    # What is asked for by its format is so for every image.
    assert case.write("ids.png", tmp_path).suffix == ".png"
