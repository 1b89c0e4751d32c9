"""Files of COCO instance annotations: https://cocodataset.org/#format-data."""

import re
from collections import Counter
from pathlib import Path

import msgspec

from utils.files.data_file import DataError
from utils.files.json_file import read_json

NO_INSTANCES = "is not a COCO instances file"
_NO_OUTLINE = re.compile(rb"\s*(null|\[\s*\])\s*")


class Category(msgspec.Struct):
    """A kind of object."""

    id: int
    name: str


class CocoImage(msgspec.Struct):
    """An image that the annotations are about."""

    id: int | str
    file_name: str
    width: int
    height: int


class Annotation(msgspec.Struct):
    """An object, or a crowd of them; its outline is read when it is drawn."""

    image_id: int | str
    category_id: int
    id: int | str | None = None
    iscrowd: int | bool | None = 0
    segmentation: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def is_box(self) -> bool:
        """Whether the annotation has no outline."""
        return _NO_OUTLINE.fullmatch(self.segmentation) is not None


class Instances(msgspec.Struct):
    """A file of instance annotations."""

    images: list[CocoImage]
    annotations: list[Annotation]
    categories: list[Category]


def read_instances(path: str | Path) -> Instances:
    """Read a file of instance annotations.

    Raises:
        DataError: If it cannot be read, is another kind of file, or has a duplicate image or
            category id.
    """
    # Many programs write 80.0 or "80" for whole numbers.
    found: Instances = read_json(path, Instances, NO_INSTANCES, strict=False)
    if not found.images:
        raise DataError(f"{path}: names no image")
    for what, ids in (
        ("image", [image.id for image in found.images]),
        ("category", [category.id for category in found.categories]),
    ):
        repeated = [key for key, count in Counter(ids).items() if count > 1]
        if repeated:
            raise DataError(f"{path}: duplicate {what} id {repeated[0]!r}")
    return found
