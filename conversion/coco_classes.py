"""COCO instance annotations as input: the file, and which category becomes which class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from conversion import foreign_json
from conversion.masks import BACKGROUND, Legend, refuse_duplicates, refuse_unknown
from utils.files import coco_file
from utils.files.coco_file import Category, Instances
from utils.files.data_file import DataError
from utils.files.json_file import read_json

MAX_LOOKED_AT = 20  # files of a folder


def read_instances(path: Path, output: str | Path) -> Instances:
    """Read a file of instance annotations, or say what to do with what it is instead.

    Raises:
        DataError: If it is a folder or another kind of file, cannot be read, or has a duplicate
            image or category id.
    """
    if path.is_dir():
        raise _folder_error(path, output)
    try:
        return coco_file.read_instances(path)
    except DataError:
        kind = foreign_json.kind_of(path)
        if kind in (None, foreign_json.COCO):
            raise
        hint = foreign_json.advice(kind, path, output)
        raise DataError(f"{path}: {coco_file.NO_INSTANCES} but {kind}; {hint}") from None


def _folder_error(folder: Path, output: str | Path) -> DataError:
    files = sorted(folder.glob("*.json"))[:MAX_LOOKED_AT]
    kinds = [(foreign_json.kind_of(file), file) for file in files]
    wanted = [pair for pair in kinds if pair[0] == foreign_json.COCO] or kinds
    hints = [foreign_json.advice(kind, file, output) for kind, file in wanted if kind is not None]
    hint = next(iter(hints), "name the file in it")
    return DataError(f"{folder}: is a folder, not a file of COCO instances; {hint}")


def choose_classes(
    categories: Sequence[Category],
    names: Sequence[str] | None = None,
    label_map: Mapping[str, int] | None = None,
) -> tuple[Legend, dict[int, int]]:
    """Assign classes 0..K-1 to categories, whose ids have gaps.

    Class 0 is the background, also for categories that are not chosen and for one that is called
    "background". The others are all categories in the order of their ids, or those of `names` in
    that order, or what `label_map` says.

    Args:
        categories: All categories of the file.
        names: The categories to keep.
        label_map: Id or name of a category -> class, or -1 for ignored.

    Returns:
        The classes, and category id -> id in the mask.

    Raises:
        ValueError: If a name or id is unknown, or two categories have one name and no map.
    """
    ordered = sorted(categories, key=lambda category: category.id)
    known = [category.name for category in ordered]
    if label_map is not None:
        return _apply_label_map(ordered, label_map)
    if names is None:
        refuse_duplicates("categories (--label-map tells them apart)", known)
    chosen = [name for name in (known if names is None else names) if name != BACKGROUND]
    refuse_unknown("--classes", chosen, known)
    legend = Legend((BACKGROUND, *chosen))
    return legend, {c.id: legend.names.index(c.name) for c in ordered if c.name in legend.names}


def _apply_label_map(
    categories: Sequence[Category], label_map: Mapping[str, int]
) -> tuple[Legend, dict[int, int]]:
    """Return the classes of a map; a class of several categories has all their names."""
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
        raise ValueError("--label-map: expected classes from 0 on, or -1 for ignored")
    names = ["/".join(members.get(i, [f"class {i}"])) for i in range(1, max(*members, 0) + 1)]
    legend = Legend((BACKGROUND, *names))
    return legend, {
        key: legend.ignore_index if label == -1 else label for key, label in classes.items()
    }


def read_label_map(path: str | Path) -> dict[str, int]:
    """Read a JSON file of category (id or name) -> class.

    Raises:
        DataError: If it cannot be read, or holds something else.
    """
    expected = 'expected categories and their classes, as in {"1": 1, "18": 2}'
    label_map: dict[str, int] = read_json(path, dict[str, int], expected)
    return label_map
