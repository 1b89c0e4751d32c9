"""utils/files/raster_io.py and below, against hand-made bytes, GDAL, Pillow and loops."""

import dataclasses
import json
import os
import subprocess
import sys
import tracemalloc

import msgspec
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import ROOT
from tests.raster_files import TYPES, extra_tag, geo_tag, nodata_tag, raw_tiff, set_fields, values
from utils.files import tiff_io
from utils.files.data_file import DataError
from utils.files.raster_io import (
    BandRule,
    band_siblings,
    is_plain_picture,
    pixel_type,
    read_bands,
    read_raster,
)


def write(path, data):
    path.write_bytes(data)
    return path


def rule_for(array, **options):
    return BandRule(channels=array.shape[2], dtype=pixel_type(array.dtype), **options)


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


def test_exception_several_pictures(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        writer.write(values((20, 30)), metadata=None)
        writer.write(values((21, 30)), metadata=None)
    with pytest.raises(DataError, match=r"holds 2 pictures of different kinds \(20x30 and 21x30\)"):
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
    with pytest.raises(DataError, match="nodata tag holds 'none'; expected a number"):
        read_raster(path)
    assert read_raster(write(path, raw_tiff(array))).nodata is None


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("planar", [False, True])
def test_feature_both_ways_agree_with_gdal(tmp_path, monkeypatch, dtype, planar):
    rasterio = pytest.importorskip("rasterio")
    array = values((18, 20, 4), dtype)
    data = raw_tiff(array, planar=planar, tags=[*geo_tag(), nodata_tag("7")])
    path = write(tmp_path / "x.tif", data)
    with rasterio.open(path) as source:
        expected, nodata = np.moveaxis(source.read(), 0, 2), source.nodata
    calls = []
    plain = tiff_io._read_gdal
    monkeypatch.setattr(tiff_io, "_read_gdal", lambda *a: calls.append(a) or plain(*a))
    by_gdal = read_raster(path)
    monkeypatch.setattr(tiff_io, "_has_rasterio", lambda: False)
    by_tifffile = read_raster(path)
    assert len(calls) == 1
    for raster in (by_gdal, by_tifffile):
        assert np.array_equal(raster.pixels, expected)
        assert raster.pixels.dtype == dtype
        assert raster.nodata == nodata == 7


@pytest.mark.parametrize("nodata", [None, 7])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"blockysize": 8},
        {"compress": "deflate"},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
    ],
)
@pytest.mark.parametrize("full", [False, True])
def test_feature_what_gdal_leaves_out_is_nodata(tmp_path, monkeypatch, nodata, options, full):
    """A sparse file has no bytes for empty blocks; one that is all empty is its header alone."""
    rasterio = pytest.importorskip("rasterio")
    monkeypatch.setattr(tiff_io, "_has_rasterio", lambda: False)
    path = tmp_path / "x.tif"
    shape = {"width": 32, "height": 4 if options == {} else 32, "count": 1, "dtype": "uint16"}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(
            path, "w", driver="GTiff", sparse_ok=True, nodata=nodata, **shape, **options
        ) as target,
    ):
        if full:
            target.write(values((1, 4, 32), "uint16"), window=((0, 4), (0, 32)))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(path) as source:
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
tiff_io._has_rasterio = lambda: False
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
    tifffile.imwrite(
        tmp_path / "flat.tif", deflated, compression="zlib", predictor=2, planarconfig="contig"
    )
    Image.fromarray(rgb).save(tmp_path / "bits.tif", compression="packbits")
    # Alpha is not left to Pillow, which takes it out of the colours where it is in them.
    Image.fromarray(np.dstack([rgb, rgb[..., 0]])).save(
        tmp_path / "alpha.tif", compression="tiff_lzw"
    )
    # Nor is an orientation, by which it would turn the picture.
    Image.fromarray(rgb).save(tmp_path / "turned.tif", compression="tiff_lzw", tiffinfo={274: 6})
    names = ("rgb", "flat", "bits", "deep", "alpha", "turned")
    paths = [str(tmp_path / f"{name}.tif") for name in names]
    command = [sys.executable, "-c", WITHOUT, *paths]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    sums = [int(a.astype(np.int64).sum()) for a in (rgb, deflated, rgb)]
    assert lines[:3] == [str(s) for s in sums]
    for name, line in zip(names[3:], lines[3:], strict=True):
        assert f"{name}.tif: cannot be decoded (compression LZW" in line
        assert "pip install imagecodecs" in line


def test_feature_pillow_reads_planar_colours_too(tmp_path, monkeypatch):
    rgb = values((20, 30, 3), "uint8")
    tifffile.imwrite(
        tmp_path / "x.tif",
        np.moveaxis(rgb, 2, 0),
        compression="zlib",
        planarconfig="separate",
        photometric="rgb",
    )
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", {})
    monkeypatch.setattr(tiff_io, "_has_rasterio", lambda: False)
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
    """A shorter file is an error or, where only padding is gone, the same picture: never zeros."""
    if not rasterio:
        monkeypatch.setattr(tiff_io, "_has_rasterio", lambda: False)
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
        ({256: 10000, 257: 10000, 277: 60}, "cut off|GiB|lacks pixels|damaged"),
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
        with pytest.raises(DataError, match=r"x\.tif: is damaged: its header lacks pixels"):
            read_raster(path)
    tifffile.imwrite(path, values((40, 50, 3)), compression="zlib", tile=(16, 16))
    data = path.read_bytes()
    write(path, set_fields(data, {324: (5, None), 325: (5, None)}))
    with pytest.raises(DataError, match=r"x\.tif: is damaged: its header lacks pixels"):
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
        "folder": "is a folder",
        "pipe": "no regular file",
        "empty": "is empty",
        "text": "is not a picture",
        "start": "cut off or damaged",
        "none": "no such file",
    }.items():
        with pytest.raises(DataError, match=words):
            read_raster(tmp_path / f"{name}.tif")


def test_exception_complex_numbers(tmp_path):
    array = values((4, 5, 1), "float32") + np.complex64(1j)
    with pytest.raises(DataError, match="numbers of type complex64; save them as one of uint8"):
        read_raster(write(tmp_path / "x.tif", raw_tiff(array)))


# --- NPY


@pytest.mark.parametrize("dtype", [*TYPES, ">u2", "bool"])
def test_feature_npy_axes(tmp_path, dtype):
    array = values((20, 30, 13), "uint16")
    array = (array > 99 if dtype == "bool" else array % 100).astype(dtype)
    for stored in (array, np.moveaxis(array, 2, 0), np.asfortranarray(array)):
        np.save(tmp_path / "x.npy", stored)
        pixels = read_raster(tmp_path / "x.npy").pixels
        assert np.array_equal(pixels, array)
        assert pixels.dtype.isnative and not isinstance(pixels, np.memmap)
    np.save(tmp_path / "x.npy", array[..., 0])
    assert np.array_equal(read_raster(tmp_path / "x.npy").pixels, array[..., :1])


def test_exception_npy(tmp_path):
    path = tmp_path / "x.npy"
    for shape in ((5, 5, 5), (9, 3, 9), (5, 3, 4), (4,), (2, 3, 4, 5)):
        np.save(path, np.zeros(shape))
        with pytest.raises(DataError, match=r"x\.npy: holds an array of shape .*expected \(H, W\)"):
            read_raster(path)
    np.save(path, np.array([[{}]]))
    with pytest.raises(DataError, match=r"x\.npy: is cut off or no plain array"):
        read_raster(path)
    np.save(path, np.zeros((9, 9), [("a", "u1")]))
    with pytest.raises(DataError, match="numbers of type .*'u1'"):
        read_raster(path)
    np.save(path, values((40, 50)))
    data = path.read_bytes()
    for length in range(6, len(data), 97):
        with pytest.raises(DataError, match=r"x\.npy: is cut off"):
            read_raster(write(path, data[:length]))
    claims = data.replace(b"(40, 50)", b"(60000, 60000)").replace(b"      \n", b"\n")
    with pytest.raises(DataError, match=r"x\.npy: is cut off"):
        read_raster(write(path, claims))


def test_exception_npy_with_a_hole(tmp_path):
    """As long as its header says, and takes no space."""
    with open(tmp_path / "x.npy", "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (60000, 60000)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 60000**2)
    with pytest.raises(DataError, match=r"x\.npy: claims 60000x60000, more than 179 million"):
        read_raster(tmp_path / "x.npy")


# --- PNG and others


def test_feature_pictures_equal_pillow(tmp_path):
    for channels, mode in ((1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")):
        array = values((20, 30, channels), "uint8")
        Image.fromarray(array.squeeze(), mode).save(tmp_path / "x.png")
        assert np.array_equal(read_raster(tmp_path / "x.png").pixels, array)
    rgb = values((20, 30, 3), "uint8")
    for name in ("x.jpg", "x.webp", "x.bmp"):
        Image.fromarray(rgb).save(tmp_path / name)
        expected = np.asarray(Image.open(tmp_path / name))
        assert np.array_equal(read_raster(tmp_path / name).pixels, expected)
    indices = Image.fromarray(rgb[..., 0], "P")
    indices.putpalette(bytes(range(255, -1, -1)) * 3)
    indices.save(tmp_path / "x.png")
    expected = np.asarray(indices.convert("RGB"))
    assert np.array_equal(read_raster(tmp_path / "x.png").pixels, expected)


def test_feature_16_bit_png(tmp_path):
    """OpenCV writes blue, green, red; Pillow checks the grey one."""
    import cv2

    for channels in (1, 3, 4):
        array = values((20, 30, channels), "uint16")
        order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
        cv2.imwrite(str(tmp_path / "x.png"), array[..., order])
        data = (tmp_path / "x.png").read_bytes()
        assert np.array_equal(read_raster(tmp_path / "x.png").pixels, array)
        for length in (len(data) - 5, len(data) // 2, 40):
            with pytest.raises(DataError, match=r"cut\.png: is (cut off|not a picture)"):
                read_raster(write(tmp_path / "cut.png", data[:length]))
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 1
        with pytest.raises(DataError, match=r"cut\.png: is damaged"):
            read_raster(write(tmp_path / "cut.png", bytes(flipped)))
    grey = values((20, 30), "uint16")
    Image.fromarray(grey).save(tmp_path / "x.png")
    assert np.array_equal(read_raster(tmp_path / "x.png").pixels[..., 0], grey)


def test_feature_exif_rotation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values((20, 30, 3), "uint8")).save(tmp_path / "x.jpg", exif=exif)
    assert read_raster(tmp_path / "x.jpg").pixels.shape == (20, 30, 3)


def test_feature_which_files_are_plain_pictures(tmp_path):
    rgb = values((9, 11, 3), "uint8")
    tiffs = {
        "rgb": (raw_tiff(rgb), False),  # three bands that count from black: no colours
        "grey": (raw_tiff(rgb[..., :1]), True),
        "grey_alpha": (raw_tiff(rgb[..., :2], tags=[extra_tag([2])]), True),
        "two": (raw_tiff(rgb[..., :2], tags=[extra_tag([0])]), False),
        "deep": (raw_tiff(values((9, 11, 1))), False),
    }
    for name, (data, plain) in tiffs.items():
        assert is_plain_picture(write(tmp_path / f"{name}.tif", data)) is plain, name
    for mode, plain in {"RGB": True, "RGBA": True, "P": True, "1": True, "CMYK": True}.items():
        Image.fromarray(rgb).convert(mode).save(tmp_path / "x.tif")
        assert is_plain_picture(tmp_path / "x.tif") is plain, mode
    Image.fromarray(rgb).save(tmp_path / "x.png")
    Image.fromarray(values((9, 11))).save(tmp_path / "deep.png")
    np.save(tmp_path / "x.npy", rgb)
    kinds = [is_plain_picture(tmp_path / name) for name in ("x.png", "deep.png", "x.npy")]
    assert kinds == [True, False, False]


# --- rules


def naive(files, rule, fill):
    """What `read_bands` promises, a pixel at a time."""
    stack = np.dstack([pixels for pixels, _ in files])
    nodata = files[0][1] if rule.nodata is None else rule.nodata
    bands = rule.bands or range(1, stack.shape[2] + 1)
    out = np.zeros((*stack.shape[:2], len(bands)), rule.dtype)
    missing = np.zeros(stack.shape[:2], bool)
    for y, x in np.ndindex(missing.shape):
        for channel, band in enumerate(bands):
            value = stack[y, x, band - 1]
            if value == nodata or not np.isfinite(value):
                missing[y, x] = True
                value = fill[channel] * (255 if rule.dtype == "uint8" else 1)
                out[y, x, channel] = value if rule.dtype == "float32" else round(value)
                continue
            if rule.clip:
                low, high = rule.clip[channel if len(rule.clip) > 1 else 0]
                value = min(max(value, low), high)
            out[y, x, channel] = value
    return out, missing


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "options",
    [
        {"channels": 4},
        {"channels": 2, "bands": (4, 1)},
        {"channels": 4, "clip": ((-20.0, 50.0),)},
        {"channels": 2, "bands": (3, 3), "clip": ((0.0, 100.0), (20.0, 30.0)), "nodata": 25.0},
    ],
)
def test_feature_rule_equals_a_naive_loop(tmp_path, dtype, options):
    array = values((8, 9, 4), dtype, seed=1)
    array[2, 3, 2], array[5, 5, 0] = 25, 60
    if array.dtype.kind == "f":
        array[1, 1, 2], array[7, 7, 0], array[6, 6, 3] = np.nan, np.inf, -np.inf
    path = write(tmp_path / "x.tif", raw_tiff(array, tags=[nodata_tag("60")]))
    rule = BandRule(dtype=pixel_type(array.dtype), **options)
    fill = (0.25, 0.5, 0.75, 0.1)[: rule.channels]
    pixels, missing = read_bands([path], rule, fill)
    expected, holes = naive([(array, 60)], rule, fill)
    assert np.array_equal(pixels, expected)
    assert pixels.dtype == rule.dtype and pixels.flags.c_contiguous
    assert np.array_equal(holes, np.zeros_like(holes) if missing is None else missing)
    assert holes.any() or rule.bands


def test_feature_files_of_one_band(tmp_path):
    array = values((8, 9, 3), "uint16")
    array[4, 4, 1] = 3
    names = [f"1_{p}.tif" for p in ("HH", "HV", "VV")]
    for band, name in enumerate(names):
        tags = [nodata_tag("3")] * (band == 1)  # each file has its own nodata value
        write(tmp_path / name, raw_tiff(array[..., band : band + 1], tags=tags))
    rule = rule_for(array, suffixes=("_HH", "_HV", "_VV"))
    files = band_siblings(tmp_path / names[0], rule.suffixes)
    assert files == tuple(str(tmp_path / name) for name in names)
    pixels, missing = read_bands(files, rule, (0, 77, 0))
    array[4, 4, 1] = 77
    assert np.array_equal(pixels, array)
    assert missing.sum() == 1 and missing[4, 4]

    with pytest.raises(DataError, match="expected the file of a first band.*_HH.tif"):
        band_siblings(tmp_path / names[1], rule.suffixes)
    with pytest.raises(DataError, match=r"1_VV\.tif: has 2 bands, expected a single one"):
        read_bands(
            [files[0], write(tmp_path / names[2], raw_tiff(array[..., :2]))], rule, (0, 0, 0)
        )
    write(tmp_path / names[2], raw_tiff(array[:7, :, :1]))
    with pytest.raises(DataError, match=r"1_VV\.tif: is 9x7 and .*1_HH\.tif is 9x8"):
        read_bands(files, rule, (0, 0, 0))
    (tmp_path / names[2]).unlink()
    with pytest.raises(DataError, match=r"its band 1_VV\.tif is missing"):
        band_siblings(tmp_path / names[0], rule.suffixes)
    for other in ("1_VV.PNG", "1_VV.npy"):
        write(tmp_path / other, b"x")
        if other == "1_VV.PNG":
            found = band_siblings(tmp_path / names[0], rule.suffixes)
            assert found == (*files[:2], str(tmp_path / other))
    with pytest.raises(DataError, match=r"its band 1_VV\.tif is there with several extensions"):
        band_siblings(tmp_path / names[0], rule.suffixes)


def test_exception_rule(tmp_path):
    array = values((8, 9, 4), "uint16")
    path = write(tmp_path / "x.tif", raw_tiff(array))
    for rule, words in (
        (rule_for(array[..., :3]), r"x\.tif: has 4 bands, expected 3"),
        (rule_for(array[..., :1], bands=(5,)), r"x\.tif: has 4 bands; there is no band 5"),
        (BandRule(4, "uint8"), r"x\.tif: holds numbers of type uint16, expected uint8"),
        (BandRule(4, "int16"), r"x\.tif: holds numbers of type uint16, expected int16"),
        (rule_for(array, clip=((0.2, 0.8),)), r"none lies in the clip range \(0\.2, 0\.8\)"),
    ):
        with pytest.raises(DataError, match=words):
            read_bands([path], rule, (0,) * rule.channels)
    grey = write(tmp_path / "grey.tif", raw_tiff(values((8, 9, 4), "uint8")))
    with pytest.raises(DataError, match="holds numbers of type uint8, expected uint16"):
        read_bands([grey], BandRule(4, "uint16"), (0,) * 4)  # their means have another unit
    pixels, _ = read_bands([path], BandRule(4, "float32"), (0,) * 4)  # wider is no loss
    assert np.array_equal(pixels, array.astype(np.float32))


def test_exception_whole_numbers_that_float32_cannot_hold(tmp_path):
    array = np.array([[[1], [2**24], [2**60]]])
    path = write(tmp_path / "x.tif", raw_tiff(array))
    with pytest.raises(DataError, match="whole numbers beyond 16777216"):
        read_bands([path], rule_for(array), (0,))
    pixels, missing = read_bands([path], rule_for(array, nodata=float(2**60)), (5,))
    assert pixels.ravel().tolist() == [1, 2**24, 5]
    assert missing.tolist() == [[False, False, True]]


def test_feature_values_beyond_float32_are_missing(tmp_path):
    array = np.array([[[1.0], [1e300], [-1e39]]])
    path = write(tmp_path / "x.tif", raw_tiff(array))
    pixels, missing = read_bands([path], rule_for(array), (3,))
    assert pixels.ravel().tolist() == [1, 3, 3]
    assert missing.tolist() == [[False, True, True]]


def test_feature_a_rule_is_plain_data():
    rule = BandRule(2, "uint16", bands=(4, 2), clip=((0.0, 1.5), (2.0, 3.0)), nodata=-1.0)
    text = json.dumps(dataclasses.asdict(rule))
    assert msgspec.convert(json.loads(text), BandRule) == rule
    assert not rule.is_8_bit and BandRule(3, "uint8").is_8_bit


# --- real files


@pytest.mark.parametrize("kind", ["s1", "s2"])
def test_feature_real_tiles_equal_gdal(real_data, kind):
    rasterio = pytest.importorskip("rasterio")
    for path in sorted((real_data / f"sen1floods11_tiles/train/{kind}").iterdir()):
        with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(path) as source:
            expected = np.moveaxis(source.read(), 0, 2)
        pixels = read_raster(path).pixels
        assert np.array_equal(pixels, expected)
        assert pixels.dtype == expected.dtype == {"s1": np.float32, "s2": np.uint16}[kind]


def test_feature_real_contest_pictures_equal_pillow(real_data):
    for path in (real_data / "gf2_layout/sat/train/img").glob("*.tif"):
        assert np.array_equal(read_raster(path).pixels, np.asarray(Image.open(path)))
        assert is_plain_picture(path)
    for path in (real_data / "gf3_layout/train").glob("*.tiff"):
        assert np.array_equal(read_raster(path).pixels[..., 0], np.asarray(Image.open(path)))
