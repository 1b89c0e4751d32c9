"""Where the pixels of a raster lie on the earth, read from a file and written to another."""

import dataclasses
from pathlib import Path

import tifffile

from utils.files.data_file import DataError, StrPath, open_file
from utils.files.gdal import gdal_settings, import_rasterio
from utils.files.tiff_io import TIFF_STARTS


@dataclasses.dataclass(frozen=True)
class GeoReference:
    """The place of a raster: plain data that a product is written with."""

    crs: str | None  # the coordinate reference system as WKT; None if the file names none
    # (a, b, c, d, e, f): x = a * column + b * row + c and y = d * column + e * row + f, in the unit
    # of the CRS; column and row are 0 at the top left corner of the top left pixel.
    transform: tuple[float, float, float, float, float, float]
    nodata: float | None = None  # the value that marks missing pixels of the image
    block: tuple[int, int] | None = None  # (height, width) of the file's tiles; None for strips
    overviews: bool = False  # whether the file has smaller copies of itself


# https://docs.ogc.org/is/19-008r4/19-008r4.html
_PIXEL_SCALE, _TIEPOINT, _TRANSFORMATION, _GEO_KEYS = 33550, 33922, 34264, 34735
_ONE_POINT = 6  # numbers; more than one point are control points


def is_georeferenced(path: StrPath) -> bool:
    """Return whether a file is a TIFF that says where each pixel lies; reads the header only."""
    tags = _placing_tags(path)
    return bool(tags) and not _has_control_points(tags)


def lost_placement(path: StrPath) -> str | None:
    """Return how a file is placed on the earth in a way that products do not take over, or None."""
    path = Path(path)
    if _has_control_points(_placing_tags(path)):
        return "ground control points (gdalwarp makes a map of it)"
    ending = path.suffix[1:2] + path.suffix[-1:] + "w"  # .tfw, .jgw, .pgw
    names = (path.with_suffix(f".{ending}"), path.with_suffix(".wld"))
    world = next(filter(Path.exists, names), None)
    if world is not None and not is_georeferenced(path):
        return f"the world file {world.name} (gdal_translate makes a geo-referenced TIFF of it)"
    return None


def _has_control_points(tags: dict[int, int]) -> bool:
    """Return whether a file has several tie points and no transform."""
    return tags.get(_TIEPOINT, 0) > _ONE_POINT and not tags.keys() & {
        _PIXEL_SCALE, _TRANSFORMATION
    }  # fmt: skip


def _placing_tags(path: StrPath) -> dict[int, int]:
    """Return the tags that place a TIFF, and how many numbers each has."""
    wanted = (_PIXEL_SCALE, _TIEPOINT, _TRANSFORMATION, _GEO_KEYS)
    try:
        with open_file(path) as file:
            if not file.read(4).startswith(TIFF_STARTS):
                return {}
            file.seek(0)
            with tifffile.TiffFile(file, _multifile=False) as tiff:
                tags = tiff.pages.first.tags
                return {tag: int(tags[tag].count) for tag in wanted if tag in tags}
    except Exception:
        return {}  # whoever reads its pixels says what is wrong with it


def read_georeference(path: StrPath) -> GeoReference | None:
    """Return the geo-reference of a file, or None if it has none.

    Raises:
        DataError: If it has one and rasterio is not installed, or it cannot be read.
    """
    if not is_georeferenced(path):
        return None
    rasterio = import_rasterio(f"{path}: is geo-referenced, and its mask is to be")
    with gdal_settings():
        try:
            with rasterio.open(path, driver="GTiff") as source:
                return GeoReference(
                    source.crs.to_wkt() if source.crs else None,
                    tuple(source.transform)[:6],
                    source.nodata,
                    source.block_shapes[0] if source.profile.get("tiled") else None,
                    bool(source.overviews(1)),
                )
        except rasterio.errors.RasterioError as error:
            raise DataError(f"{path}: its geo-reference cannot be read ({error})") from None
