"""Rasters of any number of bands: from files to the array that a network takes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np

from utils.cli.extensions import IMAGE_EXTENSIONS
from utils.files.data_file import DataError, StrPath, damaged, open_file, read_bytes
from utils.files.file_facts import file_facts
from utils.files.image_io import check_png, read_image
from utils.files.npy_file import NPY_START, read_npy
from utils.files.png_file import needed_chunks
from utils.files.tiff_io import TIFF_STARTS, holds_bands, is_plain_tiff, read_tiff

PixelType = Literal["uint8", "uint16", "int16", "float32"]

# Type in a file -> type in the program. float32 is exact up to 2^24.
_TYPES: dict[str, PixelType] = {
    "bool": "uint8", "uint8": "uint8", "int8": "int16", "int16": "int16", "uint16": "uint16",
    "int32": "float32", "uint32": "float32", "int64": "float32", "uint64": "float32",
    "float16": "float32", "float32": "float32", "float64": "float32",
}  # fmt: skip
_EXACT = 1 << 24


class Raster(NamedTuple):
    """The content of a file."""

    pixels: np.ndarray  # (H, W, C) in the file's type and the machine's byte order
    nodata: float | None = None  # the value that marks missing pixels, or None


@dataclasses.dataclass(frozen=True)
class BandRule:
    """The bands of an image, and what is done to their values.

    Plain data: a checkpoint keeps it.
    """

    channels: int  # the number of bands of an image
    dtype: PixelType  # the type of its pixels
    # The bands to take, in this order, counted from 1 as GDAL does; None for all.
    bands: tuple[int, ...] | None = None
    suffixes: tuple[str, ...] = ()  # the ends of the files' stems if each band is a file of its own
    # (low, high) for all bands, or one pair a band, in the unit of the file.
    clip: tuple[tuple[float, float], ...] | None = None
    nodata: float | None = None  # the value of missing pixels, instead of the one that a file names

    @property
    def is_8_bit(self) -> bool:
        """Whether mean and std are in 0..1; otherwise they are in the unit of the sensor."""
        return self.dtype == "uint8"


def pixel_type(dtype: np.dtype) -> PixelType | None:
    """Return the program's type for a file's type; None for complex numbers."""
    return _TYPES.get(dtype.name)


def read_raster(path: StrPath) -> Raster:
    """Read all bands of a file, exactly as stored: TIFF, NPY, or an image of 8 or 16 bits.

    An NPY file has (H, W), (H, W, C) or (C, H, W): the bands are the shortest axis. Colour images
    are in the order red, green, blue, with alpha in PNG; palettes are applied, except in TIFF. The
    EXIF rotation is not applied.

    Raises:
        DataError: If the file cannot be used, or has values that are not real numbers.
    """
    with open_file(path) as file:
        start = file.read(len(NPY_START))
    if start.startswith(TIFF_STARTS):
        raster = Raster(*read_tiff(path))
    elif start.startswith(NPY_START):
        raster = Raster(read_npy(path))
    else:
        raster = Raster(_read_image_file(path))
    if pixel_type(raster.pixels.dtype) is None:
        raise DataError(
            f"{path}: has numbers of type {raster.pixels.dtype}; save them as one of "
            f"{', '.join(get_args(PixelType))}"
        )
    return raster


def is_plain_image(path: StrPath) -> bool:
    """Return whether a file is an ordinary 8-bit image that is best read as RGB.

    Raises:
        DataError: If the file's header cannot be used.
    """
    facts = file_facts(path)
    if facts.format == "TIFF":
        return is_plain_tiff(path) and not holds_bands(path)
    return facts.format != "NPY" and not (facts.format == "PNG" and facts.bits == 16)


def read_bands(
    paths: Sequence[StrPath], rule: BandRule, fill: Sequence[float]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read one image by a rule.

    A pixel is missing if any chosen band has the nodata value, NaN or infinity there. Missing
    values become `fill`, which a network sees as zero; all others are clipped.

    Args:
        paths: One file, or one a band.
        rule: The bands to read.
        fill: The mean of each channel: in 0..1 for uint8, else in the unit of the file.

    Returns:
        Pixels (H, W, C) of type `rule.dtype`, and where they are missing, (H, W) bool or None.

    Raises:
        DataError: If a file cannot be used, files of one image differ in size, or bands or type
            differ from the rule.
    """
    return apply_rule(paths, [read_raster(path) for path in paths], rule, fill)


def apply_rule(
    paths: Sequence[StrPath], rasters: Sequence[Raster], rule: BandRule, fill: Sequence[float]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Make the pixels of an image, or of a window of it, of what its files have; see `read_bands`.

    Raises:
        DataError: As `read_bands`.
    """
    _check_files(paths, rasters)
    layers = [_prepare(path, raster, rule) for path, raster in zip(paths, rasters, strict=True)]
    pixels = np.dstack([values for values, _ in layers])
    hole = np.dstack([missing for _, missing in layers])
    if pixels.shape[2] != rule.channels:
        raise DataError(
            f"{paths[0]}: has {pixels.shape[2]} bands; expected {rule.channels}; leave it out, or "
            'choose bands that all files have with "bands"'
        )
    _clip(paths[0], pixels, rule.clip)
    if not hole.any():
        return pixels, None
    np.copyto(pixels, _fill_values(fill, rule.dtype), where=hole)
    return pixels, np.any(hole, axis=2)


def band_siblings(path: StrPath, suffixes: Sequence[str]) -> tuple[str, ...]:
    """Return the files of all bands of an image, given that of the first band.

    Args:
        path: `1_HH.tiff`.
        suffixes: The ends of the stems, as in `BandRule`; none if one file has all bands.

    Raises:
        DataError: If the name does not end with the first suffix, or a file is missing.
    """
    if not suffixes:
        return (str(path),)
    file = Path(path)
    if not file.stem.endswith(suffixes[0]):
        raise DataError(
            f"{path}: expected the file of a first band, whose name ends with "
            f"{suffixes[0]}{file.suffix}"
        )
    stem = file.stem.removesuffix(suffixes[0])
    return tuple(_find_band(file, f"{stem}{suffix}") for suffix in suffixes)


def _find_band(first: Path, stem: str) -> str:
    """Return the file of a band beside that of the first one, possibly with another extension."""
    same = first.with_name(f"{stem}{first.suffix}")
    if same.is_file():
        return str(same)
    endings = {form for e in (*IMAGE_EXTENSIONS, ".npy") for form in (e, e.upper())}
    found = [p for ending in endings if (p := first.with_name(f"{stem}{ending}")).is_file()]
    if len(found) != 1:
        problem = "is missing beside it" if not found else "exists with several extensions"
        raise DataError(f"{first}: its band {same.name} {problem}")
    return str(found[0])


def _check_files(paths: Sequence[StrPath], rasters: Sequence[Raster]) -> None:
    """Check that files of one band each have one band and the same size."""
    height, width, _ = rasters[0].pixels.shape
    for path, raster in zip(paths[1:], rasters[1:], strict=True):
        rows, columns, _ = raster.pixels.shape
        if (rows, columns) != (height, width):
            raise DataError(
                f"{path}: is {columns}x{rows} and {paths[0]} is {width}x{height}; the bands of an "
                "image must have one size"
            )
    for path, raster in zip(paths, rasters, strict=True):
        if len(paths) > 1 and raster.pixels.shape[2] != 1:
            raise DataError(f"{path}: has {raster.pixels.shape[2]} bands; expected one")


def _prepare(path: StrPath, raster: Raster, rule: BandRule) -> tuple[np.ndarray, np.ndarray]:
    """Return the chosen bands of a file in the type of the rule, and which values are missing."""
    pixels = raster.pixels
    if rule.bands is not None and not rule.suffixes:
        if max(rule.bands) > pixels.shape[2]:
            raise DataError(
                f"{path}: has {pixels.shape[2]} bands; there is no band {max(rule.bands)}"
            )
        pixels = pixels[:, :, [band - 1 for band in rule.bands]]
    hole = _equals(pixels, raster.nodata if rule.nodata is None else rule.nodata)
    converted = _convert(path, pixels, hole, rule.dtype)
    if pixels.dtype.kind == "f":
        hole |= ~np.isfinite(converted)
    return converted, hole


def _equals(pixels: np.ndarray, value: float | None) -> np.ndarray:
    """Return where (H, W, C) pixels equal a value, as far as their type can represent it."""
    if value is None:
        return np.zeros(pixels.shape, bool)
    with np.errstate(over="ignore"):  # a value that the type cannot represent
        return pixels == value


def _convert(path: StrPath, pixels: np.ndarray, hole: np.ndarray, dtype: PixelType) -> np.ndarray:
    """Return the values in the type of the rule."""
    own = _TYPES[pixels.dtype.name]
    if own != dtype and ("uint8" in (own, dtype) or not np.can_cast(own, dtype)):
        raise DataError(
            f"{path}: has numbers of type {pixels.dtype}; expected {dtype} as in the other "
            "images; save all of them with one type"
        )
    if pixels.dtype.name in ("int64", "uint64") and (np.abs(pixels[~hole]) > _EXACT).any():
        raise DataError(
            f"{path}: has whole numbers beyond {_EXACT}, which float32 cannot tell apart; "
            "subtract an offset, or divide them"
        )
    with np.errstate(over="ignore"):  # values that become infinite are missing
        return np.ascontiguousarray(pixels, dtype)


def _clip(
    path: StrPath, pixels: np.ndarray, limits: tuple[tuple[float, float], ...] | None
) -> None:
    """Clip (H, W, C) in place."""
    if limits is None:
        return
    low, high = np.array(limits, np.float64).T
    if pixels.dtype.kind != "f":
        kind = np.iinfo(pixels.dtype)
        low = np.ceil(np.clip(low, kind.min, kind.max))
        high = np.floor(np.clip(high, kind.min, kind.max))
        if (low > high).any():
            raise DataError(
                f"{path}: has whole numbers, and none lies in the clip range "
                f"{limits[int(np.argmax(low > high))]}; give it in the unit of the file"
            )
    np.clip(pixels, low.astype(pixels.dtype), high.astype(pixels.dtype), out=pixels)


def _fill_values(fill: Sequence[float], dtype: PixelType) -> np.ndarray:
    """Return the mean of each channel in the type of the image."""
    values = np.asarray(fill, np.float64) * (255 if dtype == "uint8" else 1)
    if dtype == "float32":
        return values.astype(np.float32)
    return np.clip(np.rint(values), np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)


def _read_image_file(path: StrPath) -> np.ndarray:
    """Read a PNG, JPEG, BMP or WebP as (H, W, C), red first."""
    facts = file_facts(path)
    if facts.format == "PNG" and facts.mode != "palette":
        return _read_png(path, grey_alpha=facts.channels == 2)
    pixels = read_image(path)
    return pixels[..., :1] if facts.mode == "grey" else pixels


def _read_png(path: StrPath, *, grey_alpha: bool) -> np.ndarray:
    """Read a PNG of 8 or 16 bits with its alpha; Pillow would keep only 8 bits."""
    data = read_bytes(path)
    check_png(path, data, max_bits=16)
    try:
        stored = np.frombuffer(needed_chunks(path, data), np.uint8)
        pixels = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise damaged(path, "is damaged and cannot be decoded")
    if pixels.ndim == 2:
        return pixels[..., None]
    if grey_alpha:
        return pixels[..., [0, 3]]
    order = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[pixels.shape[2]]
    return cv2.cvtColor(pixels, order)
