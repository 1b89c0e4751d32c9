"""Polygons as labelme's JSON files, to be corrected by hand."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from prediction.products.keyhole import trace
from prediction.products.regions import RegionFinder, Regions
from prediction.products.rows import ImageFacts, Rows
from prediction.products.vector_rules import VectorSettings, choose, tolerance, write_members
from utils.files.atomic_write import new_file
from utils.files.data_file import MAX_PIXELS, DataError

VERSION = "5.5.0"  # labelme warns of files that name none, or another first number than its own
MIN_POINTS = 3  # labelme refuses polygons of fewer


class LabelmePolygons:
    """One JSON file for an image: a polygon for each region.

    labelme has no holes: the polygon of a region with holes is cut open from each of them to the
    line around it. Each shape is right by itself, whatever is drawn before or after it, and
    `convert.py labelme` makes the same mask of the file, pixel for pixel, if nothing is left out.
    `simplify` lets each outline move by so many pixels; neighbours then overlap or leave gaps of
    that width.

    Args:
        path: The file to write; it names the image by its path from here.
        facts: The image.
        settings: `min_area` and `simplify` are in the unit of the map, or pixels.

    Raises:
        DataError: If the image is too large to be corrected by hand.
    """

    needs: Iterable[str] = ()

    def __init__(self, path: Path, facts: ImageFacts, settings: VectorSettings) -> None:
        if facts.height * facts.width > MAX_PIXELS:
            raise DataError(
                f"{facts.path}: has {facts.height * facts.width} pixels; labelme's files are "
                f"made of images of up to {MAX_PIXELS}, GeoJSON takes any number"
            )
        self._path, self._facts, self._settings = path, facts, settings
        self._finder = RegionFinder(facts.width)
        self._ids: np.ndarray | None = None
        self._regions: list[Regions] = []

    def write(self, rows: Rows) -> None:
        """Take the next rows."""
        if self._ids is None:
            self._ids = np.zeros((self._facts.height, self._facts.width), rows.ids.dtype)
        self._ids[rows.top : rows.top + len(rows.ids)] = rows.ids
        for found in self._finder.add(rows.ids):
            self._regions.append(choose(found.ended, self._facts, self._settings))

    def finish(self) -> None:
        """Trace the polygons and write the file.

        Raises:
            OSError: If it cannot be written.
        """
        self._regions.append(choose(self._finder.rest(), self._facts, self._settings))
        head: dict[str, Any] = {
            "version": VERSION, "flags": {}, "imagePath": self._image_path(), "imageData": None,
            "imageHeight": self._facts.height, "imageWidth": self._facts.width,
        }  # fmt: skip
        with new_file(self._path, overwrite=self._settings.overwrite) as file:
            write_members(file, head, "shapes", self._shapes())

    def discard(self) -> None:
        """Do nothing: no file is there before it is complete."""

    def _image_path(self) -> str:
        try:
            return Path(os.path.relpath(self._facts.path, self._path.parent)).as_posix()
        except ValueError:  # another drive on Windows
            return self._facts.path.absolute().as_posix()

    def _shapes(self) -> Iterator[dict[str, Any]]:
        regions = Regions.join(self._regions)
        distance = tolerance(self._facts, self._settings)
        cutter = _Cutter(self._ids) if self._ids is not None else None
        for first, class_id in zip(regions.firsts.tolist(), regions.ids.tolist(), strict=True):
            assert cutter is not None
            points = cutter.outline(*divmod(first, self._facts.width))
            if distance > 0:
                points = cv2.approxPolyDP(points, distance, True)[:, 0]
            # A pixel is one point, a line two: repeated, they are drawn as they are.
            points = points[np.arange(max(len(points), MIN_POINTS)) % len(points)]
            yield {
                "label": self._facts.classes[class_id], "points": points.astype(float).tolist(),
                "group_id": None, "description": "", "shape_type": "polygon", "flags": {},
                "mask": None,
            }  # fmt: skip


class _Cutter:
    """The regions of an image, one by one."""

    def __init__(self, ids: np.ndarray) -> None:
        # OpenCV fills 8 and 32 bits.
        self._ids = ids if ids.dtype == np.uint8 else ids.astype(np.int32)
        self._mask = np.zeros((ids.shape[0] + 2, ids.shape[1] + 2), np.uint8)

    def outline(self, row: int, column: int) -> np.ndarray:
        """Return the line around the region of a pixel; see `trace`."""
        flags = 4 | cv2.FLOODFILL_MASK_ONLY | 1 << 8  # 4 neighbours; the mask becomes 1
        *_, (left, top, width, height) = cv2.floodFill(
            self._ids, self._mask, (column, row), 0, flags=flags
        )
        # The mask has a border of one pixel around the image.
        region = self._mask[top + 1 : top + 1 + height, left + 1 : left + 1 + width]
        points = trace(region) + np.array((left, top), np.int32)
        region[:] = 0
        return points
