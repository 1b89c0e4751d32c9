"""Small datasets on disk with one thing wrong each, for the tests of the audit."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRAIN, VAL = 12, 4
SIZE = (48, 40)  # width, height
CLASSES = ["ground", "road", "car"]
MEAN, STD = 127.5 / 255, 0.2906


def make_clean(folder: Path) -> Path:
    """Folder `Folder` can read: images of uniform noise, masks of three stripes; and a config."""
    rng = np.random.default_rng(0)
    for split, number in (("train", TRAIN), ("val", VAL)):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(number):
            save_pair(folder, split, f"{split}{index:02d}", rng)
    tree = config_of(folder)
    (folder / "config.json").write_text(json.dumps(tree))
    return folder / "config.json"


def save_pair(folder: Path, split: str, name: str, rng: np.random.Generator) -> None:
    """One image with its mask."""
    width, height = SIZE
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "images" / split / f"{name}.png")
    mask = np.repeat(np.arange(3, dtype=np.uint8), -(-height // 3))[:height, None].repeat(width, 1)
    mask[:2, :2] = 255
    Image.fromarray(mask).save(folder / "masks" / split / f"{name}.png")


def config_of(folder: Path) -> dict[str, Any]:
    """A config that trains on it."""
    args = {
        "data_dir": str(folder), "classes": list(CLASSES), "batch_size": 4, "num_workers": 0,
        "mean": [MEAN] * 3, "std": [STD] * 3,
    }  # fmt: skip
    return {
        "name": "clean",
        "n_gpu": 0,
        "arch": {"type": "UNet", "args": {"base_channels": 2}},
        "train_loader": {
            "type": "Folder",
            "args": {**args, "split": "train", "augment": True, "crop_size": 32, "flip": True},
        },
        "val_loader": {"type": "Folder", "args": {**args, "split": "val", "val": True}},
        "optimizer": {"type": "Adam"},
        "loss": "CrossEntropyLoss2d",
        "trainer": {
            "epochs": 1, "save_dir": str(folder / "saved"), "log_dir": str(folder / "saved/runs"),
        },
    }  # fmt: skip


def change_mask(folder: Path, change: Callable[[np.ndarray], np.ndarray], **save: Any) -> None:
    """Write the first training mask anew."""
    path = folder / "masks/train/train00.png"
    Image.fromarray(change(np.array(Image.open(path)))).save(path, **save)


def change_masks(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write every mask anew."""
    for path in sorted((folder / "masks").rglob("*.png")):
        Image.fromarray(change(np.array(Image.open(path)))).save(path)


def change_image(folder: Path, change: Callable[[Image.Image], Image.Image], **save: Any) -> None:
    """Replace the first training image."""
    path = folder / "images/train/train00.png"
    change(Image.open(path)).save(path, **save)


def set_args(tree: dict[str, Any], section: str = "train_loader", **args: Any) -> None:
    """Change a loader's arguments; None removes one."""
    known = tree[section]["args"]
    known.update(args)
    for name in [name for name, value in known.items() if value is None]:
        del known[name]


# ---------------------------------------------------------------- one function a finding


def missing_partner(folder: Path, tree: dict[str, Any]) -> None:
    (folder / "masks/train/train00.png").unlink()


def extra_partner(folder: Path, tree: dict[str, Any]) -> None:
    (folder / "images/train/train00.png").unlink()


def unreadable(folder: Path, tree: dict[str, Any]) -> None:
    path = folder / "images/train/train00.png"
    path.write_bytes(path.read_bytes()[:-2000])


def jpeg_end(folder: Path, tree: dict[str, Any]) -> None:
    path = folder / "images/train/train00.png"
    buffer = io.BytesIO()
    Image.open(path).save(buffer, "JPEG", quality=95)
    path.write_bytes(buffer.getvalue()[:-2])


def empty_file(folder: Path, tree: dict[str, Any]) -> None:
    (folder / "masks/train/train00.png").write_bytes(b"")


def jpeg_mask(folder: Path, tree: dict[str, Any]) -> None:
    path = folder / "masks/train/train00.png"
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()


def size_mismatch(folder: Path, tree: dict[str, Any]) -> None:
    change_mask(folder, lambda mask: mask[:-4])


def exif_orientation(folder: Path, tree: dict[str, Any]) -> None:
    turned_image(folder, 3)  # half a turn, which no size tells


def turned_image(folder: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = folder / "images/train/train00.png"
    Image.open(path).save(path.with_suffix(".jpg"), exif=exif, quality=95, subsampling=0)
    path.unlink()
    for other in (folder / "images/train").glob("*.png"):  # else the encodings are mixed as well
        Image.open(other).save(other.with_suffix(".jpg"), quality=95, subsampling=0)
        other.unlink()


def mixed_pictures(folder: Path, tree: dict[str, Any]) -> None:
    change_image(folder, lambda image: image.convert("RGBA"))


def mixed_masks(folder: Path, tree: dict[str, Any]) -> None:
    path = folder / "masks/train/train00.png"
    mask = Image.open(path)
    mask.putpalette([value for n in range(256) for value in (n, 255 - n, 7)])
    mask.save(path)


def unknown_ids(folder: Path, tree: dict[str, Any]) -> None:
    def change(mask: np.ndarray) -> np.ndarray:
        mask[-3:] = 9
        return mask

    change_mask(folder, change)


def sixteen_bit_ids(folder: Path, tree: dict[str, Any]) -> None:
    """Ids times 257, as a program writes them that takes them for brightness."""
    change_masks(folder, lambda mask: mask.astype(np.uint16) * 257)


def colours_for_ids(folder: Path, tree: dict[str, Any]) -> None:
    palette = np.zeros((256, 3), np.uint8)
    palette[1], palette[2], palette[255] = (128, 0, 0), (0, 128, 0), (255, 255, 255)
    change_masks(folder, lambda mask: palette[mask])


def palette_colours(folder: Path, tree: dict[str, Any]) -> None:
    """The VOC colours of the classes, in every other mask."""
    palette = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    for path in sorted((folder / "masks").rglob("*0.png")):
        mask = np.array(Image.open(path))
        Image.fromarray(palette[np.where(mask == 255, 0, mask)]).save(path)


def grey_colours(folder: Path, tree: dict[str, Any]) -> None:
    """Ids written three times."""
    change_masks(folder, lambda mask: np.stack([mask] * 3, -1))


def three_greys(folder: Path, tree: dict[str, Any]) -> None:
    """Ids spread over all shades, to be seen by eye."""
    greys = np.array([0, 128, 255], np.uint8)
    change_masks(folder, lambda mask: greys[np.where(mask == 255, 0, mask)])


def unknown_colours(folder: Path, tree: dict[str, Any]) -> None:
    colours_for_ids(folder, tree)
    for section in ("train_loader", "val_loader"):
        set_args(tree, section, palette=[[0, 0, 0], [128, 0, 0], [0, 128, 0]])


def blended_mask(folder: Path, tree: dict[str, Any]) -> None:
    """A mask scaled with interpolation."""
    path = folder / "masks/train/train00.png"
    mask = Image.open(path).point(lambda value: value * 100)
    mask.resize((12, 10)).resize(SIZE, Image.Resampling.BICUBIC).save(path)


def binary_mask(folder: Path, tree: dict[str, Any]) -> None:
    change_masks(folder, lambda mask: np.where(mask == 1, np.uint8(255), np.uint8(0)))
    for section in ("train_loader", "val_loader"):
        set_args(tree, section, classes=["ground", "object"])


def all_ignored(folder: Path, tree: dict[str, Any]) -> None:
    change_mask(folder, lambda mask: np.full_like(mask, 255))


def class_without_pixels(folder: Path, tree: dict[str, Any]) -> None:
    for section in ("train_loader", "val_loader"):
        set_args(tree, section, classes=[*CLASSES, "tree"])


def class_missing_in_val(folder: Path, tree: dict[str, Any]) -> None:
    for path in (folder / "masks/val").iterdir():
        Image.open(path).point(lambda value: min(value, 1)).save(path)


def rare_class(folder: Path, tree: dict[str, Any]) -> None:
    class_without_pixels(folder, tree)

    def change(mask: np.ndarray) -> np.ndarray:
        mask[20, 20] = 3
        return mask

    change_mask(folder, change)
    shutil.copy(folder / "masks/train/train00.png", folder / "masks/val/val00.png")


def duplicate_colours(folder: Path, tree: dict[str, Any]) -> None:
    for section in ("train_loader", "val_loader"):
        set_args(tree, section, palette=[[1, 2, 3], [9, 9, 9], [1, 2, 3]])


def leak(folder: Path, tree: dict[str, Any]) -> None:
    """The same pixels in another file: compressed anew."""
    image = Image.open(folder / "images/train/train03.png")
    image.save(folder / "images/val/val01.png", compress_level=1)


def duplicates(folder: Path, tree: dict[str, Any]) -> None:
    image = Image.open(folder / "images/train/train03.png")
    image.save(folder / "images/train/train05.png", compress_level=1)


def small_pictures(folder: Path, tree: dict[str, Any]) -> None:
    set_args(tree, crop_size=64)


def large_pictures(folder: Path, tree: dict[str, Any]) -> None:
    set_args(tree, crop_size=8)


def mixed_sizes(folder: Path, tree: dict[str, Any]) -> None:
    set_args(tree, augment=None, crop_size=None, flip=None)
    change_image(folder, lambda image: image.crop((0, 0, 40, 40)))
    change_mask(folder, lambda mask: mask[:40, :40])


def scaled_sizes(folder: Path, tree: dict[str, Any]) -> None:
    """Images of one size that scaling makes different."""
    set_args(tree, crop_size=None, base_size=48)


def constant_band(folder: Path, tree: dict[str, Any]) -> None:
    for path in (folder / "images").rglob("*.png"):
        pixels = np.array(Image.open(path))
        pixels[..., 2] = 7
        Image.fromarray(pixels).save(path)


def mean_std(folder: Path, tree: dict[str, Any]) -> None:
    for section in ("train_loader", "val_loader"):
        set_args(tree, section, mean=[0.1] * 3)


def splits_differ(folder: Path, tree: dict[str, Any]) -> None:
    set_args(tree, "val_loader", classes=[CLASSES[0], *reversed(CLASSES[1:])])


def batch_size(folder: Path, tree: dict[str, Any]) -> None:
    set_args(tree, batch_size=11)


def num_workers(folder: Path, tree: dict[str, Any]) -> None:
    set_args(tree, num_workers=4)


def loss(folder: Path, tree: dict[str, Any]) -> None:
    tree["optimizer"] = {"type": "SGD", "args": {"lr": 1e30}}


def step(folder: Path, tree: dict[str, Any]) -> None:
    tree["loss"] = {"type": "CrossEntropyLoss2d", "args": {"class_weights": [1.0, 1.0]}}


# What makes the finding -> its kind, where the two differ.
OTHER_KINDS = {sixteen_bit_ids: "unknown-ids", scaled_sizes: "mixed-sizes"}
MAKERS = (
    missing_partner, extra_partner, unreadable, jpeg_end, empty_file, jpeg_mask, size_mismatch,
    exif_orientation, mixed_pictures, mixed_masks, unknown_ids, sixteen_bit_ids, colours_for_ids,
    unknown_colours, blended_mask, binary_mask, all_ignored, class_without_pixels,
    class_missing_in_val, rare_class, duplicate_colours, leak, duplicates, small_pictures,
    large_pictures, mixed_sizes, scaled_sizes, constant_band, mean_std, splits_differ,
    batch_size, num_workers, step,
)  # fmt: skip
NEED_STEP = (step, loss)


def kind_of(maker: Callable[..., None]) -> str:
    """The kind of the finding that it makes."""
    return OTHER_KINDS.get(maker, maker.__name__.replace("_", "-"))
