"""What happens to a picture and its label before the batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from utils.config.errors import suggest
from utils.config.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveInt
from utils.files.data_file import DataError
from utils.transforms.albumentations_pipeline import AlbumentationsPipeline
from utils.transforms.class_crops import CropRule, choose_crop
from utils.transforms.colour import jitter, sample_jitter
from utils.transforms.cutout import cut_out, sample_rectangles
from utils.transforms.geometry import (
    blur,
    centre_geometry,
    sample_geometry,
    sample_sigma,
    sample_turns,
    warp,
)
from utils.transforms.mixing import (
    Area,
    Pair,
    Partners,
    assemble,
    draw_partner,
    draw_partner_with,
    paste,
    sample_objects,
    sample_quarters,
)

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
HalfTurn = Annotated[float, msgspec.Meta(ge=0, le=0.5)]

CUTOUT_SIZE = 0.25
RARE_SHARE = 0.5

logger = logging.getLogger(__name__)


class _Place(NamedTuple):
    """The generators of one picture's place."""

    geometry: np.random.Generator
    turns: np.random.Generator
    crop: np.random.Generator


class _Outside(NamedTuple):
    """What stands where no picture is."""

    ignore_index: int
    fill: float | Sequence[float]


class Augmentation:
    """What happens to an image and its label between the file and the batch.

    `val` wins over `augment`; with neither the pair passes unchanged, whatever else is set. What is
    set and has no effect is named in a warning.
    Training scales the long side, rotates, crops (padding at the bottom and right where the picture
    is smaller) and turns over, all of it in one warp; then comes what mixes pictures, then what
    changes the image alone: blur, colours (of the padding too), cutout. Validation scales the short
    side to `crop_size` and takes the square in the middle.

    What lies outside the source picture gets the fill colour and the ignored label, never a class.
    A rotated corner that a fixed canvas would cut away stays visible where the crop reaches it, so
    more of the labelled pixels are used.

    Args:
        augment: Apply the training transform.
        val: Apply the validation transform.
        base_size: Long side after scaling in training, in pixels; none leaves the size as it is.
        crop_size: Side of the square output, in pixels; none keeps the whole scaled picture.
        scale: Draw the long side uniformly from 0.5 to 2 times `base_size`.
        flip: Mirror left to right in half of the samples.
        rotate: Rotate by a whole number of degrees, uniformly from -10 to 10.
        blur: Blur the image, not the label, with a sigma drawn uniformly from [0, 1) pixels.
        vertical_flip: Mirror top to bottom in half of the samples.
        rotate90: Turn by 0, 90, 180 or 270 degrees, each as likely.
        brightness: Multiply by a factor from [1 - brightness, 1 + brightness], none below 0; this
            and the next three for 8-bit RGB only, in a random order.
        contrast: Scale the distances from the mean grey by such a factor.
        saturation: Scale the distances from the pixel's grey by such a factor.
        hue: Shift the hue by up to this part of a turn, at most 0.5.
        cutout: Fill 0 to this many rectangles of the image; the label stays.
        cutout_size: Their sides, as shares of the picture's.
        max_class_ratio: Draw up to ten crops until no class has more than this share of the
            labelled pixels.
        rare_classes: Names or numbers of classes to place the crop on.
        rare_share: How often to do so, where the picture has one of them.
        copy_paste: Probability of pasting objects of another training picture.
        paste_classes: Names or numbers of the classes to paste; `rare_classes` by default.
        mosaic: Probability of putting four training pictures together to one.
        albumentations: Instead of all this a pipeline of Albumentations: what `to_dict()` gives, or
            a file that `albumentations.save()` wrote.
        class_names: Names of the classes; the program sets it.
        channels: Channels of the pictures; the program sets it.

    Raises:
        ValueError: If the arguments contradict each other, name no class of the dataset, or do not
            suit its pictures.
    """

    def __init__(
        self,
        *,
        augment: bool = False,
        val: bool = False,
        base_size: PositiveInt | None = None,
        crop_size: PositiveInt | None = None,
        scale: bool = True,
        flip: bool = False,
        rotate: bool = False,
        blur: bool = False,
        vertical_flip: bool = False,
        rotate90: bool = False,
        brightness: NonNegativeFloat = 0.0,
        contrast: NonNegativeFloat = 0.0,
        saturation: NonNegativeFloat = 0.0,
        hue: HalfTurn = 0.0,
        cutout: NonNegativeInt = 0,
        cutout_size: Fraction = CUTOUT_SIZE,
        max_class_ratio: Fraction | None = None,
        rare_classes: list[str | int] | None = None,
        rare_share: Probability = RARE_SHARE,
        copy_paste: Probability = 0.0,
        paste_classes: list[str | int] | None = None,
        mosaic: Probability = 0.0,
        albumentations: dict[str, Any] | str | None = None,
        class_names: Sequence[str] = (),
        channels: int = 3,
    ) -> None:
        self.augment = augment
        self.val = val
        self.base_size = base_size
        self.crop_size = crop_size
        self.scale = scale
        self.flip = flip
        self.rotate = rotate
        self.blur = blur
        self.vertical_flip = vertical_flip
        self.rotate90 = rotate90
        self.colours = {
            "brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue,
        }  # fmt: skip
        self.cutout = cutout
        self.cutout_size = cutout_size
        self.copy_paste = copy_paste
        self.mosaic = mosaic
        rare = class_numbers(rare_classes, class_names, "rare_classes")
        pasted = class_numbers(paste_classes, class_names, "paste_classes")
        self.paste_rule = CropRule(pasted or rare)
        self.crop_rule: CropRule | None = None
        if rare or max_class_ratio is not None:
            max_ratio = 1.0 if max_class_ratio is None else max_class_ratio
            self.crop_rule = CropRule(rare, rare_share, max_ratio)

        added = {
            "vertical_flip": vertical_flip, "rotate90": rotate90, **self.colours, "cutout": cutout,
            "max_class_ratio": max_class_ratio, "rare_classes": rare, "copy_paste": copy_paste,
            "paste_classes": pasted, "mosaic": mosaic,
        }  # fmt: skip
        used = [name for name, value in added.items() if value]
        self._check(used, channels)
        self._spawns = bool(used)
        self.pipeline: AlbumentationsPipeline | None = None
        first = ("base_size", "crop_size", "flip", "rotate", "blur")
        used = [name for name in first if getattr(self, name)] + used
        if albumentations is not None:
            if used:
                raise ValueError(
                    f"albumentations: stands for the whole augmentation, and {', '.join(used)} "
                    f"{'is' if len(used) == 1 else 'are'} set beside it; remove the one or the "
                    "other"
                )
            self.pipeline = AlbumentationsPipeline(albumentations)
            used.append("albumentations")
        shares = {"rare_share": rare_share != RARE_SHARE, "cutout_size": cutout_size != CUTOUT_SIZE}
        self._warn_of_idle(used, [name for name, changed in shares.items() if changed])

    @property
    def follows_labels(self) -> tuple[str, ...]:
        """What is set whose geometry depends on the label, or brings in other pictures."""
        shown = {
            "rare_classes or max_class_ratio": self.crop_rule, "copy_paste": self.copy_paste,
            "mosaic": self.mosaic, "albumentations": self.pipeline,
        }  # fmt: skip
        return tuple(name for name, value in shown.items() if value) if self.augment else ()

    def _warn_of_idle(self, used: list[str], shares: list[str]) -> None:
        """Name what is set and has no effect; `shares` says how, where another one is used."""
        if self.val:
            idle = ["augment"] * self.augment + used + shares
            idle = [name for name in idle if name not in ("base_size", "crop_size")]
            why = 'beside "val": true'
        elif not self.augment:
            idle, why = used + shares, 'without "augment": true'
        else:
            needs = {"rare_share": "rare_classes", "cutout_size": "cutout"}
            idle = [name for name in shares if needs[name] not in used]
            why = f"without {' and '.join(needs[name] for name in idle)}"
        if idle:
            logger.warning(
                "%s: %s no effect %s", ", ".join(idle), "has" if len(idle) == 1 else "have", why
            )

    def _check(self, used: Sequence[str], channels: int) -> None:
        """Refuse new operations that cannot work."""
        for name in ("mosaic", "rare_classes", "max_class_ratio"):
            if name in used and self.crop_size is None:
                raise ValueError(f"{name}: needs crop_size, the side of the output, in pixels")
        if self.mosaic and self.crop_size == 1:
            raise ValueError("mosaic: needs a crop_size of at least 2")
        if self.copy_paste and not self.paste_rule.classes:
            raise ValueError("copy_paste: name the classes to paste with paste_classes")
        if "paste_classes" in used and not self.copy_paste:
            raise ValueError(
                "paste_classes: nothing is pasted without copy_paste; set its probability"
            )
        coloured = [name for name in self.colours if name in used]
        if coloured and channels != 3:
            raise ValueError(
                f"{', '.join(coloured)}: these pictures have {channels} channel"
                f"{'s' * (channels != 1)}, and colour jitter is defined for 8-bit RGB only; "
                "remove it"
            )

    def __call__(
        self,
        image: np.ndarray,
        label: np.ndarray,
        rng: np.random.Generator,
        *,
        ignore_index: int,
        fill: float | Sequence[float],
        partners: Partners | None = None,
    ) -> Pair:
        """Transform one pair; the arguments stay as they were.

        Args:
            image: (H, W, C), uint8, uint16, int16 or float32.
            label: (H, W), uint8 or int16.
            rng: The only source of chance; equal generators give equal samples.
            ignore_index: Label of the pixels outside the source picture.
            fill: Their colour, one value or one a channel, in the unit of `image`.
            partners: The other training samples, for `copy_paste` and `mosaic`.

        Returns:
            Image (h, w, C) and label (h, w), of the types they came in.

        Raises:
            DataError: If a partner or a picture does not suit an operation.
            ValueError: If the pair does not fit together, see `warp`.
        """
        if self.val:
            if self.crop_size is None:
                return image, label
            geometry = centre_geometry(label.shape[0], label.shape[1], self.crop_size)
            return warp(image, label, geometry, ignore_index=ignore_index, fill=fill)
        if not self.augment:
            return image, label
        if self.pipeline is not None:
            return self.pipeline(image, label, rng, ignore_index=ignore_index)

        # Spawning leaves the generator's own draws as they are, so each operation that was added
        # to the first ones has its own stream. New streams go to the end.
        turns, crop, mixing, pasting, colours, holes = rng.spawn(6) if self._spawns else 6 * [rng]
        outside = _Outside(ignore_index, fill)
        place = _Place(rng, turns, crop)
        if self.mosaic and mixing.random() < self.mosaic:
            image, label = self._make_mosaic(image, label, place, mixing, partners, outside)
        else:
            image, label = self._warp(image, label, place, self.crop_size, self.crop_rule, outside)
        if self.copy_paste and pasting.random() < self.copy_paste:
            image, label = self._paste(image, label, pasting, partners, outside)
        if self.blur:
            image = blur(image, sample_sigma(rng))
        if any(self.colours.values()):
            image = jitter(image, sample_jitter(colours, **self.colours))
        if self.cutout:
            rectangles = sample_rectangles(
                holes, *label.shape, most=self.cutout, size=self.cutout_size
            )
            image = cut_out(image, rectangles, fill)
        return image, label

    def _warp(
        self,
        image: np.ndarray,
        label: np.ndarray,
        place: _Place,
        size: int | tuple[int, int] | None,
        rule: CropRule | None,
        outside: _Outside,
    ) -> Pair:
        """Bring one picture to a size, in one warp."""
        vertical_flip, quarter_turns = False, 0
        if self.vertical_flip or self.rotate90:
            vertical_flip, quarter_turns = sample_turns(
                place.turns, vertical_flip=self.vertical_flip, rotate90=self.rotate90
            )
        if isinstance(size, tuple) and quarter_turns % 2:
            size = size[::-1]
        geometry = sample_geometry(
            place.geometry,
            *label.shape,
            base_size=self.base_size,
            crop_size=size,
            scale=self.scale,
            flip=self.flip,
            rotate=self.rotate,
        )
        if vertical_flip or quarter_turns:
            geometry = replace(geometry, vertical_flip=vertical_flip, quarter_turns=quarter_turns)
        if rule is not None:
            geometry = choose_crop(
                label, geometry, place.crop, rule, ignore_index=outside.ignore_index
            )
        return warp(image, label, geometry, **outside._asdict())

    def _make_mosaic(
        self,
        image: np.ndarray,
        label: np.ndarray,
        place: _Place,
        rng: np.random.Generator,
        partners: Partners | None,
        outside: _Outside,
    ) -> Pair:
        """This picture and three others, each warped straight to the size of its part."""
        assert self.crop_size is not None
        areas = sample_quarters(rng, self.crop_size)
        pairs = [(image, label, place)]
        for _ in areas[1:]:
            partner = draw_partner(_required(partners), image, rng)
            pairs.append((*partner, _Place(*rng.spawn(3))))
        parts = [
            self._warp(*pair, _size(area), self.crop_rule, outside)
            for pair, area in zip(pairs, areas, strict=True)
        ]
        return assemble(parts, areas, self.crop_size)

    def _paste(
        self,
        image: np.ndarray,
        label: np.ndarray,
        rng: np.random.Generator,
        partners: Partners | None,
        outside: _Outside,
    ) -> Pair:
        """Objects of another picture, as its own augmentation places them, over this one."""
        classes = self.paste_rule.classes
        partner = draw_partner_with(_required(partners), image, classes, rng)
        if partner is None:
            return image, label
        place = _Place(*rng.spawn(3))
        other = self._warp(*partner, place, label.shape, self.paste_rule, outside)
        return paste(image, label, other, sample_objects(other[1], classes, rng))


def class_numbers(
    classes: Sequence[str | int] | None, class_names: Sequence[str], argument: str
) -> tuple[int, ...]:
    """Numbers of classes given by name or number.

    Args:
        classes: Names or numbers; none gives no numbers.
        class_names: The names of all classes; empty where they are not known.
        argument: What the message calls `classes`.

    Raises:
        ValueError: If there is no such class.
    """
    names, numbers = list(class_names), []
    for c in classes or ():
        if isinstance(c, str) and c not in names:
            hint = suggest(c, names, listing=True) or "; give its number"
            raise ValueError(f"{argument}: there is no class named {c!r}{hint}")
        if isinstance(c, int) and not 0 <= c < (len(names) or c + 1):
            last = f"0..{len(names) - 1}" if names else "0 and above"
            raise ValueError(f"{argument}: {c} is no class ({last})")
        numbers.append(names.index(c) if isinstance(c, str) else c)
    return tuple(dict.fromkeys(numbers))


def _size(area: Area) -> tuple[int, int]:
    rows, columns = area
    return rows.stop - rows.start, columns.stop - columns.start


def _required(partners: Partners | None) -> Partners:
    if partners is None or len(partners) == 0:
        raise DataError("copy_paste and mosaic need other training pictures, and there are none")
    return partners
