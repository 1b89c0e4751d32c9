"""COCO-Stuff: things and stuff on the images of COCO."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from base.base_dataset import BaseDataset
from utils.cli.extensions import IMAGE_EXTENSIONS
from utils.files.data_file import DataError
from utils.files.mat_io import import_scipy, mat_shapes, read_mat
from utils.files.paths import Root
from utils.samples.pairing import Pairing, Sample, by_stem, keep_existing, nearest, pair, read_lines

Partition = Literal["CocoStuff164k", "CocoStuff10k"]
Split = Literal["train2017", "val2017", "train", "test", "all"]

SPLITS = {"CocoStuff164k": ("train2017", "val2017"), "CocoStuff10k": ("train", "test", "all")}

# Ids 0..181 of https://github.com/nightrome/cocostuff/blob/master/labels.txt, less one.
NAMES: tuple[str, ...] = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "street sign", "stop sign", "parking meter", "bench",
    "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe",
    "hat", "backpack", "umbrella", "shoe", "eye glasses", "handbag", "tie", "suitcase",
    "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove",
    "skateboard", "surfboard", "tennis racket", "bottle", "plate", "wine glass", "cup", "fork",
    "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot",
    "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "mirror",
    "dining table", "window", "desk", "toilet", "door", "tv", "laptop", "mouse", "remote",
    "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "blender",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush", "hair brush",
    "banner", "blanket", "branch", "bridge", "building-other", "bush", "cabinet", "cage",
    "cardboard", "carpet", "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds",
    "counter", "cupboard", "curtain", "desk-stuff", "dirt", "door-stuff", "fence",
    "floor-marble", "floor-other", "floor-stone", "floor-tile", "floor-wood", "flower", "fog",
    "food-other", "fruit", "furniture-other", "grass", "gravel", "ground-other", "hill",
    "house", "leaves", "light", "mat", "metal", "mirror-stuff", "moss", "mountain", "mud",
    "napkin", "net", "paper", "pavement", "pillow", "plant-other", "plastic", "platform",
    "playingfield", "railing", "railroad", "river", "road", "rock", "roof", "rug", "salad",
    "sand", "sea", "shelf", "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone",
    "straw", "structural-other", "table", "tent", "textile-other", "towel", "tree", "vegetable",
    "wall-brick", "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile",
    "wall-wood", "water-other", "waterdrops", "window-blind", "window-other", "wood",
)  # fmt: skip
# On the list of names, but in no mask.
ABSENT = frozenset({11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})

# Those of MMSegmentation's 171 classes, where nine colours are used for two classes. The second
# ones and the absent classes have the first free colours of the VOC map, so that a prediction shows
# which class is meant.
# https://github.com/open-mmlab/mmsegmentation/blob/main/mmseg/datasets/coco_stuff.py
_COLOURS = bytes.fromhex(
    """
    00C040 C04000 004060 80C0C0 004040 00C0E0 00C0C0 80C040 00C060 40C000 8020C0 404080 0000E0
    000040 00A0C0 800060 8000C0 0020C0 8080E0 0000C0 80A0C0 808000 800020 802000 800080 40C080
    408020 00A000 C0C080 800040 000000 C080A0 002000 008080 4080A0 80A000 008000 C08020 806080
    000080 400020 00E080 800000 C000A0 8080C0 006080 808080 4000A0 80E080 808040 C00020 806000
    C0C040 008020 40E000 C040C0 8080A0 406000 0080C0 0080A0 C0E000 008040 808020 C02080 0040C0
    200000 000020 A00000 208000 40A080 A08000 804040 8000A0 402080 200080 0000A0 C0A080 80C000
    A00080 C02000 804080 408060 208080 40A000 004000 C080E0 402000 00C080 4080E0 C0A000 A08080
    00C000 C08060 C06080 004080 400060 40E080 804000 C000E0 406080 80C080 4000E0 C0E080 600000
    C00060 C06000 8040C0 008060 00E000 404040 E00000 006000 40C0C0 0080E0 80E000 40C040 808060
    802080 4000C0 608000 00A080 C00040 8040E0 002080 C080C0 0040E0 80A080 C08000 804020 802040
    C00080 40C020 00A040 400000 C0C0A0 002040 408080 40C0A0 80A040 408000 C0C020 8060C0 400080
    404020 00E0C0 C00000 C040A0 0060C0 C08080 4040A0 80E0C0 C08040 C04020 806040 C000C0 00C020
    40E040 400040 80C0A0 406040 4080C0 00C0A0 C0E040 408040 80C020 C020C0 4040C0 004020 40A0C0
    C04040 8040A0 4020C0 C0C0C0 0040A0 C0A0C0 C0C000 804060 C02040 C04080 40C060 40A040 404000
    """
)
PALETTE = tuple(zip(_COLOURS[0::3], _COLOURS[1::3], _COLOURS[2::3], strict=True))


class COCO(BaseDataset):
    """COCO-Stuff, 164k or 10k: 91 kinds of things and 91 of stuff, unlabelled pixels ignored.

    https://github.com/nightrome/cocostuff, https://arxiv.org/abs/1612.03716. Eleven kinds of
    things are absent. With 182 classes they have no pixel, hence no IoU, and are left out of
    every mean; with 171 the classes after them move up.

    `CocoStuff164k` is `images/<split>/*.jpg` and `annotations/<split>/*.png`, where a pixel is
    the id less one, 255 unlabelled. `CocoStuff10k` is `imageLists/<split>.txt`, `images/*.jpg` and
    `annotations/*.mat` of version 1.1, which need SciPy.

    Args:
        data_dir: The folder with `images` and `annotations` in it.
        split: `train2017` or `val2017` of the 164k; `train`, `test` or `all` of the 10k.
        partition: Which of the two releases.
        num_classes: 182 with the absent classes, or 171 without.

    Raises:
        DataError: If a folder or list is missing, or no image has a mask.
        ValueError: If the release has no such split, or SciPy is needed and missing.
    """

    classes = NAMES
    palette = PALETTE
    mean = (0.43931922, 0.41310471, 0.37480941)
    std = (0.24272706, 0.23649098, 0.23429529)
    void: Sequence[int] = (255,)

    def __init__(
        self,
        data_dir: str,
        split: Split,
        *,
        partition: Partition = "CocoStuff164k",
        num_classes: Literal[182, 171] = 182,
    ) -> None:
        if split not in SPLITS.get(partition, ()):
            known = "; ".join(f"{name}: {', '.join(splits)}" for name, splits in SPLITS.items())
            raise ValueError(f"split: {partition} has no {split!r}. There are {known}")
        ids = [i for i in range(len(NAMES)) if num_classes == 182 or i not in ABSENT]
        self.classes = tuple(NAMES[i] for i in ids)
        self.palette = tuple(PALETTE[i] for i in ids)
        first = 0 if partition == "CocoStuff164k" else 1
        self.label_map = {
            **{i + first: -1 for i in ABSENT},
            **{i + first: label for label, i in enumerate(ids)},
        }
        if partition == "CocoStuff164k":
            pairing = _pair_folders(Path(data_dir), split)
        else:
            self.void = (0,)
            import_scipy()
            pairing = _read_list(Path(data_dir), split)
        super().__init__(pairing)

    def load_mask(self, index: int) -> np.ndarray:
        """Read a mask as stored: ids (H, W), of a PNG or of a `.mat` file.

        Raises:
            DataError: If the file cannot be used.
        """
        file = self.mask_file(index)
        return read_mat_mask(file) if file.endswith(".mat") else super().load_mask(index)


def _pair_folders(root: Path, split: str) -> Pairing:
    image_source, mask_source = root / "images" / split, root / "annotations" / split
    images = by_stem(image_source, IMAGE_EXTENSIONS)
    return pair(images, by_stem(mask_source, (".png",)), image_source, mask_source)


def _read_list(root: Path, split: str) -> Pairing:
    source = root / "imageLists" / f"{split}.txt"
    if not source.is_file():
        raise DataError(f"{source}: no such list{nearest(source)}")
    inside = Root(root, source).inside
    samples = [
        Sample(name, str(inside(f"images/{name}.jpg")), str(inside(f"annotations/{name}.mat")))
        for name in read_lines(source)
    ]
    return keep_existing(samples, source)


def read_mat_mask(path: str) -> np.ndarray:
    """Read `S` of COCO-Stuff 10k 1.1, (H, W) ids: 0 unlabelled, 1..91 things, 92..182 stuff.

    Raises:
        DataError: If the file cannot be read, has no such array, or is of version 1.0.
    """
    count = max(mat_shapes(path).get("names", (0,)))
    if 0 < count < len(NAMES):
        raise DataError(
            f"{path}: names {count} labels; expected {len(NAMES) + 1}. Version 1.0 numbered "
            "them differently; use COCO-Stuff 10k version 1.1"
        )
    return read_mat(path, "S")
