"""Freiburg Forest, the dataset of DeepScene."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from base.base_dataset import BaseDataset
from utils.cli.extensions import IMAGE_EXTENSIONS, MASK_EXTENSIONS
from utils.files.data_file import DataError
from utils.samples.pairing import by_stem, nearest, pair

FOLDERS = {"training": "train", "validation": "test"}


class DeepScene(BaseDataset):
    """Freiburg Forest: 230 + 136 images of forest tracks.

    http://deepscene.cs.uni-freiburg.de/, Valada et al., "Deep Multispectral Semantic Scene
    Understanding of Forested Environments using Multimodal Fusion", ISER 2016.

    Images and masks share the text before the first `_`: `rgb/b1-09517_Clipped.jpg` belongs
    to `GT_color/b1-09517_Clipped.png` or `GT_color/b1-09517_mask.png`. Masks have colours. Void has
    none, so class 0 is absent and in no mean; white, which others use for it, is ignored, and every
    other colour is an error. The authors' own metrics count Tree as Vegetation.

    Args:
        data_dir: The folder with `train` and `test` in it, or its parent where that is called
            `freiburg_forest_annotated`.
        split: `training` reads `train`, `validation` reads `test`.

    Raises:
        DataError: If a folder is missing, two files share an id, or no image has a mask.
        ValueError: If there is no such split.
    """

    classes = ("Void", "Road", "Grass", "Vegetation", "Tree", "Sky", "Obstacle")
    palette = (
        (255, 255, 255),
        (170, 170, 170),
        (0, 255, 0),
        (102, 102, 51),
        (0, 60, 0),
        (0, 120, 255),
        (0, 0, 0),
    )
    void = ()
    colours_only = True

    def __init__(self, data_dir: str, split: Literal["training", "validation"]) -> None:
        if split not in FOLDERS:
            raise ValueError(f"split: expected one of {', '.join(FOLDERS)}, got {split!r}")
        root = _find_root(Path(data_dir)) / FOLDERS[split]
        images = _by_id(by_stem(root / "rgb", IMAGE_EXTENSIONS))
        masks = _by_id(by_stem(root / "GT_color", MASK_EXTENSIONS))
        pairing = pair(images, masks, root / "rgb", root / "GT_color")
        self.colour_map = {colour: label for label, colour in enumerate(self.palette)}
        self.colour_map[self.palette[0]] = -1
        super().__init__(pairing)


def _find_root(data_dir: Path) -> Path:
    for root in (data_dir, data_dir / "freiburg_forest_annotated"):
        if any((root / folder).is_dir() for folder in FOLDERS.values()):
            return root
    raise DataError(
        f"{data_dir}: expected the folders train and test{nearest(data_dir / 'train')}; set "
        "data_dir to the folder in which freiburg_forest_annotated.tar.gz was unpacked"
    )


def _by_id(found: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files by the id in their stems."""
    named: dict[str, Path] = {}
    for stem, path in found.items():
        key = stem.partition("_")[0]
        if key in named:
            raise DataError(
                f"{named[key]} and {path} share the id {key}; remove one, so that the pairs "
                "are unique"
            )
        named[key] = path
    return named
