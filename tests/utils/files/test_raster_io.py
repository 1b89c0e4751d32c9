"""utils/files/raster_io.py: NPY, PNG and band rules, against Pillow and loops."""

import dataclasses
import json

import msgspec
import numpy as np
import pytest
from PIL import Image

from tests.raster_files import TYPES, extra_tag, nodata_tag, raw_tiff, values, write
from utils.files.data_file import DataError
from utils.files.raster_io import (
    BandRule,
    band_siblings,
    is_plain_image,
    pixel_type,
    read_bands,
    read_raster,
)


def rule_for(array, **options):
    return BandRule(channels=array.shape[2], dtype=pixel_type(array.dtype), **options)


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
        with pytest.raises(DataError, match=r"x\.npy: has an array of shape"):
            read_raster(path)
    np.save(path, np.array([[{}]]))
    with pytest.raises(DataError, match=r"x\.npy: is cut off or not"):
        read_raster(path)
    np.save(path, np.zeros((9, 9), [("a", "u1")]))
    with pytest.raises(DataError, match="numbers of type .*'u1'"):
        read_raster(path)
    np.save(path, values((40, 50)))
    data = path.read_bytes()
    for length in range(6, len(data), 97):
        with pytest.raises(DataError, match=r"x\.npy: is cut off"):
            read_raster(write(path, data[:length]))
    with open(path, "wb") as file:  # as long as its header says, and takes no space
        header = {"descr": "|u1", "fortran_order": False, "shape": (60000, 60000)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 60000**2)
    with pytest.raises(DataError, match=r"x\.npy: claims 60000x60000, more than 179 million"):
        read_raster(path)
    claims = data.replace(b"(40, 50)", b"(60000, 60000)").replace(b"      \n", b"\n")
    with pytest.raises(DataError, match=r"x\.npy: is cut off"):
        read_raster(write(path, claims))


# --- PNG and others


def test_feature_images_equal_pillow(tmp_path):
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
            with pytest.raises(DataError, match=r"cut\.png: is (cut off|not an image)"):
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


def test_feature_which_files_are_plain_images(tmp_path):
    rgb = values((9, 11, 3), "uint8")
    tiffs = {
        "rgb": (raw_tiff(rgb), False),  # three bands that count from black: no colours
        "grey": (raw_tiff(rgb[..., :1]), True),
        "grey_alpha": (raw_tiff(rgb[..., :2], tags=[extra_tag([2])]), True),
        "two": (raw_tiff(rgb[..., :2], tags=[extra_tag([0])]), False),
        "deep": (raw_tiff(values((9, 11, 1))), False),
    }
    for name, (data, plain) in tiffs.items():
        assert is_plain_image(write(tmp_path / f"{name}.tif", data)) is plain, name
    for mode, plain in {"RGB": True, "RGBA": True, "P": True, "1": True, "CMYK": True}.items():
        Image.fromarray(rgb).convert(mode).save(tmp_path / "x.tif")
        assert is_plain_image(tmp_path / "x.tif") is plain, mode
    Image.fromarray(rgb).save(tmp_path / "x.png")
    Image.fromarray(values((9, 11))).save(tmp_path / "deep.png")
    np.save(tmp_path / "x.npy", rgb)
    kinds = [is_plain_image(tmp_path / name) for name in ("x.png", "deep.png", "x.npy")]
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
    with pytest.raises(DataError, match=r"1_VV\.tif: has 2 bands"):
        two = write(tmp_path / names[2], raw_tiff(array[..., :2]))
        read_bands([files[0], two], rule, (0, 0, 0))
    write(tmp_path / names[2], raw_tiff(array[:7, :, :1]))
    with pytest.raises(DataError, match=r"1_VV\.tif: is 9x7 and .*1_HH\.tif is 9x8"):
        read_bands(files, rule, (0, 0, 0))
    (tmp_path / names[2]).unlink()
    with pytest.raises(DataError, match=r"its band 1_VV\.tif is missing"):
        band_siblings(tmp_path / names[0], rule.suffixes)
    other = write(tmp_path / "1_VV.PNG", b"x")
    assert band_siblings(tmp_path / names[0], rule.suffixes) == (*files[:2], str(other))
    write(tmp_path / "1_VV.npy", b"x")
    with pytest.raises(DataError, match=r"its band 1_VV\.tif exists"):
        band_siblings(tmp_path / names[0], rule.suffixes)


def test_exception_rule(tmp_path):
    array = values((8, 9, 4), "uint16")
    path = write(tmp_path / "x.tif", raw_tiff(array))
    for rule, words in (
        (rule_for(array[..., :3]), r"x\.tif: has 4 bands; expected 3"),
        (rule_for(array[..., :1], bands=(5,)), r"x\.tif: has 4 bands; there is no band 5"),
        (BandRule(4, "uint8"), r"x\.tif: .* uint16; expected uint8"),
        (BandRule(4, "int16"), r"x\.tif: .* uint16; expected int16"),
        (rule_for(array, clip=((0.2, 0.8),)), r"none lies in the clip range \(0\.2, 0\.8\)"),
    ):
        with pytest.raises(DataError, match=words):
            read_bands([path], rule, (0,) * rule.channels)
    grey = write(tmp_path / "grey.tif", raw_tiff(values((8, 9, 4), "uint8")))
    with pytest.raises(DataError, match="type uint8; expected uint16"):
        read_bands([grey], BandRule(4, "uint16"), (0,) * 4)  # their means have another unit
    pixels, _ = read_bands([path], BandRule(4, "float32"), (0,) * 4)  # wider is no loss
    assert np.array_equal(pixels, array.astype(np.float32))


def test_exception_numbers_that_float32_cannot_hold(tmp_path):
    array = np.array([[[1.0], [1e300], [-1e39]]])
    path = write(tmp_path / "x.tif", raw_tiff(array))
    pixels, missing = read_bands([path], rule_for(array), (3,))
    assert pixels.ravel().tolist() == [1, 3, 3]
    assert missing.tolist() == [[False, True, True]]
    array = np.array([[[1], [2**24], [2**60]]])
    write(path, raw_tiff(array))
    with pytest.raises(DataError, match="whole numbers beyond 16777216"):
        read_bands([path], rule_for(array), (0,))
    pixels, missing = read_bands([path], rule_for(array, nodata=float(2**60)), (5,))
    assert pixels.ravel().tolist() == [1, 2**24, 5]
    assert missing.tolist() == [[False, False, True]]


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


def test_feature_real_contest_images_equal_pillow(real_data):
    for path in (real_data / "gf2_layout/sat/train/img").glob("*.tif"):
        assert np.array_equal(read_raster(path).pixels, np.asarray(Image.open(path)))
        assert is_plain_image(path)
    for path in (real_data / "gf3_layout/train").glob("*.tiff"):
        assert np.array_equal(read_raster(path).pixels[..., 0], np.asarray(Image.open(path)))
