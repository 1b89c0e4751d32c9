"""Polygons as COCO annotations: run lengths."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prediction.products.column_runs import ColumnRuns
from prediction.products.regions import RegionFinder, Regions
from prediction.products.rows import ImageFacts, Rows
from prediction.products.vector_rules import VectorSettings, check_count, choose, write_members
from utils.files.atomic_write import new_file
from utils.files.data_file import DataError
from utils.samples.coco_regions import import_pycocotools

MAX_PIXELS = 2**32 - 1  # pycocotools counts in 32 bits


class CocoPolygons:
    """One JSON file for an image: an annotation for each region, exact to the pixel.

    Outlines are compressed run lengths, as pycocotools makes and reads them; polygons of COCO
    could have no holes. The id of a category is the id of its class. `simplify` has no effect.

    Args:
        path: The file to write.
        facts: The image.
        settings: `min_area` is in the unit of the map, or pixels.

    Raises:
        DataError: If the image has too many pixels for the format.
        ValueError: If pycocotools is missing; the message has the command that installs it.
    """

    needs: Iterable[str] = ()

    def __init__(self, path: Path, facts: ImageFacts, settings: VectorSettings) -> None:
        import_pycocotools()
        if facts.height * facts.width > MAX_PIXELS:
            raise DataError(
                f"{facts.path}: has {facts.height * facts.width} pixels; COCO's tools count up to "
                f"{MAX_PIXELS}, GeoJSON takes any number"
            )
        self._path, self._facts, self._settings = path, facts, settings
        self._finder = RegionFinder(facts.width)
        self._runs = ColumnRuns(facts.height, facts.width)
        self._regions: list[Regions] = []

    def write(self, rows: Rows) -> None:
        """Take the next rows."""
        for found in self._finder.add(rows.ids):
            self._runs.add(found)
            self._regions.append(choose(found.ended, self._facts, self._settings))

    def finish(self) -> None:
        """Write the file.

        Raises:
            DataError: If there are more regions than the settings allow.
            OSError: If it cannot be written.
        """
        self._regions.append(choose(self._finder.rest(), self._facts, self._settings))
        check_count(self._regions, self._facts, self._settings)
        facts = self._facts
        image = {"id": 1, "file_name": facts.relative.as_posix(), "height": facts.height,
                 "width": facts.width}  # fmt: skip
        categories = [{"id": number, "name": name} for number, name in enumerate(facts.classes)]
        head = {"images": [image], "categories": categories}
        with new_file(self._path, overwrite=self._settings.overwrite) as file:
            write_members(file, head, "annotations", self._annotations())

    def discard(self) -> None:
        """Do nothing: no file is there before it is complete."""

    def _annotations(self) -> Iterator[dict[str, Any]]:
        masks = import_pycocotools()
        size = [self._facts.height, self._facts.width]
        regions = Regions.join(self._regions)
        pairs = zip(self._runs.counts(regions.firsts), regions.ids.tolist(), strict=True)
        for number, (counts, class_id) in enumerate(pairs, 1):
            lengths = masks.frPyObjects({"size": size, "counts": counts}, *size)
            yield {
                "id": number,
                "image_id": 1,
                "category_id": class_id,
                "segmentation": {"size": size, "counts": lengths["counts"].decode("ascii")},
                "area": int(masks.area(lengths)),
                "bbox": masks.toBbox(lengths).tolist(),
                "iscrowd": 0,
            }
