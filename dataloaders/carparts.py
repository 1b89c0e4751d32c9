"""Car Parts: photographs of cars with the parts that repair shops name."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from base.base_dataset import BaseDataset
from utils.cli.extensions import IMAGE_EXTENSIONS, MASK_EXTENSIONS
from utils.files.data_file import DataError
from utils.files.image_io import read_mask
from utils.samples.pairing import Sample, by_stem, keep_existing, pair

IGNORED = 255


@dataclasses.dataclass(frozen=True)
class CarSample(Sample):
    """An image with a second mask: where the car is."""

    foreground: str = ""  # the file of this mask, 0 outside the car

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that the sample is read from."""
        return (*super().files, self.foreground)


class CarParts(BaseDataset):
    """Car parts as id masks: 13 parts, left and right as one, and the background.

    Images and parts are those of https://github.com/dsmlr/Car-Parts-Segmentation, which come as
    COCO polygons of 18 parts; this is the layout of
    https://github.com/derby-ding/carpartssegment: `<split>/JPEGImages/<stem>.jpg` with
    `<split>/annotation/<stem>.png`. `python convert.py coco` makes such masks of the polygons.

    Background is everything else: the body and the roof of the car as well as the street. With
    `foreground` everything outside the car is ignored, whatever its label, so that a network for
    cars cut out by a detector need not learn the street; its predictions outside a car then have
    no meaning, and `<split>/foreground` is needed at prediction too.

    Args:
        data_dir: The folder with `train` and `valid` in it.
        split: Which of the two.
        labels: `annotation`, or `annotation_noisy`, the training labels with wrong parts in them:
            for methods that are robust to label noise.
        foreground: The use of `<split>/foreground/<stem>.png`: true ignores what lies outside the
            car, `"weight"` tells losses such as `RegionAwareLoss` where it is.

    Raises:
        DataError: If a folder is missing or no image has a mask.
        ValueError: If there is no such split, or noisy labels are asked for in `valid`.
    """

    classes = (
        "background", "backbumper", "backglass", "backdoor", "backlight", "frontbumper",
        "frontglass", "frontdoor", "frontlight", "fronthood", "mirror", "backhood", "trunk",
        "wheel",
    )  # fmt: skip
    palette = (
        (0, 0, 0), (220, 120, 121), (6, 210, 212), (120, 120, 83), (140, 140, 144), (204, 5, 255),
        (5, 255, 237), (255, 7, 158), (5, 61, 209), (120, 70, 10), (6, 82, 143), (255, 140, 204),
        (255, 4, 255), (51, 7, 204),
    )  # fmt: skip
    mean = (0.479, 0.47211, 0.46569)  # of the 400 training images
    std = (0.30731, 0.30691, 0.3111)
    void = (IGNORED,)

    def __init__(
        self,
        data_dir: str,
        split: Literal["train", "valid"],
        *,
        labels: Literal["annotation", "annotation_noisy"] = "annotation",
        foreground: bool | Literal["weight"] = False,
    ) -> None:
        if split not in ("train", "valid"):
            raise ValueError(f"split: expected one of train, valid, got {split!r}")
        if labels == "annotation_noisy" and split == "valid":
            raise ValueError(
                "labels: annotation_noisy exists for train only, because a score on wrong labels "
                'means nothing; use "annotation" with the split valid'
            )
        root = Path(data_dir, split)
        image_source, mask_source = root / "JPEGImages", root / labels
        images = by_stem(image_source, IMAGE_EXTENSIONS)
        pairing = pair(images, by_stem(mask_source, MASK_EXTENSIONS), image_source, mask_source)
        if foreground:
            cars = root / "foreground"
            samples = [CarSample(s.name, s.image, s.label, foreground=str(cars / f"{s.name}.png"))
                       for s in pairing.samples]  # fmt: skip
            pairing.samples = []
            pairing.add(keep_existing(samples, cars))
        self.has_foreground = foreground == "weight"
        super().__init__(pairing)

    def load_mask(self, index: int) -> np.ndarray:
        """Read the ids (H, W) of a mask, 255 outside the car if that is requested.

        Raises:
            DataError: If a file cannot be used, or the two masks differ in size.
        """
        mask = super().load_mask(index)
        if self.has_foreground or not isinstance(self.samples[index], CarSample):
            return mask
        return np.where(self._car(index, mask), mask, np.uint8(IGNORED))

    def load_foreground(self, index: int) -> np.ndarray:
        """Return where the car is, (H, W) bool.

        Raises:
            DataError: If a file cannot be used, or the two masks differ in size.
        """
        return self._car(index, super().load_mask(index))

    def _car(self, index: int, mask: np.ndarray) -> np.ndarray:
        sample = self.samples[index]
        assert isinstance(sample, CarSample)
        car = read_mask(sample.foreground)
        if car.shape != mask.shape:
            raise DataError(
                f"{sample.foreground}: is {car.shape[1]}x{car.shape[0]} but {sample.label} is "
                f"{mask.shape[1]}x{mask.shape[0]}; make them one size"
            )
        return car != 0
