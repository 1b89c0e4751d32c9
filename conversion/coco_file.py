"""Files of COCO instance annotations, https://cocodataset.org/#format-data, and their classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from conversion import foreign_json
from conversion.conversion import BACKGROUND, Legend, read_json, refuse_twice, refuse_unknown
from utils.files.data_file import DataError

MAX_LOOKED_AT = 20  # files of a folder
_NO_OUTLINE = re.compile(rb"\s*(null|\[\s*\])\s*")


class Category(msgspec.Struct):
    """A kind of object."""

    id: int
    name: str


class Picture(msgspec.Struct):
    """A picture."""

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
        """Whether there is no outline."""
        return _NO_OUTLINE.fullmatch(self.segmentation) is not None


class Instances(msgspec.Struct):
    """A file of instance annotations."""

    images: list[Picture]
    annotations: list[Annotation]
    categories: list[Category]


def refuse_folder(path: str | Path, output: str | Path) -> None:
    """Refuse a folder, with the command for what is in it.

    Args:
        path: What is to be read as COCO.
        output: Where the masks are to go, for the message.

    Raises:
        DataError: If it is a folder.
    """
    if not Path(path).is_dir():
        return
    kinds = [
        (foreign_json.kind_of(f), f) for f in sorted(Path(path).glob("*.json"))[:MAX_LOOKED_AT]
    ]
    wanted = [pair for pair in kinds if pair[0] == foreign_json.COCO] or kinds
    hints = [foreign_json.advice(kind, file, output) for kind, file in wanted if kind is not None]
    hint = next(iter(hints), "name the file in it")
    raise DataError(f"{path}: is a folder, not a file of COCO instances; {hint}")


def read_instances(path: str | Path, output: str | Path = "masks") -> Instances:
    """Read a file of instance annotations.

    Args:
        path: The file.
        output: Where the masks are to go, for a message.

    Raises:
        DataError: If it cannot be read, is none, or names a picture or category twice.
    """
    # Many programs write 80.0 or "80" for whole numbers.
    expected = "is no file of COCO instances"
    try:
        found: Instances = read_json(path, Instances, expected, strict=False)
    except DataError:
        kind = foreign_json.kind_of(path)
        if kind in (None, foreign_json.COCO):
            raise
        hint = foreign_json.advice(kind, path, output)
        raise DataError(f"{path}: {expected} but {kind}; {hint}") from None
    if not found.images:
        raise DataError(f"{path}: names no picture")
    for what, ids in (
        ("picture", [picture.id for picture in found.images]),
        ("category", [category.id for category in found.categories]),
    ):
        repeated = [key for key, count in Counter(ids).items() if count > 1]
        if repeated:
            raise DataError(f"{path}: the id {repeated[0]!r} stands for more than one {what}")
    return found


def choose_classes(
    categories: Sequence[Category],
    names: Sequence[str] | None = None,
    label_map: Mapping[str, int] | None = None,
) -> tuple[Legend, dict[int, int]]:
    """Classes 0..K-1 for categories, whose ids have gaps.

    Class 0 is the background. The others are all categories in the order of their ids, or those
    of `names` in that order, or what `label_map` says. Categories that are not chosen are
    background. A category called "background" is class 0.

    Args:
        categories: Of the file.
        names: The categories to keep.
        label_map: Id or name of a category -> class, or -1 for what does not count.

    Returns:
        The classes, and category id -> id in the mask.

    Raises:
        ValueError: If a name or id is unknown, or two categories of one name would be two classes.
    """
    ordered = sorted(categories, key=lambda category: category.id)
    known = [category.name for category in ordered]
    if label_map is not None:
        return _apply_label_map(ordered, label_map)
    if names is None:
        refuse_twice("two categories have one name; --label-map tells them apart", known)
    chosen = [name for name in (known if names is None else names) if name != BACKGROUND]
    refuse_unknown("--classes", chosen, known)
    legend = Legend((BACKGROUND, *chosen))
    return legend, {c.id: legend.names.index(c.name) for c in ordered if c.name in legend.names}


def _apply_label_map(
    categories: Sequence[Category], label_map: Mapping[str, int]
) -> tuple[Legend, dict[int, int]]:
    """The classes that a map names; those of several categories have all their names."""
    known = [key for category in categories for key in (str(category.id), category.name)]
    refuse_unknown("--label-map", label_map, known)
    members: dict[int, list[str]] = {}
    classes = {}
    for category in categories:
        label = label_map.get(str(category.id), label_map.get(category.name))
        if label is not None:
            classes[category.id] = label
            members.setdefault(label, []).append(category.name)
    if not members or min(members) < -1 or max(members) > 65534:
        raise ValueError("--label-map: expected classes from 0 on, or -1 for what does not count")
    names = ["/".join(members.get(i, [f"class {i}"])) for i in range(1, max(*members, 0) + 1)]
    legend = Legend((BACKGROUND, *names))
    return legend, {
        key: legend.ignore_index if label == -1 else label for key, label in classes.items()
    }


def read_label_map(path: str | Path) -> dict[str, int]:
    """A JSON file of category (id or name) -> class.

    Raises:
        DataError: If it cannot be read, or is something else.
    """
    expected = 'expected categories and their classes, as in {"1": 1, "18": 2}'
    label_map: dict[str, int] = read_json(path, dict[str, int], expected)
    return label_map
