"""What `--save` names: the products of a prediction, their formats and their files."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.config.errors import suggest

# Only light modules up here: a typo is found before the checkpoint is read.
if TYPE_CHECKING:
    from prediction.products.rows import ImageFacts, Product

# The formats of each product, the default first.
FORMATS: dict[str, tuple[str, ...]] = {
    "ids": ("png", "tif", "npy"),
    "colour": ("png", "jpg"),
    "overlay": ("png", "jpg"),
    "confidence": ("png", "tif"),
    "entropy": ("png", "tif"),
    "probabilities": ("npy", "tif"),
    "class": ("png", "tif"),
    "polygons": ("geojson", "coco", "labelme"),
    "table": ("csv",),
    "summary": ("html",),
}
PER_RUN = ("table", "summary")  # made once, of all images
# Whose default is a TIFF for images that have a geo-reference.
_RASTERS = ("ids", "confidence", "entropy", "probabilities", "class")
_NEEDS = {
    "overlay": ("image",),
    "confidence": ("confidence",),
    "entropy": ("entropy",),
    "probabilities": ("probabilities",),
    "table": ("confidence",),
    "summary": ("image",),
}
_POLYGON_ENDINGS = {"geojson": ".geojson", "coco": "_coco.json", "labelme": ".json"}
_MAX_LABEL = 40  # letters of a class name in a file name, whose bytes are limited
_MAX_LISTED = 40  # classes that a message lists


@dataclasses.dataclass(frozen=True)
class Settings:
    """How products look; the same for all images.

    Raises:
        ValueError: If a number is out of its range.
    """

    overwrite: bool = False  # whether files that exist are replaced
    strength: float = 0.45  # opacity of the tint in an overlay, 0..1
    outlines_only: bool = False  # whether an overlay has outlines and no tint
    legend: bool = True  # whether colour and overlay have a legend below
    min_area: float = 0.0  # smaller regions become no polygon
    simplify: float = 0.0  # bends of polygons that are smaller than about this are left out
    max_regions: int | None = None  # an image with more gets no polygons; None for any number

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"the strength of an overlay is 0 to 1, not {self.strength}")
        for name in ("min_area", "simplify"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is 0 or more, not {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A product that `--save` names."""

    name: str  # a key of `FORMATS`
    format: str | None = None  # the format that was named; None for the default
    class_id: int | None = None  # for `class`
    label: str = ""  # for `class`: its name in names of files

    @property
    def title(self) -> str:
        """Its name in tables."""
        title = f"class_{self.label}" if self.name == "class" else self.name
        return title if self.format is None else f"{title}.{self.format}"

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of `Rows` that it takes beside the ids."""
        is_geojson = self.name == "polygons" and self.format_for(False) == "geojson"
        return ("confidence",) if is_geojson else _NEEDS.get(self.name, ())

    @property
    def is_per_run(self) -> bool:
        """Whether there is one of all images, and not one for each."""
        return self.name in PER_RUN

    def format_for(self, geo: bool) -> str:
        """Return the format for an image with or without a geo-reference."""
        if self.format is not None:
            return self.format
        return "tif" if geo and self.name in _RASTERS else FORMATS[self.name][0]

    def path(self, output: Path, relative: Path, geo: bool) -> Path | None:
        """Return the file of an image below the output folder; None if it is per run.

        Args:
            output: The output folder.
            relative: The path of the image below its own folder.
            geo: Whether the image has a geo-reference.
        """
        if self.is_per_run:
            return None
        ending = f".{self.format_for(geo)}"
        if self.name == "polygons":
            ending = _POLYGON_ENDINGS[self.format_for(geo)]
        elif self.name == "class":
            ending = f"_{self.label}{ending}"
        elif self.name != "ids":
            ending = f"_{self.name}{ending}"
        return output / relative.with_name(relative.stem + ending)

    def open(self, path: Path, facts: ImageFacts, settings: Settings) -> Product:
        """Open the product of an image, and make its folder.

        Args:
            path: The file that it becomes, from `path()`; its extension is the format.
            facts: The image.
            settings: How it looks.

        Raises:
            ValueError: If an image like this cannot have it, or a package is missing.
            FileExistsError: If the file exists and `settings.overwrite` is off.
            OSError: If it cannot be written.
        """
        assert not self.is_per_run
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.name == "polygons":
            from prediction.products import polygons

            return polygons.open_polygons(
                self.format_for(facts.geo is not None), path, facts, settings
            )
        if self.name in ("colour", "overlay"):
            from prediction.products import sheets

            is_colour = self.name == "colour"
            return (sheets.Colour if is_colour else sheets.Overlay)(path, facts, settings)
        from prediction.products import rasters

        if self.name == "ids":
            return rasters.open_ids(path, facts, settings)
        if self.name == "probabilities":
            return rasters.open_probabilities(path, facts, settings)
        if self.class_id is not None:
            return rasters.open_class_mask(path, facts, settings, self.class_id)
        return rasters.open_values(path, facts, settings, self.name)


def parse_save(text: str, classes: Sequence[str]) -> tuple[Kind, ...]:
    """Read the products that `--save` names, such as `ids,colour.jpg,class:road,polygons.coco`.

    They are separated by commas: a name, `name.format`, `class:<name of a class>` or
    `class:<name of a class>.format`. Commas within double quotes do not separate: `class:"a, b"`.
    A number that is no name is the id of a class.

    Args:
        text: The products.
        classes: The names of the classes.

    Raises:
        ValueError: If there is no such product, format or class, or two would be the same file.
    """
    return _parse(text, classes)


def parse_words(text: str) -> tuple[Kind, ...]:
    """Read the products of `--save` without the names of the classes; see `parse_save`.

    Raises:
        ValueError: As `parse_save`, but for names of classes.
    """
    return _parse(text, None)


def names_product(text: str, name: str) -> bool:
    """Return whether `--save` names a product, such as `table`."""
    return any(kind.name == name for kind in parse_words(text))


def _parse(text: str, classes: Sequence[str] | None) -> tuple[Kind, ...]:
    if text.count('"') % 2:
        raise ValueError(f"--save: {text}: a double quote is missing")
    items = [item.strip() for item in re.findall(r'(?:[^,"]|"[^"]*")+', text)]
    if not any(items):
        raise ValueError(f"--save: name at least one of {', '.join(_NAMES)}")
    kinds: dict[str, Kind] = {}
    for item in filter(None, (item.replace('"', "") for item in items)):
        if item in kinds:
            raise ValueError(f"--save: {item!r} is named twice")
        kinds[item] = _parse_item(item, classes)
    for geo in (False, True):
        _refuse_same_files(kinds, geo)
    return tuple(kinds.values())


def _parse_item(item: str, classes: Sequence[str] | None) -> Kind:
    name, colon, rest = item.partition(":")
    if name == "class" and colon and rest:
        return _parse_class(rest, classes)
    name, dot, form = item.partition(".")
    if name == "class":
        raise ValueError(f"--save: {item!r} lacks the name of a class; write class:NAME")
    if name not in FORMATS:
        raise ValueError(f"--save: no product {name!r}{_choices(name, _NAMES)}")
    if not dot:
        return Kind(name)
    if form not in FORMATS[name]:
        raise ValueError(f"--save: {name} has no format {form!r}{_choices(form, FORMATS[name])}")
    return Kind(name, form)


def _parse_class(text: str, classes: Sequence[str] | None) -> Kind:
    """Read a class, and the format behind its name if the whole is not the name of another one."""
    name, dot, ending = text.rpartition(".")
    has_format = bool(name and dot) and ending in FORMATS["class"]
    if classes is None:
        return Kind("class", ending, label=name) if has_format else Kind("class", label=text)
    if text not in classes and has_format:
        text, form = name, ending
    else:
        form = None
    number = class_number(text, classes)
    if number is None:
        raise ValueError(f"--save: no class {text!r}{_choices(text, classes)}")
    return Kind("class", form, number, file_labels(classes)[number])


def class_number(text: str, classes: Sequence[str]) -> int | None:
    """Return the id of a class that is named, or given by its id; None if there is none.

    Raises:
        ValueError: If several classes have the name.
    """
    if (count := list(classes).count(text)) > 1:
        ids = [str(number) for number, name in enumerate(classes) if name == text]
        raise ValueError(
            f"{count} classes are called {text!r}; name one by its id: {', '.join(ids)}"
        )
    if count:
        return list(classes).index(text)
    is_id = text.isascii() and text.isdigit() and int(text) < len(classes)
    return int(text) if is_id else None


def file_labels(classes: Sequence[str]) -> list[str]:
    """Return a name for each class that differs from all others in any file system.

    Letters and digits of any script, `-` and `_` stay. Where two would be the same, or the file
    would be that of another product, the number of the class is added.
    """
    safe = [re.sub(r"[^\w-]", "_", name)[:_MAX_LABEL].strip("_") for name in classes]
    counts = Counter(label.casefold() for label in safe)
    taken = {*FORMATS, "coco", *counts}
    labels = []
    for number, label in enumerate(safe):
        if not label or counts[label.casefold()] > 1 or label.casefold() in (*FORMATS, "coco"):
            label = f"{label or 'class'}_{number}"
            while label.casefold() in taken:
                label += "_"
            taken.add(label.casefold())
        labels.append(label)
    return labels


def _refuse_same_files(kinds: dict[str, Kind], geo: bool) -> None:
    owners: dict[tuple[str, str, str], str] = {}
    for item, kind in kinds.items():
        other = owners.setdefault((kind.name, kind.label, kind.format_for(geo)), item)
        if other != item:
            images = "geo-referenced images" if geo else "images"
            raise ValueError(f"--save: {other!r} and {item!r} are the same file of {images}")


def _choices(name: str, options: Sequence[str]) -> str:
    """Return what may have been meant, and what there is."""
    listed = ", ".join(options[:_MAX_LISTED]) + ", ..." * (len(options) > _MAX_LISTED)
    hint = suggest(name, options)
    return f"{hint} Choose from {listed}" if hint else f"; choose from {listed}"


_NAMES = tuple(name if name != "class" else "class:NAME" for name in FORMATS)
