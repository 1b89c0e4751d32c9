"""Write a `Folder` section from the arguments of an unknown data loader."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.config.keys import LOADERS, normalised, our_name
from utils.config.text_values import value_of

MAX_TEXT = 300  # characters of a path
MAX_CLASSES = 64  # classes that a message shows
IMAGES = ("images", "image", "imgs", "img", "JPEGImages", "leftImg8bit", "rgb", "img_dir",
          "imagesTr", "input", "inputs", "photos", "pictures", "sat")  # fmt: skip
MASKS = ("masks", "mask", "labels", "label", "lbl", "annotations", "annotation",
         "SegmentationClass", "SegmentationClassAug", "gtFine", "gt", "GT_color", "ann_dir",
         "labelsTr", "target", "targets")  # fmt: skip
IMAGE_KEYS = ("images", "image_dir", "images_dir", "img_dir", "image_path", "img_path",
              "image_root", "images_path", "train_images_dir", "val_images_dir")  # fmt: skip
MASK_KEYS = ("masks", "mask_dir", "masks_dir", "label_dir", "labels_dir", "mask_path", "gt_dir",
             "ann_dir", "label_path", "mask_root", "train_masks_dir", "val_masks_dir")  # fmt: skip
CLASS_KEYS = ("classes", "class_names", "labels", "num_classes", "n_classes", "nclass", "n_class",
              "num_class", "nclasses")  # fmt: skip
PLACES = ("data_dir", "split", "images", "masks", "classes")
CLASSES = ["background", "object"]  # where none are named


def folder_args(args: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of another loader as those of `Folder`.

    On the disk, only the names in this file are looked for, and only in the folder `data_dir`.

    Args:
        args: The arguments in a section whose class is unknown.
        known: The arguments that `Folder` takes; the caller checks their values.
    """
    given = {normalised(key): value_of(value) for key, value in args.items()}
    found = _places(given)
    classes = next((given[key] for key in CLASS_KEYS if _is_classes(given.get(key))), CLASSES)
    found["classes"] = classes
    for key, value in given.items():
        name = key if key in known else our_name(key)
        if name in known and name not in PLACES and _is_small(value):
            found.setdefault(name, value)
    return found


def classes_in(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the argument that says the classes, of a loader, the model or the top of a config."""
    sections = [tree.get(key) for key in (*LOADERS, "arch")]
    places = [section.get("args") for section in sections if isinstance(section, dict)]
    for args in (*places, tree):
        given = {normalised(k): v for k, v in args.items()} if isinstance(args, dict) else {}
        for key in CLASS_KEYS:
            if _is_classes(value_of(given.get(key))):
                return {key: given[key]}
    return {}


def _places(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return where images and masks are, as far as the arguments and the disk say it."""
    images = next((given[key] for key in IMAGE_KEYS if _is_path(given.get(key))), None)
    masks = next((given[key] for key in MASK_KEYS if _is_path(given.get(key))), None)
    keys = ("data_dir", "root", "data", *(key for key in given if our_name(key) == "data_dir"))
    root = next((given[key] for key in keys if _is_path(given.get(key))), None)
    split = given.get("split")
    split = split if isinstance(split, str) and _is_path(split) and _stays_below(split) else None
    if images is not None and masks is not None:
        below = root is not None and os.path.isdir(os.path.join(root, images))
        below = below and _stays_below(images) and _stays_below(masks)
        return {**({"data_dir": root} if below else {}), "images": images, "masks": masks}
    if root is None:
        return {"images": "my_data/images", "masks": "my_data/masks"}
    pair = _look(Path(root), split)
    if pair is not None:
        return {"data_dir": root, "images": pair[0], "masks": pair[1]}
    return {"data_dir": root, **({} if split is None else {"split": split})}


def _look(root: Path, split: str | None) -> tuple[str, str] | None:
    """Return the folders of images and masks below a folder, those of the split first."""
    layouts = ["{}"] if split is None else ["{}/" + split, split + "/{}", "{}"]
    for layout in layouts:
        pair = [next((n for n in map(layout.format, names) if (root / n).is_dir()), None)
                for names in (IMAGES, MASKS)]  # fmt: skip
        if pair[0] is not None and pair[1] is not None:
            return pair[0], pair[1]
    return None


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and "\0" not in value


def _stays_below(name: str) -> bool:
    path = os.path.normpath(name)
    return not os.path.isabs(path) and path.split(os.sep)[0] != os.pardir and "{" not in name


def _is_classes(value: Any) -> bool:
    if isinstance(value, list):
        names = all(isinstance(name, str) and 0 < len(name) <= MAX_TEXT for name in value)
        return 0 < len(value) <= MAX_CLASSES and names and len(set(value)) == len(value)
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_small(value: Any) -> bool:
    """Return whether a value is small enough for a message."""
    if isinstance(value, (list, dict)):
        return len(repr(value)) <= MAX_TEXT
    return not isinstance(value, str) or len(value) <= MAX_TEXT
