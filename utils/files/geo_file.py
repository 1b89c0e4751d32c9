"""Where the pixels of a raster lie on the earth, read from a file and written to another."""

import dataclasses
from pathlib import Path

import tifffile

from utils.files.data_file import DataError, StrPath, open_file
from utils.files.gdal import gdal_settings, import_rasterio
from utils.files.tiff_io import GEO_TAGS, TIFF_STARTS


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


def is_georeferenced(path: StrPath) -> bool:
    """Return whether a file is a TIFF that says where it lies; reads the header only."""
    try:
        with open_file(path) as file:
            if not file.read(4).startswith(TIFF_STARTS):
                return False
            file.seek(0)
            with tifffile.TiffFile(file, _multifile=False) as tiff:
                return any(tag in tiff.pages.first.tags for tag in GEO_TAGS)
    except Exception:
        return False  # whoever reads its pixels says what is wrong with it


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


def geo_suffix(path: Path) -> str:
    """Return the extension that a mask of an image gets: `.tif` if it is geo-referenced."""
    return ".tif" if is_georeferenced(path) else ".png"
