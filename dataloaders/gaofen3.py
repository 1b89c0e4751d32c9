"""Gaofen-3: the polarimetric radar images of the 2020 contest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from base.base_dataset import BaseDataset
from utils.config.errors import suggest
from utils.config.types import PositiveFloat
from utils.files.data_file import DataError
from utils.samples.band_files import pair_bands
from utils.samples.band_rule import choose_preview, choose_rule, choose_statistics
from utils.samples.pairing import Pairing, by_stem, nearest
from utils.samples.sources import find_source

Split = Literal["train", "val", "all"]
Polarisation = Literal["HH", "HV", "VH", "VV"]

FOLDERS = ("train", "val")
EXTENSIONS = (".tif", ".tiff")

# Mean and std of ten scenes of the contest by (low, high) of the clip; None: as stored.
STATISTICS: dict[tuple[float, float] | None, dict[Polarisation, tuple[float, float]]] = {
    None: {
        "HH": (88.2671, 87.36386), "HV": (112.68017, 109.46462), "VH": (108.6961, 105.527),
        "VV": (91.35073, 80.34958),
    },
    (0, 1000): {
        "HH": (87.89274, 77.00376), "HV": (112.11773, 102.02647), "VH": (108.19867, 98.75617),
        "VV": (91.12832, 75.85541),
    },
}  # fmt: skip


class Gaofen3(BaseDataset):
    """Gaofen-3 radar scenes in up to four polarisations, track 6 of the 2020 Gaofen contest.

    https://github.com/AICyberTeam/2020Gaofen. A scene is `N_HH.tiff`, `N_HV.tiff`, `N_VH.tiff`
    and `N_VV.tiff`, amplitudes of 16 bits, and `N_gt.png` in colours; all of them in one folder,
    or in `train` and `val`. The contest has no validation set of its own: `all` with `val_split`
    makes one.

    The colours are those of https://github.com/ggsDing/SARSeg. Its grey (125, 125, 125) is called
    invalid and ignored. Black, called background, is a class, as in the networks of the contest's
    teams; the contest itself has only the six others.

    Args:
        data_dir: The folder with the scenes, or with `train` and `val` in it.
        split: `train` and `val` are folders; `all` is every scene.
        polarisations: The ones to use, in this order.
        clip: (low, high) for all of them; None keeps the values, a few of which are far above all
            others.
        background: Use black as a seventh class; otherwise it is ignored.
        mean: Mean of each polarisation, after clipping; known for the clips (0, 1000) and None.
        std: Standard deviation, likewise.

    Raises:
        DataError: If there is no such folder or scene.
        ValueError: If there is no such split, or mean and std are needed.
    """

    classes: Sequence[str] = (
        "water", "built_up", "factory_industrial", "grassland", "barren", "others", "background",
    )  # fmt: skip
    palette: Sequence[tuple[int, int, int]] = (
        (0, 255, 255), (255, 255, 0), (0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255),
        (0, 0, 0),
    )  # fmt: skip
    void = ()
    colours_only = True

    def __init__(
        self,
        data_dir: str,
        split: Split,
        *,
        polarisations: tuple[Polarisation, ...] = ("HH", "HV", "VH", "VV"),
        clip: tuple[float, float] | None = (0, 1000),
        background: bool = True,
        mean: list[float] | None = None,
        std: list[PositiveFloat] | None = None,
    ) -> None:
        if split not in get_args(Split):
            raise ValueError(f"split: {split!r}{suggest(split, get_args(Split), listing=True)}")
        if not polarisations or len(set(polarisations)) != len(polarisations):
            raise ValueError("polarisations: expected some of HH, HV, VH, VV, each once")
        self.colour_map = {colour: label for label, colour in enumerate(self.palette)}
        self.colour_map[125, 125, 125] = -1
        if not background:
            self.colour_map[0, 0, 0] = -1
            self.classes, self.palette = self.classes[:-1], self.palette[:-1]
        suffixes = [f"_{name}" for name in polarisations]
        pairing = _find(Path(data_dir), split, suffixes)
        self.band_rule = choose_rule(
            pairing.samples, suffixes=suffixes, clip=None if clip is None else [clip]
        )
        self.channels = len(polarisations)
        self.preview_bands = choose_preview(self.band_rule)
        known = STATISTICS.get(clip)
        if known is not None:
            mean = [known[name][0] for name in polarisations] if mean is None else mean
            std = [known[name][1] for name in polarisations] if std is None else std
        self.mean, self.std = choose_statistics(
            pairing.samples, self.band_rule, mean, std, (self.mean, self.std)
        )
        super().__init__(pairing)


def _find(data_dir: Path, split: str, suffixes: list[str]) -> Pairing:
    """Find the scenes of a split, in its folder or all in one."""
    wanted = FOLDERS if split == "all" else (split,)
    folders = [data_dir / name for name in wanted if (data_dir / name).is_dir()]
    if split == "all" and not folders:
        folders = [data_dir]
    if not folders:
        raise DataError(
            f"{data_dir}: has no folder {split!r}{nearest(data_dir / split)}; if all scenes lie in "
            'one folder, use the split "all" with val_split'
        )
    result = Pairing()
    for folder in folders:
        pairing = pair_bands(
            find_source(folder, EXTENSIONS, "image"),
            by_stem(folder, (".png",), suffix="_gt"),
            folder,
            suffixes=suffixes,
        )
        result.add(pairing)
    return result
