"""Cityscapes: street scenes of 50 cities."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from base.base_dataset import BaseDataset
from utils.cli.extensions import IMAGE_EXTENSIONS
from utils.config.errors import suggest
from utils.files.data_file import DataError
from utils.samples.pairing import Pairing, Sample, by_stem, nearest, pair

Mode = Literal["fine", "coarse"]
Split = Literal["train", "val", "test", "train_extra"]

SPLITS = {"fine": ("train", "val", "test"), "coarse": ("train", "val", "train_extra")}

# Of the ids 0..33 and -1 (license plate) those that are evaluated, in the order of the classes:
# https://github.com/mcordts/cityscapesScripts, helpers/labels.py.
EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
LABEL_MAP = dict.fromkeys(range(-1, 34), -1) | {id_: i for i, id_ in enumerate(EVALUATED)}

BLACK = "troisdorf_000000_000073"


class CityScapes(BaseDataset):
    """Streets of 50 cities in 19 classes, labelled finely or coarsely.

    https://www.cityscapes-dataset.com/. An image `<city>_<sequence>_<frame>_leftImg8bit.png` and
    its mask `..._gtFine_labelIds.png` or `..._gtCoarse_labelIds.png` are paired by the text
    before that. 19 of the 34 ids are classes, the others are ignored. If there are no `labelIds`,
    `labelTrainIds` (0..18 and 255) are read.

    Args:
        data_dir: The folder in which the archives were unpacked: `leftImg8bit` and `gtFine` or
            `gtCoarse`, each directly in it or in a folder of the archive's name
            (`gtFine_trainvaltest/gtFine`).
        split: `test` has no public labels; `train_extra` has only coarse ones.
        mode: The labels to read.

    Raises:
        DataError: If a folder is missing or no sample is complete.
        ValueError: If there is no such split, or not in this mode.
    """

    classes = (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
        "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
        "motorcycle", "bicycle",
    )  # fmt: skip
    palette = (
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
        (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
        (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100),
        (0, 80, 100), (0, 0, 230), (119, 11, 32),
    )  # fmt: skip
    mean = (0.28689529, 0.32513294, 0.28389176)
    std = (0.17613647, 0.18099176, 0.17772235)
    void = (255,)
    label_map: Mapping[int, int] | None = LABEL_MAP

    def __init__(self, data_dir: str, split: Split, *, mode: Mode = "fine") -> None:
        _check(split, mode)
        root = Path(data_dir)
        archive = "trainextra" if split == "train_extra" else "trainvaltest"
        folder = _find(root, "leftImg8bit", f"leftImg8bit_{archive}", split)
        images = by_stem(folder, IMAGE_EXTENSIONS, suffix="_leftImg8bit")
        if not images:
            raise DataError(f"{folder}: contains no *_leftImg8bit.png")
        if split == "test":
            super().__init__([Sample(name, str(images[name])) for name in sorted(images)])
            return
        pairing = self._pair_labels(root, split, mode, images, folder)
        if any(sample.name.endswith(BLACK) for sample in pairing.samples):
            pairing.notes.append(
                f"{folder}: {BLACK} is a black image in Cityscapes' own archive; if it is in "
                "yours, remove it and its mask"
            )
        super().__init__(pairing)

    def _pair_labels(
        self, root: Path, split: str, mode: str, images: dict[str, Path], image_folder: Path
    ) -> Pairing:
        """Find the masks; with `labelTrainIds` the ids are the classes."""
        name = f"gt{mode.capitalize()}"
        outer = f"{name}_trainvaltest" if mode == "fine" else name
        folder = _find(root, name, outer, split)
        masks = by_stem(folder, (".png",), suffix=f"_{name}_labelIds")
        if not masks:
            masks = by_stem(folder, (".png",), suffix=f"_{name}_labelTrainIds")
            self.label_map = None
        if not masks:
            raise DataError(
                f"{folder}: contains neither *_{name}_labelIds.png nor *_labelTrainIds.png"
            )
        return pair(images, masks, image_folder, folder)


def _check(split: str, mode: str) -> None:
    if mode not in SPLITS:
        raise ValueError(f"mode: expected 'fine' or 'coarse', got {mode!r}")
    if split in SPLITS[mode]:
        return
    if split in get_args(Split):
        other = "coarse" if mode == "fine" else "fine"
        raise ValueError(f'split: {split!r} has no {mode} labels; set "mode": "{other}"')
    raise ValueError(
        f"split: CityScapes has no {split!r}{suggest(split, SPLITS[mode], listing=True)}"
    )


def _find(root: Path, name: str, outer: str, split: str) -> Path:
    """Return the folder of a split, in `name` or in `outer/name`."""
    for folder in (root / name / split, root / outer / name / split):
        if folder.is_dir():
            return folder
    raise DataError(
        f"{root}: expected {name}/{split} or {outer}/{name}/{split} in it"
        f"{nearest(root / name / split)}; set data_dir to the folder in which the archives of "
        "Cityscapes were unpacked"
    )
