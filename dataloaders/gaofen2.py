"""Gaofen-2: the optical images of the 2020 contest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from base.base_dataset import BaseDataset
from utils.config.errors import suggest
from utils.config.types import PositiveFloat, PositiveInt
from utils.files.data_file import DataError
from utils.samples.band_rule import choose_preview, choose_rule, choose_statistics
from utils.samples.mask_colours import read_colours
from utils.samples.pairing import Pairing, by_stem, nearest, pair

Split = Literal["train", "valid", "all"]

FIRST_VALID = 421  # first validation image of the contest's 500, if they are in one folder
EXTENSIONS = (".tif", ".tiff")


class Gaofen2(BaseDataset):
    """Gaofen-2 images of 0.8 m in nine classes, track 4 of the 2020 Gaofen contest.

    https://github.com/AICyberTeam/2020Gaofen. There are two layouts: `sat/{train,valid}/img` with
    `N.tif`, its mask `lbl/N_gt.png` of class ids or, if that is missing, `img/N_gt.png` in
    colours; and one folder with `N.tif` and `N_gt.png`, where the number decides: `train` is 1
    to 420, `valid` the rest.

    Args:
        data_dir: The folder with `sat` in it, or `sat` itself, or the one folder.
        split: `all` is both, for `val_split`.
        bands: The bands to use, in this order, counted from 1, if files have more than three.
        mean: Mean of each band; by default that of the contest's images, for 8-bit RGB.
        std: Standard deviation of each band, likewise.

    Raises:
        DataError: If the folder has neither layout.
        ValueError: If there is no such split, or the bands, mean or std do not fit the files.
    """

    classes = (
        "other", "building", "lawn", "shrub_tree", "waterbody", "road", "impervious_ground",
        "vehicle", "land",
    )  # fmt: skip
    palette = (
        (0, 0, 0), (0, 0, 255), (0, 255, 0), (0, 128, 0), (0, 255, 255), (255, 255, 0),
        (255, 255, 255), (255, 0, 255), (128, 128, 128),
    )  # fmt: skip
    mean: Sequence[float] = (0.48016, 0.49194, 0.45625)
    std: Sequence[float] = (0.22736, 0.2107, 0.23557)
    void = (255,)

    def __init__(
        self,
        data_dir: str,
        split: Split,
        *,
        bands: list[PositiveInt] | None = None,
        mean: list[float] | None = None,
        std: list[PositiveFloat] | None = None,
    ) -> None:
        if split not in get_args(Split):
            raise ValueError(f"split: {split!r}{suggest(split, get_args(Split), listing=True)}")
        self.colour_map = {colour: label for label, colour in enumerate(self.palette)}
        pairing = _find(Path(data_dir), split)
        self.band_rule = choose_rule(pairing.samples, bands=bands)
        if self.band_rule is not None:
            self.channels = self.band_rule.channels
        self.preview_bands = choose_preview(self.band_rule)
        self.mean, self.std = choose_statistics(
            pairing.samples, self.band_rule, mean, std, (self.mean, self.std)
        )
        super().__init__(pairing)

    def load_mask(self, index: int) -> np.ndarray:
        """Read a mask as stored: ids (H, W), or colours (H, W, 3) beside the images.

        Raises:
            DataError: If the file cannot be used.
        """
        file = Path(self.mask_file(index))
        return read_colours(file) if file.parent.name == "img" else super().load_mask(index)


def _find(data_dir: Path, split: str) -> Pairing:
    """Find the images of a split in either layout."""
    for root in (data_dir / "sat", data_dir):
        folders = [root / name for name in ("train", "valid") if split in (name, "all")]
        found = [folder for folder in folders if (folder / "img").is_dir()]
        if found:
            result = Pairing()
            for folder in found:
                result.add(_pair_folder(folder / "img", folder / "lbl"))
            return result
    if not any(data_dir.glob("*.tif*")):
        raise DataError(
            f"{data_dir}: expected sat/{split}/img in it, or N.tif with N_gt.png"
            f"{nearest(data_dir / 'sat')}"
        )
    return _pair_folder(data_dir, data_dir, split)


def _pair_folder(images: Path, labels: Path, split: str = "all") -> Pairing:
    """Pair images with masks of ids if there are any, otherwise with the colours beside them."""
    masks: dict[str, Path] = {}
    for folder in (images, labels):
        if any(folder.glob("*_gt.png")):
            masks |= by_stem(folder, (".png",), suffix="_gt")
    found = by_stem(images, EXTENSIONS)
    return pair(_of_split(found, split), _of_split(masks, split), images, labels)


def _of_split(files: dict[str, Path], split: str) -> dict[str, Path]:
    """Return the files whose number belongs in the split."""
    if split == "all":
        return files
    for name, path in files.items():
        if not name.isdecimal():
            raise DataError(
                f"{path}: has no number, which decides between train and valid; use the split "
                '"all" with val_split'
            )
    return {
        name: path
        for name, path in files.items()
        if (int(name) >= FIRST_VALID) == (split == "valid")
    }
