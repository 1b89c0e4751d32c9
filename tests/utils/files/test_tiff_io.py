"""TIFF files by utils/files/raster_io.py, against hand-made bytes, GDAL and Pillow."""

import os
import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import run_code
from tests.raster_files import TYPES, geo_tag, nodata_tag, raw_tiff, set_fields, values, write
from utils.files import tiff_io
from utils.files.data_file import DataError
from utils.files.raster_io import read_raster

# --- TIFF: the pixels


@pytest.mark.parametrize("dtype", [*TYPES, "int64", "uint64"])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("planar", [False, True])
def test_feature_tiff_equals_the_bytes_written_by_hand(tmp_path, dtype, big_endian, planar):
    array = values((7, 9, 5), dtype)
    for big in (False, True):
        data = raw_tiff(array, big_endian=big_endian, planar=planar, big=big, rows=3)
        pixels = read_raster(write(tmp_path / "x.tif", data)).pixels
        assert np.array_equal(pixels, array)
        assert pixels.dtype == array.dtype and pixels.dtype.isnative


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (16, 32)},
        {"rowsperstrip": 5, "compression": "zlib"},
        {"compression": "zlib", "predictor": 2},
        {"compression": "zlib", "predictor": 2, "byteorder": ">"},
        {"tile": (16, 16), "compression": "zlib", "planarconfig": "separate"},
        {"bigtiff": True, "tile": (32, 16)},
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_feature_tiff_structures(tmp_path, options, dtype):
    """tifffile as the writer: another program than the one that decodes is in the next tests."""
    if "predictor" in options and dtype == "float32":
        pytest.importorskip("imagecodecs")
        options = {**options, "predictor": 3}
    array = values((37, 50, 5), dtype)
    separate = options.get("planarconfig") == "separate"
    tifffile.imwrite(
        tmp_path / "x.tif",
        np.moveaxis(array, 2, 0) if separate else array,
        photometric="minisblack",
        **{"planarconfig": "contig", **options},
    )
    assert np.array_equal(read_raster(tmp_path / "x.tif").pixels, array)


@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_adobe_deflate"])
def test_feature_tiff_by_pillow(tmp_path, compression):
    array = values((20, 30, 3), "uint8")
    Image.fromarray(array).save(tmp_path / "x.tif", compression=compression)
    assert np.array_equal(read_raster(tmp_path / "x.tif").pixels, array)


def test_feature_pages_are_bands_and_overviews_are_not(tmp_path):
    array = values((20, 30, 4), "uint16")
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        for band in range(4):
            writer.write(array[..., band], photometric="minisblack", metadata=None)
        writer.write(array[::2, ::2, 0], subfiletype=1, photometric="minisblack", metadata=None)
        mask = np.ones((20, 30), bool)
        writer.write(mask, subfiletype=4, photometric="mask", metadata=None)
    assert np.array_equal(read_raster(tmp_path / "x.tif").pixels, array)


@pytest.mark.parametrize("options", [{"ome": True}, {"imagej": True}])
def test_feature_axes_that_a_microscope_names(tmp_path, options):
    array = values((3, 20, 30), "uint16")
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, array, metadata={"axes": "CYX"}, photometric="minisblack", **options)
    assert np.array_equal(read_raster(path).pixels, np.moveaxis(array, 0, 2))
    for axes in ("ZYX", "TYX"):
        tifffile.imwrite(path, array, metadata={"axes": axes}, photometric="minisblack", **options)
        with pytest.raises(DataError, match=rf"x\.tif: has the axes {axes} \(3x20x30\)"):
            read_raster(path)


def test_exception_several_images(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        writer.write(values((20, 30)), metadata=None)
        writer.write(values((21, 30)), metadata=None)
    with pytest.raises(DataError, match=r"2 images .*\(20x30 and 21x30\)"):
        read_raster(tmp_path / "x.tif")
    tifffile.imwrite(tmp_path / "x.tif", values((2, 9, 9, 3), "uint8"), photometric="rgb")
    with pytest.raises(DataError, match="has the axes QYXS"):
        read_raster(tmp_path / "x.tif")


# --- TIFF: nodata, rasterio


@pytest.mark.parametrize(("text", "value"), [("-9999", -9999), ("-3.4028234663852886e+38", None)])
def test_feature_nodata_tag(tmp_path, text, value):
    array = values((4, 5, 2), "float32")
    path = write(tmp_path / "x.tif", raw_tiff(array, tags=[nodata_tag(text)]))
    assert read_raster(path).nodata == (value or float(text))
    write(path, raw_tiff(array, tags=[nodata_tag("nan")]))
    assert np.isnan(read_raster(path).nodata)
    write(path, raw_tiff(array, tags=[nodata_tag("none")]))
    with pytest.raises(DataError, match="nodata tag is 'none'"):
        read_raster(path)
    assert read_raster(write(path, raw_tiff(array))).nodata is None


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("planar", [False, True])
def test_feature_both_ways_agree_with_gdal(tmp_path, monkeypatch, dtype, planar):
    """GDAL reads what tifffile cannot decode; both give the values that rasterio gives."""
    rasterio = pytest.importorskip("rasterio")
    array = values((18, 20, 4), dtype)
    data = raw_tiff(array, planar=planar, tags=[*geo_tag(), nodata_tag("7")])
    path = write(tmp_path / "x.tif", data)
    with rasterio.open(path) as source:
        expected, nodata = np.moveaxis(source.read(), 0, 2), source.nodata
    by_tifffile = read_raster(path)
    monkeypatch.setattr(tiff_io, "is_known", lambda page: False)
    by_gdal = read_raster(path)
    for raster in (by_gdal, by_tifffile):
        assert np.array_equal(raster.pixels, expected)
        assert raster.pixels.dtype == dtype
        assert raster.nodata == nodata == 7


@pytest.mark.parametrize("nodata", [None, 7])
@pytest.mark.parametrize(
    "options",
    [{}, {"blockysize": 8}, {"compress": "deflate"},
     {"tiled": True, "blockxsize": 16, "blockysize": 16}],
)  # fmt: skip
@pytest.mark.parametrize("full", [False, True])
def test_feature_what_gdal_leaves_out_is_nodata(tmp_path, monkeypatch, nodata, options, full):
    """A sparse file has no bytes for empty blocks; one that is all empty is its header alone."""
    rasterio = pytest.importorskip("rasterio")
    monkeypatch.setattr(tiff_io, "has_rasterio", lambda: False)
    path = tmp_path / "x.tif"
    shape = {"width": 32, "height": 4 if options == {} else 32, "count": 1, "dtype": "uint16"}
    options = {"driver": "GTiff", "sparse_ok": True, "nodata": nodata, **shape, **options}
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        with rasterio.open(path, "w", **options) as target:
            if full:
                target.write(values((1, 4, 32), "uint16"), window=((0, 4), (0, 32)))
        with rasterio.open(path) as source:
            expected = np.moveaxis(source.read(), 0, 2)
    assert np.array_equal(read_raster(path).pixels, expected)


def test_feature_files_beside_do_not_matter(tmp_path):
    pytest.importorskip("rasterio")
    path = write(tmp_path / "x.tif", raw_tiff(values((8, 9, 1)), tags=geo_tag()))
    (tmp_path / "x.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><NoDataValue>3</NoDataValue></PAMRasterBand>"
        "</PAMDataset>"
    )
    assert read_raster(path).nodata is None


WITHOUT = """
import sys
sys.modules["imagecodecs"] = sys.modules["rasterio"] = None
import numpy as np
import utils.files.tiff_io as tiff_io
tiff_io.has_rasterio = lambda: False
from utils.files.raster_io import read_raster
for path in sys.argv[1:]:
    try:
        print(read_raster(path).pixels.astype(np.int64).sum())
    except ValueError as error:
        print(error)
"""


def test_exception_compression_that_needs_a_package(tmp_path):
    rgb, deep = values((20, 30, 3), "uint8"), values((20, 30), "uint16")
    Image.fromarray(rgb).save(tmp_path / "rgb.tif", compression="tiff_lzw")
    Image.fromarray(deep).save(tmp_path / "deep.tif", compression="tiff_lzw")
    deflated = values((20, 30, 5), "int16")
    options = {"compression": "zlib", "predictor": 2, "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "flat.tif", deflated, **options)
    Image.fromarray(rgb).save(tmp_path / "bits.tif", compression="packbits")
    # Alpha is not left to Pillow, which takes it out of the colours where it is in them.
    rgba = Image.fromarray(np.dstack([rgb, rgb[..., 0]]))
    rgba.save(tmp_path / "alpha.tif", compression="tiff_lzw")
    # Nor is an orientation, by which it would turn the image.
    Image.fromarray(rgb).save(tmp_path / "turned.tif", compression="tiff_lzw", tiffinfo={274: 6})
    names = ("rgb", "flat", "bits", "deep", "alpha", "turned")
    paths = [str(tmp_path / f"{name}.tif") for name in names]
    lines = run_code(WITHOUT, *paths).stdout.splitlines()
    sums = [int(a.astype(np.int64).sum()) for a in (rgb, deflated, rgb)]
    assert lines[:3] == [str(s) for s in sums]
    for name, line in zip(names[3:], lines[3:], strict=True):
        assert f"{name}.tif: cannot be decoded (compression LZW" in line
        assert "pip install imagecodecs" in line


def test_feature_pillow_reads_planar_colours_too(tmp_path, monkeypatch):
    rgb = values((20, 30, 3), "uint8")
    options = {"compression": "zlib", "planarconfig": "separate", "photometric": "rgb"}
    tifffile.imwrite(tmp_path / "x.tif", np.moveaxis(rgb, 2, 0), **options)
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", {})
    monkeypatch.setattr(tiff_io, "has_rasterio", lambda: False)
    assert np.array_equal(read_raster(tmp_path / "x.tif").pixels, rgb)


# --- broken files


def samples_of_tiffs(tmp_path):
    array = values((20, 30, 3), "uint16")
    yield "strips", raw_tiff(array, rows=7)
    yield "planar", raw_tiff(array, planar=True, big=True)
    tifffile.imwrite(tmp_path / "t.tif", array, compression="zlib", tile=(16, 16))
    yield "tiles", (tmp_path / "t.tif").read_bytes()
    tifffile.imwrite(tmp_path / "p.tif", np.moveaxis(array, 2, 0), photometric="minisblack")
    yield "pages", (tmp_path / "p.tif").read_bytes()
    with tifffile.TiffWriter(tmp_path / "c.tif") as writer:
        for band in range(3):
            writer.write(array[..., band], photometric="minisblack", metadata=None)
    yield "chain", (tmp_path / "c.tif").read_bytes()


@pytest.mark.parametrize("rasterio", [True, False])
def test_exception_tiff_cut_off_anywhere(tmp_path, monkeypatch, rasterio, caplog):
    """A shorter file is an error or, where only padding is gone, the same image: never zeros."""
    if not rasterio:
        monkeypatch.setattr(tiff_io, "has_rasterio", lambda: False)
    for kind, data in samples_of_tiffs(tmp_path):
        whole = read_raster(write(tmp_path / "cut.tif", data)).pixels
        for length in range(1, len(data), 37):
            write(tmp_path / "cut.tif", data[:length])
            try:
                assert np.array_equal(read_raster(tmp_path / "cut.tif").pixels, whole), kind
            except DataError as error:
                assert "cut.tif: " in str(error)
            else:
                assert length > 0.9 * len(data), (kind, length)
    assert not caplog.records  # tifffile's own messages would flood a log


def test_exception_pages_that_are_cut_off(tmp_path):
    """The file ends where its second page, a band, would start."""
    data = dict(samples_of_tiffs(tmp_path))["chain"]
    with tifffile.TiffFile(tmp_path / "c.tif") as tiff:
        second = tiff.pages[1].offset
    for length in (second, second + 1, second + 30):
        with pytest.raises(DataError, match=r"cut\.tif: is cut off"):
            read_raster(write(tmp_path / "cut.tif", data[:length]))


def test_exception_tiff_with_a_flipped_byte(tmp_path):
    rng = np.random.default_rng(0)
    for _, data in samples_of_tiffs(tmp_path):
        for _ in range(60):
            damaged = bytearray(data)
            damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
            try:
                pixels = read_raster(write(tmp_path / "flip.tif", bytes(damaged))).pixels
            except DataError as error:
                assert "flip.tif: " in str(error)
            else:
                assert pixels.ndim == 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({256: 60000, 257: 60000, 278: 60000}, "claims 60000x60000"),
        ({256: 0}, "claims a size of 0x|damaged"),
        ({256: 10000, 257: 10000, 277: 60}, "cut off|GiB|too few strips|damaged"),
    ],
)
def test_exception_tiff_that_claims_too_much(tmp_path, fields, words):
    data = raw_tiff(values((4, 4, 1), "uint8"))
    fields = {tag: (None, value) for tag, value in fields.items()}
    path = write(tmp_path / "bomb.tif", set_fields(data, fields))
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"bomb\.tif: .*({words})"):
        read_raster(path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_exception_tiff_that_lacks_pixels(tmp_path):
    """What nobody wrote would be whatever the memory held before."""
    path = tmp_path / "x.tif"
    for fields in ({279: (None, 100)}, {273: (None, 60), 279: (None, 100)}):
        write(path, set_fields(raw_tiff(values((20, 30, 1))), fields))
        with pytest.raises(DataError, match=r"x\.tif: is damaged: its header lists too few strips"):
            read_raster(path)
    tifffile.imwrite(path, values((40, 50, 3)), compression="zlib", tile=(16, 16))
    data = path.read_bytes()
    write(path, set_fields(data, {324: (5, None), 325: (5, None)}))
    with pytest.raises(DataError, match=r"x\.tif: is damaged: its header lists too few strips"):
        read_raster(path)
    with pytest.raises(DataError, match=r"x\.tif: is cut off: its pixels end at byte \d+"):
        read_raster(write(path, data[:-1]))


def test_exception_more_than_four_gibibytes(tmp_path):
    """A file with a hole is as long as its header says and takes no space."""
    path = write(tmp_path / "x.tif", raw_tiff(np.zeros((1, 1, 1), np.uint8)))
    array = np.lib.stride_tricks.as_strided(np.zeros(1), (12000, 12000, 40), (0, 0, 0))
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(shape=array.shape, dtype="float64", planarconfig="contig")
    with pytest.raises(DataError, match=r"x\.tif: claims 12000x12000x40 values, more than 4 GiB"):
        read_raster(path)


def test_exception_what_is_no_raster(tmp_path):
    (tmp_path / "folder.tif").mkdir()
    os.mkfifo(tmp_path / "pipe.tif")
    write(tmp_path / "empty.tif", b"")
    write(tmp_path / "text.tif", b"hello")
    write(tmp_path / "start.tif", b"II*\0")
    for name, words in {
        "folder": "is a folder", "pipe": "not a regular file", "empty": "is empty",
        "text": "is not an image", "start": "cut off or damaged", "none": "no such file",
    }.items():  # fmt: skip
        with pytest.raises(DataError, match=words):
            read_raster(tmp_path / f"{name}.tif")


def test_exception_complex_numbers(tmp_path):
    array = values((4, 5, 1), "float32") + np.complex64(1j)
    with pytest.raises(DataError, match="numbers of type complex64; save them as one of uint8"):
        read_raster(write(tmp_path / "x.tif", raw_tiff(array)))
