"""Polygons as GeoJSON, for maps."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prediction.products.id_raster import IdRaster
from prediction.products.map_facts import crs_member, pixel_area, to_map
from prediction.products.regions import RegionFinder, Regions
from prediction.products.rows import ImageFacts, Rows
from prediction.products.vector_rules import (
    VectorSettings,
    check_count,
    choose,
    tolerance,
    write_members,
)
from utils.files.atomic_write import new_file
from utils.files.data_file import DataError
from utils.files.gdal import import_rasterio

Rings = list[np.ndarray]  # the line outside, then those of holes: (n, 2) each, closed
Outline = tuple[int, Rings]  # of a region, by its number


class GeoJsonPolygons:
    """A feature for each region, with its holes, as RFC 7946 has it; drawn by GDAL.

    The properties are `class`, `class_id`, `pixels`, `area` and, where it is known,
    `mean_confidence`. A geo-referenced image has its polygons in the coordinates of its map, and a
    member `crs` that names them; GDAL and QGIS read it. Any other image has them in pixels: x to
    the right and y down from the top left corner, which maps show upside down.

    Polygons follow the sides of pixels. `simplify` lets their outlines move by about so much;
    regions that share a border still share it afterwards, without gaps or overlaps, and all
    polygons stay valid. For that, all of them are in memory at once.

    Args:
        path: The file to write.
        facts: The image.
        settings: `min_area` and `simplify` are in the unit of the map, or pixels.

    Raises:
        DataError: If a package is missing; the message has the command that installs it.
    """

    needs: Iterable[str] = ("confidence",)

    def __init__(self, path: Path, facts: ImageFacts, settings: VectorSettings) -> None:
        check_packages(settings.simplify)
        self._path, self._facts, self._settings = path, facts, settings
        self._raster = IdRaster(path, facts.height, facts.width)
        self._finder = RegionFinder(facts.width)
        self._regions: list[Regions] = []

    def write(self, rows: Rows) -> None:
        """Take the next rows."""
        self._raster.write(rows.top, rows.ids)
        for found in self._finder.add(rows.ids, rows.confidence):
            self._regions.append(choose(found.ended, self._facts, self._settings))

    def finish(self) -> None:
        """Draw the polygons and write the file.

        Raises:
            DataError: If there are more regions than the settings allow.
            OSError: If it cannot be written.
        """
        self._regions.append(choose(self._finder.rest(), self._facts, self._settings))
        check_count(self._regions, self._facts, self._settings)
        regions = Regions.join(self._regions)
        head = {"type": "FeatureCollection", **crs_member(self._facts.geo)}
        try:
            with new_file(self._path, overwrite=self._settings.overwrite) as file:
                write_members(file, head, "features", self._features(regions))
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the temporary file."""
        self._raster.remove()

    def _features(self, regions: Regions) -> Iterator[dict[str, Any]]:
        outlines = _draw(self._raster, self._facts.width, regions)
        distance = tolerance(self._facts, self._settings)
        for number, rings in _simplify(outlines, distance) if distance > 0 else outlines:
            placed = [to_map(ring, self._facts.geo) for ring in rings]
            turned = [_turn(ring, left=not hole) for hole, ring in enumerate(placed)]
            yield {
                "type": "Feature",
                "properties": self._properties(regions, number),
                "geometry": {
                    "type": "Polygon", "coordinates": [ring.tolist() for ring in turned],
                },
            }  # fmt: skip

    def _properties(self, regions: Regions, number: int) -> dict[str, Any]:
        class_id, pixels = int(regions.ids[number]), int(regions.pixels[number])
        area = float(f"{pixels * pixel_area(self._facts.geo):.12g}")
        mean = float(regions.confidence[number]) / pixels
        return {
            "class": self._facts.classes[class_id],
            "class_id": class_id,
            "pixels": pixels,
            "area": area if self._facts.geo else pixels,
            **({} if np.isnan(mean) else {"mean_confidence": round(mean, 6)}),
        }


def check_packages(simplify: float) -> None:
    """Check that the packages are there that draw and simplify polygons.

    Raises:
        DataError: If one is missing; the message has the command that installs it.
    """
    import_rasterio("GeoJSON polygons are drawn by GDAL")
    if simplify > 0:
        _import_shapely()


def _import_shapely() -> Any:
    try:
        import shapely
    except ImportError:
        shapely = None
    if not hasattr(shapely, "coverage_simplify"):
        raise DataError(
            "polygons are simplified by another package: pip install 'shapely>=2.1'; without a "
            "tolerance they need none"
        )
    return shapely


def _draw(raster: IdRaster, width: int, regions: Regions) -> Iterator[Outline]:
    """Yield the outlines of regions, each with its number; the points are corners of pixels."""
    from rasterio.features import shapes

    drawn = 0
    with raster.band() as band:
        for shape, class_id in shapes(band, connectivity=4):
            rings = [np.array(ring).round().astype(np.int64) for ring in shape["coordinates"]]
            # The first pixel of a region: the left one in the topmost row.
            x, y = min(map(tuple, rings[0].tolist()), key=lambda point: (point[1], point[0]))
            number = int(np.searchsorted(regions.firsts, y * width + x))
            wanted = number < len(regions.firsts) and regions.firsts[number] == y * width + x
            if wanted and regions.ids[number] == class_id:
                drawn += 1
                yield number, rings
    if drawn != len(regions.firsts):
        # A disk that is full leaves a file with blocks of zeros.
        raise OSError(f"only {drawn} of {len(regions.firsts)} regions were kept on the disk")


def _simplify(outlines: Iterator[Outline], distance: float) -> Iterator[Outline]:
    """Return outlines of fewer points; a border of two regions becomes the same line in both."""
    shapely = _import_shapely()
    numbers, polygons = [], []
    for number, (outline, *holes) in outlines:
        numbers.append(number)
        polygons.append(shapely.Polygon(outline, holes))
    # Borders are known as common where both sides have the same points: a point on each pixel.
    stepped = shapely.transform(shapely.segmentize(np.array(polygons, object), 1.0), np.rint)
    del polygons
    for number, polygon in zip(numbers, shapely.coverage_simplify(stepped, distance), strict=True):
        rings = (polygon.exterior, *polygon.interiors)
        yield number, [np.array(ring.coords).round().astype(np.int64) for ring in rings]


def _turn(ring: np.ndarray, *, left: bool) -> np.ndarray:
    """Return a ring that goes counterclockwise (or clockwise), x to the right and y up."""
    x, y = (ring - ring[0]).T
    area = float(x[:-1] @ y[1:] - x[1:] @ y[:-1])
    return ring if (area > 0) == left else ring[::-1]
