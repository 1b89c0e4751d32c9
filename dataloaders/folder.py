"""A person's own images and masks, without code."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from base.base_dataset import BaseDataset, check_classes
from utils.config.types import PositiveFloat, PositiveInt
from utils.drawing.palette import voc_palette
from utils.files.image_head import ExifRule
from utils.samples.affixes import Affixes
from utils.samples.band_rule import choose_preview, choose_rule, choose_statistics
from utils.samples.file_patterns import mark_of_masks
from utils.samples.source_pairs import pair_sources

Channel = Annotated[int, msgspec.Meta(ge=0, le=255)]
Colour = tuple[Channel, Channel, Channel]
MaskId = Annotated[int, msgspec.Meta(ge=-32768, le=65535)]  # of utils/samples/labels.py
Limits = tuple[float, float]


class Folder(BaseDataset):
    """Images in one folder, masks in another, paired by their whole stem.

    Either `images` and `masks` name two folders (searched with their sub-folders), list files or
    patterns, below `data_dir` if that is given; or `data_dir` with `split` means
    `<data_dir>/images/<split>` and `<data_dir>/masks/<split>`. `a.0.JPG` belongs to `a.0.png`, and
    `berlin/1.jpg` to `berlin/1.png`.

    Masks have class ids (grey or palette images), or colours if `palette` or a `label_map` of
    colours says which is which. With a `label_map` of colours alone, grey and palette masks are
    read by the colours that they show; with `palette`, so are palette masks that use the classes'
    colours in another order.

    Images have 8 bits and are read as RGB. If the first is a TIFF or PNG of another kind or an NPY
    file, or one of the arguments from `bands` to `rgb` is given, all bands are read as stored; then
    `mean` and `std` are required, and a message contains them, ready to paste.

    Args:
        classes: The names of the classes, or their number.
        data_dir: The folder that the other paths are relative to.
        split: The sub-folder of `images` and of `masks`.
        images: A folder, a text file with one image a line, or a pattern such as
            `"photos/*.jpg"`.
        masks: The same for the masks: `"photos/*_mask.png"`. It may be left out if `images` is a
            text file whose lines name image and mask.
        mask_suffix: Suffix of a mask's stem: `"_gt"` for `1.jpg`, `1_gt.png`.
        mask_prefix: Its prefix: `"mask_"` for `mask_1.png`.
        image_suffix: Suffix of an image's stem: `"_sat"` for `1_sat.jpg`. Images without it are
            left out.
        image_prefix: Its prefix: `"img_"` for `img_1.jpg`.
        palette: A colour [r, g, b] for each class; the VOC colours by default.
        ignore_index: The ignored id or ids in the masks; by default 255, unless it is a class,
            and the `ignore_index` at the top of the config.
        label_map: Id or `"r,g,b"` in the masks -> class, or -1 for ignored. Ids that it does not
            name are errors.
        mean: Mean of each channel: in 0..1 for 8 bits, else in the unit of the file. ImageNet's
            by default, for RGB.
        std: Standard deviation of each channel, likewise.
        bands: The bands to use, in this order, counted from 1; all by default.
        band_suffixes: The ends of the stems if each band is a file of its own: with
            `["_HH", "_HV"]`, `1_HH.tif` and `1_HV.tif` are the bands of image `1`.
        clip: [low, high], or one such pair a band, in the unit of the files.
        nodata: The value of pixels without data, instead of the one that a TIFF names. NaN and
            infinity are never data.
        rgb: The three bands, counted from 1 in the file, that show red, green and blue in logged
            images, or one to show in grey; the first ones by default.
        exif: Whether the EXIF orientation of images and masks is applied (`"apply"`: both are read
            as a person sees them) or not (`"ignore"`). By default it is not, and a warning names
            images that have one if it is not clear which rule is right. A checkpoint keeps the
            rule, and `inference.py` reads images by it.

    Raises:
        DataError: If a folder is missing or empty, two images share a stem, or images are their
            own masks.
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
        mask_prefix: str = "",
        image_suffix: str = "",
        image_prefix: str = "",
        palette: list[Colour] | None = None,
        ignore_index: MaskId | list[MaskId] | None = None,
        label_map: dict[str, int] | None = None,
        mean: list[float] | None = None,
        std: list[PositiveFloat] | None = None,
        bands: list[PositiveInt] | None = None,
        band_suffixes: list[str] | None = None,
        clip: list[float | Limits] | None = None,
        nodata: float | None = None,
        rgb: list[PositiveInt] | None = None,
        exif: ExifRule | None = None,
    ) -> None:
        self.classes = (
            [f"class {i}" for i in range(classes)] if isinstance(classes, int) else classes
        )
        if not self.classes:
            raise ValueError("classes: the list is empty; name the classes, or say how many")
        count = len(self.classes)
        check_classes(self.classes)
        self.exif = exif
        if len(set(self.classes)) < count:
            name = next(c for c in self.classes if list(self.classes).count(c) > 1)
            raise ValueError(f"classes: duplicate class {name!r}")
        if palette is not None and len(palette) != count:
            raise ValueError(f"palette: {len(palette)} colours for {count} classes")
        self.palette = (
            voc_palette(count) if palette is None else [list(colour) for colour in palette]
        )

        # Labels: which ids or colours are classes
        if ignore_index is not None:
            self.void = [ignore_index] if isinstance(ignore_index, int) else ignore_index
        if palette is not None:
            self.colour_map = {colour: i for i, colour in enumerate(palette)}
        if label_map is not None:
            self.label_map, self.colour_map = _parse_label_map(label_map, count)
            self.colours_only = self.label_map is None
            named = sorted({label for label in label_map.values() if label >= 0})
            if len(named) == 1:
                raise ValueError(
                    f"label_map: every value is {self.classes[named[0]]!r} or ignored, so there is "
                    f"nothing to learn; map values to at least two of the {count} classes"
                )
            if not named:
                raise ValueError("label_map: every value is ignored; map values to the classes")

        # Files: images and their masks
        image_source, mask_source = _sources(data_dir, split, images, masks)
        affixes = Affixes(image_prefix, image_suffix, mask_prefix, mask_suffix)
        self.mask_prefix, self.mask_suffix = mark_of_masks(image_source, mask_source, affixes)
        pairing = pair_sources(
            image_source,
            mask_source,
            affixes=affixes,
            band_suffixes=band_suffixes,
            root=None if data_dir is None else Path(data_dir),
        )

        # Bands, mean and std
        self.band_rule = choose_rule(
            pairing.samples,
            bands=bands,
            suffixes=band_suffixes,
            clip=clip,
            nodata=nodata,
            always=rgb is not None,
        )
        if self.band_rule is not None:
            self.channels = self.band_rule.channels
        self.preview_bands = choose_preview(self.band_rule, rgb)
        self.mean, self.std = choose_statistics(
            pairing.samples, self.band_rule, mean, std, (self.mean, self.std)
        )
        super().__init__(pairing)


def _sources(
    data_dir: str | None, split: str | None, images: str | None, masks: str | None
) -> tuple[Path, Path]:
    """Return the sources of images and masks."""
    root = Path(data_dir or "")
    if data_dir is not None:
        for argument, name in (("split", split), ("images", images), ("masks", masks)):
            _check_below(argument, name)
    if images is not None and masks is not None:
        if split is not None:
            raise ValueError("split: cannot be combined with images and masks, only with data_dir")
        return root / images, root / masks
    if images is not None and (root / images).is_file():
        return root / images, root / images  # each line may name both
    if images is not None or masks is not None:
        missing = "masks" if masks is None else "images"
        raise ValueError(f"{missing}: required with {'images' if masks is None else 'masks'}")
    if data_dir is None:
        raise ValueError('name two folders, "images" and "masks", or a "data_dir"')
    return root / "images" / (split or ""), root / "masks" / (split or "")


def _check_below(argument: str, name: str | None) -> None:
    """Refuse a name that leaves `data_dir`; links inside are the user's own."""
    path = os.path.normpath(name or "")
    if os.path.isabs(path) or path.split(os.sep)[0] == os.pardir:
        raise ValueError(
            f"{argument}: {name!r} leads out of data_dir; name a data_dir that contains "
            "everything, or leave it out"
        )


def _parse_label_map(
    label_map: Mapping[str, int], num_classes: int
) -> tuple[dict[int, int] | None, dict[tuple[int, int, int], int] | None]:
    """Return the map of ids and that of colours; None for a kind that does not occur."""
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
        if len(numbers) == 1 and -32768 <= numbers[0] <= 65535:
            ids[numbers[0]] = label
        elif len(numbers) == 3 and all(0 <= n <= 255 for n in numbers):
            colours[(numbers[0], numbers[1], numbers[2])] = label
        else:
            raise ValueError(f'label_map.{key}: expected an id ("7") or a colour ("128,0,64")')
    return ids or None, colours or None
