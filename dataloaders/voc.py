"""Pascal VOC 2012, with the additional SBD annotations."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from base.base_dataset import BaseDataset
from dataloaders.voc_download import fetch_sbd, fetch_sbd_list, fetch_voc
from utils.config.errors import suggest
from utils.drawing.palette import voc_palette
from utils.files.data_file import DataError
from utils.files.mat_io import import_scipy, read_mat
from utils.files.paths import Root
from utils.samples.pairing import Pairing, Sample, keep_existing, nearest, read_lines

Split = Literal[
    "train", "val", "trainval", "test", "train_aug", "val_aug", "trainval_aug", "test_aug",
    "sbd_train", "sbd_val", "sbd_train_noval",
]  # fmt: skip

AUG_HINT = (
    "the _aug lists and SegmentationClassAug are a separate download; with SBD's own "
    "benchmark_RELEASE/dataset in data_dir, train_aug and trainval_aug need neither"
)


class VOC(BaseDataset):
    """Pascal VOC 2012: 20 object classes and the background.

    http://host.robots.ox.ac.uk/pascal/VOC/voc2012/. The splits named `..._aug` and `sbd_...` use
    the annotations of SBD, http://home.bharathh.info/pubs/pdfs/BharathICCV2011.pdf.

    A list in `ImageSets/Segmentation` has one id a line (`2011_000003`), or image and mask
    (`/JPEGImages/2011_000003.jpg /SegmentationClassAug/2011_000003.png`). Without
    `SegmentationClassAug`, `train_aug` and `trainval_aug` are composed of VOC and SBD: all of SBD
    and VOC's train, without VOC's val, or with it; VOC's own masks if it has them. `sbd_...` are
    SBD's own splits; its train and val mix those of VOC.

    Args:
        data_dir: The folder with `VOCdevkit/VOC2012` in it, or that folder itself (one of another
            year too); for SBD also with `benchmark_RELEASE/dataset`, or that folder itself.
        split: The list to read. `test` has no public labels.
        download: Download what the split needs and `data_dir` lacks: VOC (2 GB), SBD (1.4 GB).

    Raises:
        DataError: If the folder or the list is missing, no sample is complete, SciPy is missing
            for SBD's masks, or a download fails.
        ValueError: If there is no such split, or it cannot be downloaded.
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

    def __init__(self, data_dir: str, split: Split, *, download: bool = False) -> None:
        if split not in get_args(Split):
            options = suggest(split, get_args(Split), listing=True)
            raise ValueError(f"split: VOC has no {split!r}{options}")
        folder = Path(data_dir)
        if download:
            _download(folder, split)
        pairing = _pair_sbd(folder, split) if split.startswith("sbd_") else _pair(folder, split)
        if any((sample.label or "").endswith(".mat") for sample in pairing.samples):
            import_scipy()
        super().__init__(pairing)

    def load_mask(self, index: int) -> np.ndarray:
        """Read a mask as stored, (H, W): a PNG of VOC's or a MATLAB file of SBD's.

        Raises:
            DataError: If the file cannot be used or the sample has no mask.
        """
        file = self.mask_file(index)
        if file.endswith(".mat"):
            return read_mat(file, "GTcls", "Segmentation")
        return super().load_mask(index)


def _download(data_dir: Path, split: str) -> None:
    """Download the originals that a split needs, unless they exist."""
    voc, sbd = _find_voc(data_dir), _find_sbd(data_dir)
    if split in ("test", "val_aug", "test_aug"):
        if voc is None or not _list_file(voc, split).is_file():
            raise ValueError(f"download: the split {split!r} of VOC is not public")
        return
    if voc is None and not split.startswith("sbd_"):
        voc = fetch_voc(data_dir)
    more = split.endswith("_aug") and not (voc and (voc / "SegmentationClassAug").is_dir())
    if sbd is None and (more or split.startswith("sbd_")):
        sbd = fetch_sbd(data_dir)
    if sbd and split == "sbd_train_noval":
        fetch_sbd_list(sbd)


def _pair(data_dir: Path, split: str) -> Pairing:
    """Return the samples of a list of VOC's."""
    root = _find_voc(data_dir)
    if root is None:
        expected = data_dir / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
        raise DataError(
            f"{data_dir}: expected VOCdevkit/VOC2012/ImageSets/Segmentation in it"
            f"{nearest(expected)}; set data_dir to the folder in which "
            'VOCtrainval_11-May-2012.tar was unpacked, or "download": true'
        )
    more = split.endswith("_aug")
    masks = "SegmentationClassAug" if more else "SegmentationClass"
    if split in ("train_aug", "trainval_aug") and not (root / masks).is_dir():
        sbd = _find_sbd(data_dir)
        if sbd is not None:
            return _compose(root, sbd, with_val=split == "trainval_aug")
    source = _list_file(root, split)
    if not source.is_file():
        there = ", ".join(sorted(path.stem for path in source.parent.glob("*.txt"))) or "none"
        hint = f" ({AUG_HINT})" if more else ""
        raise DataError(f"{source}: no such list{hint}; there are: {there}")
    inside = Root(root, source).inside
    samples = [_parse_line(line, inside, masks, source) for line in read_lines(source)]
    if split.startswith("test"):
        samples = [s if Path(s.label or "").exists() else Sample(s.name, s.image) for s in samples]
    pairing = keep_existing(samples, source)
    if more and not (root / masks).is_dir():
        pairing.problems = [f"{problem} ({AUG_HINT})" for problem in pairing.problems]
    return pairing


def _find_voc(data_dir: Path) -> Path | None:
    roots = (data_dir / "VOCdevkit" / "VOC2012", data_dir / "VOC2012", data_dir)
    return next((r for r in roots if (r / "ImageSets" / "Segmentation").is_dir()), None)


def _list_file(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"


def _parse_line(line: str, inside: Callable[[str], Path], masks: str, source: Path) -> Sample:
    words = line.split()
    if len(words) == 1:
        file = line if "/" in line else f"JPEGImages/{line}.jpg"
        words = [file, f"{masks}/{Path(file).stem}.png"]
    if len(words) != 2:
        raise DataError(f"{source}: expected an id, or image and mask, on the line {line!r}")
    image, label = (inside(word.lstrip("/")) for word in words)
    return Sample(image.stem, str(image), str(label))


def _pair_sbd(data_dir: Path, split: str) -> Pairing:
    """Return the samples of a list of SBD's."""
    root = _find_sbd(data_dir)
    if root is None:
        expected = data_dir / "benchmark_RELEASE" / "dataset" / "cls"
        raise DataError(
            f"{data_dir}: expected benchmark_RELEASE/dataset/cls in it{nearest(expected)}; set "
            'data_dir to the folder in which benchmark.tgz was unpacked, or "download": true'
        )
    source = root / f"{split.removeprefix('sbd_')}.txt"
    inside = Root(root, source).inside
    return keep_existing([_sbd_sample(name, inside) for name in _read_ids(source)], source)


def _find_sbd(data_dir: Path) -> Path | None:
    folders = (data_dir / "benchmark_RELEASE" / "dataset", data_dir / "dataset", data_dir)
    return next((folder for folder in folders if (folder / "cls").is_dir()), None)


def _read_ids(source: Path) -> list[str]:
    """Return the ids of a list, which are file names and not paths."""
    ids = read_lines(source)
    for name in ids:
        if Path(name).name != name:
            raise DataError(f"{source}: expected one id a line, got {name!r}")
    return ids


def _sbd_sample(name: str, inside: Callable[[str], Path]) -> Sample:
    return Sample(name, str(inside(f"img/{name}.jpg")), str(inside(f"cls/{name}.mat")))


def _compose(voc: Path, sbd: Path, *, with_val: bool) -> Pairing:
    """Return the samples of `train_aug` or `trainval_aug`, composed of the two originals.

    The rule is that of the common lists, see `tools/dataset_converters/voc_aug.py` of
    https://github.com/open-mmlab/mmsegmentation.
    """
    train, val = (set(_read_ids(_list_file(voc, name))) for name in ("train", "val"))
    more = {name for half in ("train", "val") for name in _read_ids(sbd / f"{half}.txt")}
    names = train | more | val if with_val else (train | more) - val
    in_voc, in_sbd = Root(voc, voc).inside, Root(sbd, sbd).inside
    samples = [
        _parse_line(name, in_voc, "SegmentationClass", voc)
        if name in train | val
        else _sbd_sample(name, in_sbd)
        for name in sorted(names)
    ]
    pairing = keep_existing(samples, f"{voc} and {sbd}")
    pairing.notes.append(
        f"{voc}: has no SegmentationClassAug; the {len(names)} images of the split are composed "
        f"of VOC and {sbd}"
    )
    return pairing
