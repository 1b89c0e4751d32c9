"""A person's own pictures and masks, without code."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from base.base_dataset import BaseDataset, DataError, Sample
from utils.config import PositiveFloat, PositiveInt
from utils.formats import IMAGE_EXTENSIONS, MASK_EXTENSIONS
from utils.image_io import list_images
from utils.palette import voc_palette

logger = logging.getLogger(__name__)

Channel = Annotated[int, msgspec.Meta(ge=0, le=255)]
Colour = tuple[Channel, Channel, Channel]


class Folder(BaseDataset):
    """Pictures in one folder, masks in another, paired by their whole stem.

    Either `images` and `masks` name two folders (searched with their sub-folders) or two list
    files, below `data_dir` if that is given; or `data_dir` with `split` stands for
    `<data_dir>/images/<split>` and `<data_dir>/masks/<split>`. `a.0.JPG` belongs to `a.0.png`, and
    `berlin/1.jpg` to `berlin/1.png`.

    Masks hold class ids (grey or palette pictures), or colours if `palette` or a `label_map` of
    colours says which is which.

    Args:
        classes: The names of the classes, or how many there are.
        data_dir: The folder that the other paths start from.
        split: The sub-folder of `images` and of `masks`.
        images: A folder, or a text file with one picture a line.
        masks: A folder, or a text file with one mask a line.
        mask_suffix: What a mask's stem has behind the picture's: `"_gt"` for `1.jpg`, `1_gt.png`.
        palette: A colour [r, g, b] for each class; the VOC colours by default.
        ignore_index: The id or ids in the masks that do not count; 255 by default.
        label_map: Id or `"r,g,b"` in the masks -> class, or -1 for what does not count. Ids that
            it does not name are errors.
        mean: Mean of each channel in 0..1; ImageNet's by default.
        std: Standard deviation of each channel in 0..1; ImageNet's by default.

    Raises:
        DataError: If a folder is missing, a picture has no mask, or two pictures share a stem.
        ValueError: If the arguments contradict each other.
    """

    def __init__(
        self,
        *,
        classes: list[str] | PositiveInt,
        data_dir: str | None = None,
        split: str | None = None,
        images: str | None = None,
        masks: str | None = None,
        mask_suffix: str = "",
        palette: list[Colour] | None = None,
        ignore_index: int | list[int] | None = None,
        label_map: dict[str, int] | None = None,
        mean: list[float] | None = None,
        std: list[PositiveFloat] | None = None,
    ) -> None:
        self.classes = (
            [f"class {i}" for i in range(classes)] if isinstance(classes, int) else classes
        )
        if not self.classes:
            raise ValueError("classes: the list is empty; name the classes, or say how many")
        count = len(self.classes)
        if len(set(self.classes)) < count:
            twice = next(c for c in self.classes if list(self.classes).count(c) > 1)
            raise ValueError(f"classes: {twice!r} stands twice")
        if palette is not None and len(palette) != count:
            raise ValueError(f"palette: {len(palette)} colours for {count} classes")
        self.palette = (
            voc_palette(count) if palette is None else [list(colour) for colour in palette]
        )
        if ignore_index is not None:
            self.void = [ignore_index] if isinstance(ignore_index, int) else ignore_index
        if palette is not None:
            self.colour_map = {colour: i for i, colour in enumerate(palette)}
        if label_map is not None:
            self.label_map, self.colour_map = _parse_label_map(label_map, count)
        self.mean = self.mean if mean is None else mean
        self.std = self.std if std is None else std
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std: expected {self.channels} numbers each")
        image_source, mask_source = _sources(data_dir, split, images, masks)
        super().__init__(_pair(image_source, mask_source, mask_suffix))


def _sources(
    data_dir: str | None, split: str | None, images: str | None, masks: str | None
) -> tuple[Path, Path]:
    """Where pictures and masks are."""
    root = Path(data_dir or "")
    if images is not None and masks is not None:
        if split is not None:
            raise ValueError("split: goes with data_dir alone, not with images and masks")
        return root / images, root / masks
    if images is not None or masks is not None:
        missing = "masks" if masks is None else "images"
        raise ValueError(f"{missing}: required beside {'images' if masks is None else 'masks'}")
    if data_dir is None:
        raise ValueError('name two folders, "images" and "masks", or a "data_dir"')
    return root / "images" / (split or ""), root / "masks" / (split or "")


def _parse_label_map(
    label_map: Mapping[str, int], num_classes: int
) -> tuple[dict[int, int] | None, dict[tuple[int, int, int], int] | None]:
    """Ids and colours apart; None for the kind that does not occur."""
    ids: dict[int, int] = {}
    colours: dict[tuple[int, int, int], int] = {}
    for key, label in label_map.items():
        if not -1 <= label < num_classes:
            raise ValueError(
                f"label_map.{key}: {label} is not a class (0..{num_classes - 1}) nor -1 (ignored)"
            )
        try:
            numbers = [int(word) for word in key.strip("()[] ").split(",")]
        except ValueError:
            numbers = []
        if len(numbers) == 1 and 0 <= numbers[0] <= 65535:
            ids[numbers[0]] = label
        elif len(numbers) == 3 and all(0 <= n <= 255 for n in numbers):
            colours[(numbers[0], numbers[1], numbers[2])] = label
        else:
            raise ValueError(f'label_map.{key}: expected an id ("7") or a colour ("128,0,64")')
    return ids or None, colours or None


def _pair(image_source: Path, mask_source: Path, mask_suffix: str) -> list[Sample]:
    """Match pictures and masks by whole stem."""
    images = _by_stem(image_source, IMAGE_EXTENSIONS)
    masks = _by_stem(mask_source, (*MASK_EXTENSIONS, ".jpg", ".jpeg"))
    if mask_suffix:
        masks = {
            stem.removesuffix(mask_suffix): path
            for stem, path in masks.items()
            if stem.endswith(mask_suffix)
        }
    alone = [stem for stem in images if stem not in masks]
    if alone:
        raise DataError(
            f"{len(alone)} of {len(images)} pictures in {image_source} have no mask of the same "
            f"stem in {mask_source}: {_few(alone)}{_hint(alone[0], masks)}; add the masks or "
            "remove the pictures"
        )
    spare = [stem for stem in masks if stem not in images]
    if spare:
        logger.warning(
            "%d of %d masks in %s belong to no picture: %s",
            len(spare),
            len(masks),
            mask_source,
            _few(spare),
        )
    return [Sample(stem, str(images[stem]), str(masks[stem])) for stem in sorted(images)]


def _by_stem(source: Path, extensions: tuple[str, ...]) -> dict[str, Path]:
    """Stem (with sub-folders) -> file."""
    if source.is_dir():
        paths, root = list_images(source, extensions), source
    elif source.is_file():
        paths, root = _read_list(source)
    else:
        raise DataError(f"{source}: no such folder or list file{_nearest(source)}")
    if not paths:
        raise DataError(f"{source}: holds no picture ({', '.join(extensions)})")
    found: dict[str, Path] = {}
    for path in paths:
        stem = str(path.relative_to(root).with_suffix("").as_posix())
        if stem in found:
            raise DataError(
                f"{found[stem]} and {path} have the same stem; rename one, so that it is clear "
                "which belongs to which"
            )
        found[stem] = path
    return found


def _read_list(source: Path) -> tuple[list[Path], Path]:
    """The files that a list names, relative to the list's folder, and what they have in common."""
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{source}: is not a text file with one path a line") from None
    paths = [source.parent / line.strip() for line in lines if line.strip()]
    if not paths:
        raise DataError(f"{source}: names no file")
    return paths, Path(os.path.commonpath([path.parent for path in paths]))


def _nearest(path: Path) -> str:
    """Up to where a path exists, and what is there."""
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    there = sorted(p.name for p in parent.iterdir() if not p.name.startswith("."))
    return f" ({parent} holds: {_few(there)})" if there else f" ({parent} is empty)"


def _few(names: list[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"


def _hint(stem: str, masks: dict[str, Any]) -> str:
    """The mask_suffix to set, where the masks' stems only have something behind."""
    suffixes = {m.removeprefix(stem) for m in masks if m.startswith(stem)} - {""}
    return f'; set "mask_suffix": "{min(suffixes, key=len)}"?' if suffixes else ""
