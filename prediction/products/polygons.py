"""The formats of polygons."""

from collections.abc import Callable
from pathlib import Path

from prediction.products import geojson
from prediction.products.coco import CocoPolygons
from prediction.products.geojson import GeoJsonPolygons
from prediction.products.labelme import LabelmePolygons
from prediction.products.rows import ImageFacts, Product
from prediction.products.vector_rules import VectorSettings
from utils.samples.coco_regions import import_pycocotools

__all__ = [
    "FORMATS", "CocoPolygons", "GeoJsonPolygons", "LabelmePolygons", "VectorSettings",
    "check_available",
]  # fmt: skip

FORMATS: dict[str, Callable[[Path, ImageFacts, VectorSettings], Product]] = {
    "geojson": GeoJsonPolygons,
    "coco": CocoPolygons,
    "labelme": LabelmePolygons,
}


def open_polygons(format: str, path: Path, facts: ImageFacts, settings: VectorSettings) -> Product:
    """Open the polygons of an image in a format of `FORMATS`."""
    return FORMATS[format](path, facts, settings)


def check_available(format: str, *, simplify: float = 0.0) -> None:
    """Check before anything is predicted that the packages of a format are there.

    Args:
        format: A name from `FORMATS`.
        simplify: The tolerance that will be asked for.

    Raises:
        ValueError: If one is missing; the message has the command that installs it.
    """
    checks: dict[str, Callable[[], object]] = {
        "geojson": lambda: geojson.check_packages(simplify),
        "coco": import_pycocotools,
        "labelme": lambda: None,
    }
    checks[format]()
