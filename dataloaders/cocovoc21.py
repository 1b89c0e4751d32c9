"""The 20 object classes of Pascal VOC on the images of COCO."""

import contextlib
import hashlib
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from base.base_dataset import BaseDataset
from dataloaders.voc import VOC
from utils.config.types import NonNegativeInt
from utils.files.atomic_write import keep
from utils.files.coco_file import CocoImage, Instances, read_instances
from utils.files.data_file import MAX_PIXELS, DataError, check_pixels
from utils.files.paths import Root
from utils.progress import track
from utils.samples.coco_regions import Region, encode, import_pycocotools
from utils.samples.pair_cache import CACHE_FOLDER
from utils.samples.pairing import Pairing, Sample, keep_existing, nearest

SPLITS = {"train2017": "train2017", "val2017": "val2017", "train": "train2017", "val": "val2017"}

# COCO's names of the classes 1..20 of VOC.
COCO_NAMES = (
    "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep", "couch",
    "train", "tv",
)  # fmt: skip
CROWD = 255


class COCOVOC21(BaseDataset):
    """COCO 2017 with the classes of VOC: what networks are trained on before VOC itself.

    https://cocodataset.org/#download; the choice of classes and images is that of
    https://github.com/jfzhang95/pytorch-deeplab-xception. Masks are drawn from
    `annotations/instances_<split>.json` when they are read, which needs pycocotools. Where objects
    overlap, a pixel belongs to the one that the file names first. Crowds are ignored where no
    object covers them. COCO's other 60 categories, crowds of them too, are background.

    Counting the object pixels of every image takes a minute or two for `train2017`; the counts
    are kept in `saved/cache`.

    Args:
        data_dir: The folder with `annotations` and `images/<split>` in it.
        split: `train2017` or `val2017`; `train` and `val` mean the same.
        min_pixels: Images with at most this many pixels in the classes 1..20 are left out.

    Raises:
        DataError: If the annotations cannot be read, or no image is left.
        ValueError: If there is no such split, or pycocotools is missing.
    """

    classes = VOC.classes
    palette = VOC.palette
    void = (CROWD,)

    def __init__(
        self,
        data_dir: str,
        split: Literal["train2017", "val2017", "train", "val"],
        *,
        min_pixels: NonNegativeInt = 1000,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
        import_pycocotools()
        root, split_name = Path(data_dir), SPLITS[split]
        source = root / "annotations" / f"instances_{split_name}.json"
        if not source.exists():
            raise DataError(f"{source}: no such file{nearest(source)}")
        instances = read_instances(source)
        problems = _missing_categories(source, instances)
        regions = _regions_of(instances)
        pixels = _count_all(source, instances.images, regions)
        images = [image for image in instances.images if pixels[str(image.id)] > min_pixels]
        pairing, there = _with_files(images, root / "images" / split_name, root, source)
        self._drawings = Packed(_pack(image, regions[image.id]) for image in there)
        if not images:
            problems.append(f"{source}: no image has more than {min_pixels} object pixels")
        pairing.problems = [*problems, *pairing.problems]
        super().__init__(pairing)

    def load_mask(self, index: int) -> np.ndarray:
        """Draw the mask of an image, (H, W) uint8: 0..20, 255 for crowds.

        Raises:
            DataError: If an outline is broken.
        """
        height, width, regions = msgspec.msgpack.decode(
            zlib.decompress(self._drawings[index]), type=tuple[int, int, list[Region]]
        )
        try:
            check_pixels("its image", width, height)
            return draw_first_on_top(height, width, regions)
        except DataError as error:
            raise DataError(f"{self.mask_file(index)}: {error}") from None


class Packed:
    """Many strings of bytes in one.

    Worker processes share the memory of one large object. Of many small ones each worker would
    soon have a copy, because Python writes a reference count into every object that it reads.

    Args:
        strings: What to keep.
    """

    def __init__(self, strings: Iterable[bytes]) -> None:
        kept = list(strings)
        self._data = b"".join(kept)
        self._ends = np.cumsum([0, *map(len, kept)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        first, last = self._ends[:-1][index], self._ends[1:][index]
        return self._data[first:last]


def draw_first_on_top(height: int, width: int, regions: Sequence[Region]) -> np.ndarray:
    """Draw regions as (H, W) uint8 ids, the first one on top and crowds under everything.

    Raises:
        DataError: If an outline is broken.
    """
    ids = np.zeros((height, width), np.uint8)
    crowds = [region for region in regions if region.crowd]
    objects = [region for region in regions if not region.crowd]
    for region in (*crowds, *reversed(objects)):
        ids[import_pycocotools().decode(encode(region, height, width)) != 0] = region.value
    return ids


def _missing_categories(source: Path, instances: Instances) -> list[str]:
    """Return the problem of a file without COCO's own categories, or nothing."""
    known = {category.name for category in instances.categories}
    missing = [name for name in COCO_NAMES if name not in known]
    if not missing:
        return []
    return [
        f"{source}: has no category {', '.join(missing)}; expected the instance "
        "annotations of COCO 2017 (python convert.py coco makes masks of other files)"
    ]


def _regions_of(instances: Instances) -> dict[int | str, list[Region]]:
    """Return each image's objects and crowds of the 20 classes, in the order of the file."""
    labels = {name: label for label, name in enumerate(COCO_NAMES, 1)}
    values = {c.id: labels[c.name] for c in instances.categories if c.name in labels}
    regions: dict[int | str, list[Region]] = {image.id: [] for image in instances.images}
    for item in instances.annotations:
        if item.category_id in values and item.image_id in regions:
            crowd = bool(item.iscrowd)
            value = CROWD if crowd else values[item.category_id]
            region = Region(f"annotation {item.id}", value, crowd, bytes(item.segmentation))
            regions[item.image_id].append(region)
    return regions


def _with_files(
    images: Sequence[CocoImage], folder: Path, root: Path, source: Path
) -> tuple[Pairing, list[CocoImage]]:
    """Return the samples, and for each of them its image in the annotations."""
    inside = Root(root, source).inside
    files = [str(inside(image.file_name, folder)) for image in images]
    pairing = keep_existing([Sample(Path(f).stem, f, str(source)) for f in files], source)
    there = {sample.image for sample in pairing.samples}
    return pairing, [one for one, file in zip(images, files, strict=True) if file in there]


def _pack(image: CocoImage, regions: Sequence[Region]) -> bytes:
    return zlib.compress(msgspec.msgpack.encode((image.height, image.width, regions)), 1)


class PixelCounts(msgspec.Struct):
    """The object pixels of each image, and the annotations that they were counted in."""

    size: int
    time: int
    pixels: dict[str, int]


def _count_all(
    source: Path, images: Sequence[CocoImage], regions: Mapping[int | str, Sequence[Region]]
) -> dict[str, int]:
    """Return the object pixels of each image by its id, counted once and then cached."""
    facts = source.stat()
    key = hashlib.sha256(os.path.abspath(source).encode(errors="surrogateescape")).hexdigest()
    cache = Path(CACHE_FOLDER, f"cocovoc21-{key[:16]}.json")
    with contextlib.suppress(OSError, msgspec.MsgspecError, RecursionError):  # none, or damaged
        kept = msgspec.json.decode(cache.read_bytes(), type=PixelCounts)
        unchanged = (kept.size, kept.time) == (facts.st_size, facts.st_mtime_ns)
        if unchanged and kept.pixels.keys() == {str(image.id) for image in images}:
            return kept.pixels
    bar = track(images, total=len(images), unit="image", label="object pixels", leave=False)
    pixels = {str(image.id): _count(image, regions[image.id]) for image in bar}
    counted = msgspec.json.encode(PixelCounts(facts.st_size, facts.st_mtime_ns, pixels))
    keep(cache, counted, "the pixels are counted again each time")
    return pixels


def _count(image: CocoImage, regions: Sequence[Region]) -> int:
    """Count the pixels in the classes 1..20.

    An image whose mask cannot be drawn is kept, so that reading it raises the error.
    """
    masks = import_pycocotools()
    try:
        check_pixels(image.file_name, image.width, image.height)
        outlines = [encode(r, image.height, image.width) for r in regions if not r.crowd]
    except DataError:
        return MAX_PIXELS
    return int(masks.area(masks.merge(outlines))) if outlines else 0
