"""What a geo-reference says about areas and coordinates."""

import math
from typing import Any

import numpy as np

from utils.files.gdal import import_rasterio
from utils.files.geo_file import GeoReference

WGS84 = (("EPSG", "4326"), ("OGC", "CRS84"))
DIGITS = 4  # of a pixel's side that are kept behind the decimal point of a coordinate


def pixel_area(geo: GeoReference | None) -> float:
    """Return the area of a pixel in the unit of the map squared; 1 without a geo-reference."""
    if geo is None:
        return 1.0
    a, b, _, d, e, _ = geo.transform
    return abs(a * e - b * d)


def area_unit(geo: GeoReference | None) -> str:
    """Return the unit of areas, such as `square metre`; empty without a geo-reference."""
    if geo is None:
        return ""
    crs = _crs(geo)
    return f"square {crs.units_factor[0] if crs else 'unit'}"


def crs_member(geo: GeoReference | None) -> dict[str, Any]:
    """Return the member of a GeoJSON file that names the CRS; empty for WGS 84, the default.

    RFC 7946 has WGS 84 only, and has dropped this member, which GeoJSON had from its beginning:
    GDAL, and so QGIS, still reads it. A CRS without a number in a register is written as WKT.
    """
    crs = None if geo is None else _crs(geo)
    authority = crs.to_authority() if crs else None
    if not crs or authority in WGS84:
        return {}
    name = "urn:ogc:def:crs:{}::{}".format(*authority) if authority else crs.to_wkt()
    return {"crs": {"type": "name", "properties": {"name": name}}}


def to_map(points: np.ndarray, geo: GeoReference | None) -> np.ndarray:
    """Return the map coordinates of points, rounded to a small fraction of a pixel.

    Args:
        points: (n, 2), x and y in pixels; (0, 0) is the top left corner of the image.
        geo: Where the image lies; without it the points are returned as they are.
    """
    if geo is None:
        return points
    a, b, c, d, e, f = geo.transform
    x, y = points[:, 0], points[:, 1]
    side = math.sqrt(pixel_area(geo)) or 1.0
    digits = max(0, DIGITS - math.floor(math.log10(side)))
    return np.round(np.stack([a * x + b * y + c, d * x + e * y + f], 1), digits)


def _crs(geo: GeoReference) -> Any:
    if geo.crs is None:
        return None
    import_rasterio("geo-referenced polygons and tables name their map's unit")
    from rasterio.crs import CRS

    return CRS.from_wkt(geo.crs)
