"""Datasets: files, names of classes, colours."""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.drawing.visualize import to_rgb
from utils.files.data_file import DataError
from utils.files.image_head import ExifRule, ImageHead, read_head, turn_upright
from utils.files.image_io import read_image, read_mask
from utils.files.raster_io import BandRule, read_bands
from utils.samples.mask_colours import read_colours, read_ids_or_colours
from utils.samples.pairing import Pairing, Sample

__all__ = ["BaseDataSet", "BaseDataset", "DataError", "Pair", "Picture", "Sample"]


READING_FORMAT = 1  # goes up when files are read otherwise than before: old caches are forgotten


class Picture(NamedTuple):
    """An image (H, W, C), and where it has no data: (H, W) bool, or None for nowhere."""

    pixels: np.ndarray
    missing: np.ndarray | None = None


class Pair(NamedTuple):
    """An image (H, W, C), its mask as stored, and where the image has no data."""

    image: np.ndarray
    mask: np.ndarray
    missing: np.ndarray | None = None


class BaseDataset:
    """Images with masks as they are on disk, and what their labels mean.

    A dataset is one file: its constructor's own arguments (where the files are), a list of
    `Sample`, and the constants below, as class attributes or set before `super().__init__`.

    Args:
        samples: The images, or what `utils/samples/pairing.py` found: with what is wrong with
            lists and folders (training refuses it), and what is odd about them.

    Raises:
        DataError: If there is no image.
        ValueError: If there is one class only.
    """

    classes: Sequence[str] = ()  # a name for each class, K of them
    palette: Sequence[Sequence[int]] = ()  # (r, g, b) for each class
    # Mean of each channel, in 0..1 for 8-bit images, in the sensor's unit for others.
    mean: Sequence[float] = (0.485, 0.456, 0.406)  # ImageNet's
    std: Sequence[float] = (0.229, 0.224, 0.225)  # standard deviation of each channel, likewise
    channels: int = 3  # channels of an image
    # Ids in the masks that are ignored; None for 255 and the config's `ignore_index`.
    void: Sequence[int] | None = None
    # Id in the mask -> class, -1 for ignored; None: ids are classes.
    label_map: Mapping[int, int] | None = None
    # (r, g, b) in the mask -> class, -1 for ignored; None: masks contain ids.
    colour_map: Mapping[tuple[int, int, int], int] | None = None
    # Whether masks never contain ids, so that grey and palette images stand for the colours that
    # they show; else those of a palette image count where only they can be meant.
    colours_only: bool = False
    # How images of other than 8-bit RGB are read; None: they are 8-bit RGB.
    band_rule: BandRule | None = None
    # The channels that show red, green and blue, or one to show in grey.
    preview_bands: Sequence[int] = (0, 1, 2)
    # Whether the EXIF orientation of images and masks is applied; None where nobody has said so: it
    # is not, and a training warns of images that carry one.
    exif: ExifRule | None = None
    drawn_from: str = ""  # what images that are no files depend on beside their names
    mask_prefix: str = ""  # what the stems of masks begin with, and those of images do not
    mask_suffix: str = ""  # what they end with, likewise
    # Whether `load_foreground()` says where the objects are, for losses that weigh regions.
    has_foreground: bool = False

    def __init__(self, samples: Sequence[Sample] | Pairing) -> None:
        found = samples if isinstance(samples, Pairing) else Pairing(list(samples))
        self.samples = found.samples
        self.problems = found.problems
        self.guesses = found.guesses
        self.notes = [*found.guesses, *found.notes]
        self.lost = found.lost
        check_classes(self.classes)
        if not self.samples:
            raise DataError("; ".join(self.problems) or f"{type(self).__name__}: found no image")

    def __len__(self) -> int:
        return len(self.samples)

    def reading_rule(self) -> str:
        """Return what a labelled pair depends on beside its files: part of a cache's key.

        A class whose arguments change what `load()` gives adds them.
        """
        try:
            code = Path(inspect.getfile(type(self))).read_bytes()
        except (OSError, TypeError):  # typed at a prompt
            code = b""
        maps = (self.void, self.label_map, self.colour_map, self.colours_only, list(self.palette))
        # Missing pixels are filled with the mean.
        bands = None if self.band_rule is None else (self.band_rule, list(self.mean))
        name, source = type(self).__name__, hashlib.sha256(code).hexdigest()
        exif = ("upright",) if self.exif == "apply" else ()
        return repr((READING_FORMAT, name, source, len(self.classes), *maps, bands, *exif))

    def load_image(self, index: int) -> Picture:
        """Return an image as the model is to see it, before augmentation.

        Raises:
            DataError: If a file cannot be used.
        """
        sample = self.samples[index]
        if self.band_rule is None:
            image = Picture(read_image(sample.image))
        else:
            files = sample.bands or (sample.image,)
            image = Picture(*read_bands(files, self.band_rule, self.mean))
        if self.exif != "apply":
            return image
        orientation = read_head(sample.image).orientation
        missing = image.missing
        return Picture(
            turn_upright(image.pixels, orientation),
            None if missing is None else turn_upright(missing, orientation),
        )

    def load_mask(self, index: int) -> np.ndarray:
        """Return a mask as stored: ids (H, W) or colours (H, W, 3).

        Raises:
            DataError: If the file cannot be used or the sample has none.
        """
        file = self.mask_file(index)
        if self.colour_map is None or self.label_map is not None:
            mask = read_mask(file)
        elif self.colours_only:
            mask = read_colours(file)
        else:
            mask = read_ids_or_colours(file, self.palette, self.colour_map, self.void or ())
        return mask if self.exif != "apply" else turn_upright(mask, read_head(file).orientation)

    def mask_file(self, index: int) -> str:
        """Return the file of a mask.

        Raises:
            DataError: If the sample has none.
        """
        sample = self.samples[index]
        if sample.label is None:
            raise DataError(f"{sample.name}: has no labels; this split is for prediction only")
        return sample.label

    def load(self, index: int) -> Pair:
        """Return an image and its mask, of one size.

        Raises:
            DataError: If a file cannot be used, the sample has no mask, or the sizes differ.
        """
        source = self.mask_file(index)
        image = self.load_image(index)
        mask = self.load_mask(index)
        if image.pixels.shape[:2] != mask.shape[:2]:
            (height, width), (rows, columns) = image.pixels.shape[:2], mask.shape[:2]
            raise DataError(
                f"{source}: is {columns}x{rows} and its image {self.samples[index].image} is "
                f"{width}x{height}; {self.size_advice(index)}"
            )
        return Pair(image.pixels, mask, image.missing)

    def size_advice(self, index: int) -> str:
        """Say what to do about an image and a mask of different sizes.

        Where the mask fits the image under the other EXIF rule, that is what to do.
        """
        try:
            image, mask = read_head(self.samples[index].image), read_head(self.mask_file(index))
        except DataError:  # an array or an annotation, not an image file
            return "export the mask at the size of the image"
        other: ExifRule = "ignore" if self.exif == "apply" else "apply"
        if image.orientation == mask.orientation or not fits(image, mask, other):
            return "export the mask at the size of the image"
        how = "as it is stored" if other == "ignore" else "as its EXIF orientation shows it"
        if "exif" in inspect.signature(type(self)).parameters:
            cure = f'set "exif": "{other}" beside the path of the images'
        else:
            cure = "turn the pixels and drop the tag: mogrify -auto-orient, on copies"
        return f"the mask fits the image {how} (orientation {image.orientation}); {cure}"

    def load_foreground(self, index: int) -> np.ndarray:
        """Return where the objects of an image are, (H, W) bool; of a set that `has_foreground`.

        Raises:
            DataError: If the file cannot be used.
        """
        raise NotImplementedError(f"{type(self).__name__} has no foreground")

    def preview(self, image: np.ndarray) -> np.ndarray:
        """Return an image (H, W, C) as one to look at: (H, W, 3) uint8 RGB."""
        return to_rgb(image, self.preview_bands, self.mean, self.std)


def check_classes(classes: Sequence[str]) -> None:
    """Refuse a single class: every pixel would be of it, and every metric perfect.

    Raises:
        ValueError: If there is one class.
    """
    if len(classes) == 1:
        name = json.dumps(classes[0])
        raise ValueError(
            f"classes: {name} is the only class, so there is nothing to distinguish it from; "
            f"name the background too: "
            f'"classes": ["background", {name}]'
        )


def fits(image: ImageHead, mask: ImageHead, rule: ExifRule) -> bool:
    """Return whether an image and its mask have one size under an EXIF rule."""
    if rule == "apply":
        return image.shown_size == mask.shown_size
    return image.stored_size == mask.stored_size


BaseDataSet = BaseDataset  # pytorch-segmentation's spelling
