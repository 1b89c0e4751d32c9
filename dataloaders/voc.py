"""Pascal VOC 2012, with the additional SBD annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from base.base_dataset import BaseDataset, DataError, Sample
from utils.palette import voc_palette

Split = Literal[
    "train", "val", "trainval", "test", "train_aug", "val_aug", "trainval_aug", "test_aug"
]


class VOC(BaseDataset):
    """Pascal VOC 2012: 20 object classes and the background.

    http://host.robots.ox.ac.uk/pascal/VOC/voc2012/; the splits named `..._aug` use the annotations
    of SBD, http://home.bharathh.info/pubs/pdfs/BharathICCV2011.pdf.

    A list in `ImageSets/Segmentation` holds one id a line (`2011_000003`), or picture and mask
    (`/JPEGImages/2011_000003.jpg /SegmentationClassAug/2011_000003.png`).

    Args:
        data_dir: The folder with `VOCdevkit/VOC2012` in it, or that folder itself.
        split: Which list to read. `test` has no public labels.

    Raises:
        DataError: If the folder, the list or a file in it is missing.
    """

    classes = (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
        "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant",
        "sheep", "sofa", "train", "tvmonitor",
    )  # fmt: skip
    palette = tuple(voc_palette(21))
    mean = (0.45734706, 0.43338275, 0.40058118)
    std = (0.23965294, 0.23532275, 0.2398498)
    void = (255,)  # the border around objects

    def __init__(self, data_dir: str, split: Split) -> None:
        root = _find_root(Path(data_dir))
        source = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        if not source.is_file():
            there = sorted(path.stem for path in source.parent.glob("*.txt"))
            raise DataError(
                f"{source}: no such list{_sbd_hint(split)}; there are: {', '.join(there) or 'none'}"
            )
        masks = "SegmentationClassAug" if split.endswith("_aug") else "SegmentationClass"
        lines = source.read_text(encoding="utf-8-sig").splitlines()
        samples = [_parse_line(line.split(), root, masks) for line in lines if line.split()]
        if not samples:
            raise DataError(f"{source}: names no picture")
        if split.startswith("test"):
            samples = [s if s.label and Path(s.label).exists() else Sample(s.name, s.image)
                       for s in samples]  # fmt: skip
        _check_exist(samples, source)
        super().__init__(samples)


def _find_root(data_dir: Path) -> Path:
    for root in (data_dir / "VOCdevkit" / "VOC2012", data_dir / "VOC2012", data_dir):
        if (root / "ImageSets" / "Segmentation").is_dir():
            return root
    raise DataError(
        f"{data_dir}: expected VOCdevkit/VOC2012/ImageSets/Segmentation in it; set data_dir to the "
        "folder in which VOCtrainval_11-May-2012.tar was unpacked"
    )


def _parse_line(words: list[str], root: Path, masks: str) -> Sample:
    if len(words) == 1:
        name = words[0]
        return Sample(
            name, str(root / "JPEGImages" / f"{name}.jpg"), str(root / masks / f"{name}.png")
        )
    image, label = (root / word.lstrip("/") for word in words[:2])
    return Sample(image.stem, str(image), str(label))


def _check_exist(samples: list[Sample], source: Path) -> None:
    """Missing files are found now, not in the middle of the first epoch."""
    listings: dict[Path, set[str]] = {}
    missing = []
    for sample in samples:
        for path in (sample.image, sample.label):
            if path is None:
                continue
            folder = Path(path).parent
            if folder not in listings:
                listings[folder] = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
            if Path(path).name not in listings[folder]:
                missing.append(path)
    if missing:
        raise DataError(
            f"{source}: {len(missing)} of the files that it names do not exist, the first is "
            f"{missing[0]}"
        )


def _sbd_hint(split: str) -> str:
    if not split.endswith("_aug"):
        return ""
    return " (the _aug lists and SegmentationClassAug are a separate download)"
