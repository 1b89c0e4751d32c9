"""Every format, window by window, against the readers of whole images."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from prediction.source.image_source import LoadedImage, PixelRule, load_image
from prediction.source.open_image import Limits, open_image
from utils.files.data_file import DataError
from utils.files.raster_io import BandRule
from utils.files.tiff_windows import TiffWindows

HEIGHT, WIDTH = 203, 317
MEAN = (0.5, 0.5, 0.5)
RGB = PixelRule(MEAN)


def photo(seed=0, channels=3):
    """Smooth, so that JPEG is like a photograph's, with some noise."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(x / (9 + 4 * c)) + np.cos(y / (7 + 3 * c)) for c in range(channels)]
    return np.clip(np.dstack(waves) * 50 + 128 + generator.normal(0, 4, (HEIGHT, WIDTH, 1)),
                   0, 255).astype(np.uint8)  # fmt: skip


def save_pillow(path, **options):
    Image.fromarray(photo()).save(path, **options)


def save_mode(mode):
    def save(path):
        Image.fromarray(photo()).convert(mode).save(path)

    return save


def save_tiff(**options):
    def save(path):
        tifffile.imwrite(path, photo(), photometric="rgb", **options)

    return save


def save_grey_tiff(path):
    tifffile.imwrite(path, photo()[..., 0], photometric="miniswhite", tile=(64, 48))


def save_rasterio(**options):
    def save(path):
        rasterio = pytest.importorskip("rasterio")
        kind = {"driver": "GTiff", "dtype": "uint8", "count": 3, "photometric": "rgb"}
        with rasterio.open(path, "w", height=HEIGHT, width=WIDTH, **kind, **options) as file:
            file.write(np.moveaxis(photo(), 2, 0))

    return save


FILES = {
    "a.png": save_pillow,
    "palette.png": save_mode("P"),
    "grey.png": save_mode("L"),
    "bit.png": save_mode("1"),
    "alpha.png": save_mode("RGBA"),
    "grey_alpha.png": save_mode("LA"),
    "a.jpg": lambda path: save_pillow(path, quality=90),
    "444.jpg": lambda path: save_pillow(path, quality=95, subsampling=0),
    "grey.jpg": save_mode("L"),
    "progressive.jpg": lambda path: save_pillow(path, progressive=True),
    "strips.tif": save_tiff(rowsperstrip=7),
    "one_strip.tif": save_tiff(rowsperstrip=HEIGHT),
    "one_strip_lzw.tif": save_tiff(rowsperstrip=HEIGHT, compression="lzw"),
    "tiles.tif": save_tiff(tile=(64, 48)),
    "big.tif": save_tiff(tile=(64, 48), bigtiff=True, compression="zlib", predictor=True),
    "planar.tif": lambda path: tifffile.imwrite(
        path, np.moveaxis(photo(), 2, 0), photometric="rgb", planarconfig="separate", tile=(32, 64)
    ),
    "planar_strips.tif": lambda path: tifffile.imwrite(
        path, np.moveaxis(photo(), 2, 0), photometric="rgb", planarconfig="separate"
    ),
    "big_endian.tif": save_tiff(byteorder=">"),
    "white_is_zero.tif": save_grey_tiff,
    "jpeg.tif": save_tiff(tile=(64, 64), compression="jpeg"),
    "gdal.tif": save_rasterio(tiled=True, blockxsize=64, blockysize=64, compress="deflate"),
    "palette.tif": save_mode("P"),
    "a.bmp": save_pillow,
}


def windows():
    """In bands from the top down, overlapping, of several sizes, up to the edges."""
    for top in range(0, HEIGHT, 50):
        for left in range(0, WIDTH, 90):
            yield top, left, min(80, HEIGHT - top), min(110, WIDTH - left)


@pytest.mark.parametrize("rows", [0, 10**9], ids=["on disk", "in memory"])
@pytest.mark.parametrize("name", FILES)
def test_feature_windows_equal_the_whole(tmp_path, name, rows):
    path = tmp_path / name
    FILES[name](path)
    whole = load_image(path, RGB)
    source = open_image(path, RGB, Limits(whole=0, rows=rows, folder=tmp_path))
    assert not isinstance(source, LoadedImage)
    assert (source.height, source.width) == (HEIGHT, WIDTH)
    source.keep(130)
    for _ in range(2):  # the second time from the start again
        for window in windows():
            expected, made = whole.read(*window), source.read(*window)
            assert made.dtype == np.uint8
            np.testing.assert_array_equal(made, expected, err_msg=str(window))
    source.close()
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_feature_a_small_image_is_loaded(tmp_path):
    save_pillow(tmp_path / "a.png")
    source = open_image(tmp_path / "a.png", RGB, Limits(whole=10**6))
    assert isinstance(source, LoadedImage)
    assert not isinstance(
        open_image(tmp_path / "a.png", RGB, Limits(whole=HEIGHT * WIDTH * 3 - 1)), LoadedImage
    )


@pytest.mark.parametrize("kind", ["tiles", "strips", "pages", "npy", "npy_first", "files"])
def test_feature_bands_nodata_and_clipping(tmp_path, kind):
    generator = np.random.default_rng(1)
    pixels = generator.normal(100, 60, (HEIGHT, WIDTH, 4)).astype(np.float32)
    pixels[20:60, 30:70, 1] = -9999
    pixels[5, 5, 3] = np.nan
    rule = BandRule(
        3, "float32", None if kind == "files" else (4, 1, 2), clip=((0, 150),), nodata=-9999
    )
    path = tmp_path / "a.tif"
    options = {"tiles": {"tile": (48, 64)}, "strips": {"rowsperstrip": 11}}.get(kind, {})
    if kind in ("tiles", "strips"):
        tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig", **options)
    elif kind == "pages":
        tifffile.imwrite(path, np.moveaxis(pixels, 2, 0), photometric="minisblack")
    elif kind.startswith("npy"):
        path = tmp_path / "a.npy"
        np.save(path, pixels if kind == "npy" else np.ascontiguousarray(np.moveaxis(pixels, 2, 0)))
    else:
        rule = BandRule(3, "float32", None, ("_a", "_b", "_c"), ((0, 150),), -9999)
        for number, suffix in enumerate(rule.suffixes):
            tifffile.imwrite(tmp_path / f"p{suffix}.tif", pixels[..., number], rowsperstrip=9)
        path = tmp_path / "p_a.tif"
    how = PixelRule((50.0, 60.0, 70.0), rule)
    whole = load_image(path, how)
    source = open_image(path, how, Limits(whole=0, folder=tmp_path))
    assert not isinstance(source, LoadedImage)
    source.keep(100)
    for window in windows():
        made = source.read(*window)
        assert made.dtype == np.float32 and np.isfinite(made).all()
        np.testing.assert_array_equal(made, whole.read(*window))
        np.testing.assert_array_equal(source.missing(*window), whole.missing(*window))
    source.close()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_feature_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    save_pillow(path, exif=exif.tobytes())
    for rule in (PixelRule(MEAN, exif="apply"), PixelRule(MEAN, exif="ignore")):
        whole = load_image(path, rule)
        source = open_image(path, rule, Limits(whole=0, folder=tmp_path))
        assert (source.height, source.width) == (whole.height, whole.width)
        source.keep(80)
        for top in range(0, source.height - 40, 37):
            for left in range(0, source.width - 50, 61):
                window = (top, left, 40, 50)
                np.testing.assert_array_equal(source.read(*window), whole.read(*window))
        source.close()


def test_feature_missing_of_rgb_is_where_all_bands_are_nodata(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    pixels = photo()
    pixels[:50] = 0
    pixels[60, 60, 0] = 0
    kind = {"driver": "GTiff", "dtype": "uint8", "count": 3, "photometric": "rgb", "nodata": 0}
    with rasterio.open(tmp_path / "a.tif", "w", height=HEIGHT, width=WIDTH, **kind) as file:
        file.write(np.moveaxis(pixels, 2, 0))
    source = open_image(tmp_path / "a.tif", RGB, Limits(whole=0))
    hole = source.missing(0, 0, HEIGHT, WIDTH)
    assert hole[:50].all() and not hole[50:].any()


@pytest.mark.parametrize("kind", ["infrared", "palette", "grey"])
def test_feature_missing_is_the_same_in_memory_and_in_windows(tmp_path, kind):
    """The colours decide, as they are stored: not alpha, nor the colours of a palette."""
    rasterio = pytest.importorskip("rasterio")
    stored = np.random.default_rng(0).integers(1, 255, (4, HEIGHT, WIDTH), dtype=np.uint8)
    stored[:3, :50] = 0
    options = {"infrared": {"count": 4, "photometric": "rgb", "alpha": "YES"},
               "palette": {"count": 1, "photometric": "palette"},
               "grey": {"count": 1}}[kind]  # fmt: skip
    path = tmp_path / "a.tif"
    options |= {"tiled": True, "blockxsize": 64, "blockysize": 64, "nodata": 0, "dtype": "uint8"}
    size = {"height": HEIGHT, "width": WIDTH}
    with rasterio.open(path, "w", driver="GTiff", **size, **options) as file:
        file.write(stored[: options["count"]])
        if kind == "palette":
            file.write_colormap(1, {n: (255 - n, n, 0) for n in range(256)})
    whole = open_image(path, RGB, Limits(whole=float("inf")))
    windows = open_image(path, RGB, Limits(whole=0))
    for source in (whole, windows):
        hole = source.missing(0, 0, HEIGHT, WIDTH)
        assert hole[:50].all() and not hole[50:].any()
    np.testing.assert_array_equal(
        whole.read(0, 0, HEIGHT, WIDTH), windows.read(0, 0, HEIGHT, WIDTH)
    )


def test_feature_large_strips_are_not_decoded_at_once(tmp_path):
    """A file of one strip: as it is, parts of it are read; compressed, GDAL reads its rows."""
    save_tiff(rowsperstrip=HEIGHT)(tmp_path / "raw.tif")
    raw = TiffWindows(tmp_path / "raw.tif")
    assert raw.block_bytes <= 1 << 20
    raw.close()


class TestHostile:
    def png(self, width, height, data=b""):
        def chunk(kind, body):
            crc = zlib.crc32(kind + body)
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            chunk(*one) for one in ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
        )

    def test_exception_a_bomb_is_refused_by_its_header(self, tmp_path):
        path = tmp_path / "bomb.png"
        path.write_bytes(self.png(100_000, 100_000, zlib.compress(b"\0" * 10**7)))
        with pytest.raises(DataError, match=r"claims 100000x100000 pixels in \d+ bytes.*--large"):
            open_image(path, RGB, Limits(whole=10**9))

    def test_feature_large_says_it_is_meant(self, tmp_path):
        pytest.importorskip("rasterio")
        path = tmp_path / "map.png"
        rows = zlib.compressobj()
        data = b"".join(rows.compress(b"\0" * (1 + 3 * 20_000)) for _ in range(10_000))
        path.write_bytes(self.png(20_000, 10_000, data + rows.flush()))
        with pytest.raises(DataError, match="--large"):
            open_image(path, RGB, Limits(whole=10**9))
        source = open_image(path, RGB, Limits(whole=10**9, large=True, folder=tmp_path))
        assert not source.read(0, 19_000, 100, 1000).any()
        source.close()

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "strips.tif", "big.tif", "jpeg.tif"])
    def test_exception_cut_off(self, tmp_path, name):
        path = tmp_path / name
        FILES[name](path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        with pytest.raises(DataError, match=str(path)):
            source = open_image(path, RGB, Limits(whole=0, folder=tmp_path))
            source.read(0, 0, HEIGHT, WIDTH)

    @pytest.mark.parametrize("name", ["big.tif", "a.png"])
    def test_exception_damage_inside(self, tmp_path, name):
        path = tmp_path / name
        FILES[name](path)
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 40] = bytes(40)
        path.write_bytes(data)
        with pytest.raises(DataError, match=str(path)):
            source = open_image(path, RGB, Limits(whole=0, folder=tmp_path))
            source.read(0, 0, HEIGHT, WIDTH)

    def test_exception_without_rasterio(self, tmp_path, monkeypatch):
        import prediction.source.open_image as module

        monkeypatch.setattr(module, "has_rasterio", lambda: False)
        monkeypatch.setattr(module, "MAX_PIXELS", HEIGHT * WIDTH - 1)
        buffer = io.BytesIO()
        Image.fromarray(photo()).save(buffer, "PNG")
        (tmp_path / "a.png").write_bytes(buffer.getvalue())
        with pytest.raises(DataError, match="pip install rasterio, or save it as TIFF"):
            open_image(tmp_path / "a.png", RGB, Limits(whole=10**9))
