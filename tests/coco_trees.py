"""Small trees in the layouts of COCO's derivatives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from tests.dataset_trees import image, save

# Id and name of COCO's categories behind the classes 1..20 of VOC, written down from COCO's list.
VOC_CATEGORIES = {
    5: "airplane", 2: "bicycle", 16: "bird", 9: "boat", 44: "bottle", 6: "bus", 3: "car",
    17: "cat", 62: "chair", 21: "cow", 67: "dining table", 18: "dog", 19: "horse",
    4: "motorcycle", 1: "person", 64: "potted plant", 20: "sheep", 63: "couch", 7: "train",
    72: "tv",
}  # fmt: skip
OTHER_CATEGORIES = {8: "truck", 15: "bench"}


def save_mat(path: Path, **arrays: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, arrays)


def label_names(count: int) -> np.ndarray:
    """The list of names that COCO-Stuff 10k has in each file."""
    return np.array([f"name {i}" for i in range(count)], dtype=object)[:, None]


def box(x: float, y: float, width: float, height: float) -> list[list[float]]:
    """A rectangle as a polygon."""
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def annotation(picture: int, category: int, segmentation: Any, crowd: int = 0) -> dict[str, Any]:
    return {
        "image_id": picture,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": crowd,
        "area": 1.0,  # of the polygon, not of its pixels: not to be relied on
        "bbox": [0, 0, 1, 1],
    }


def save_instances(
    root: Path,
    annotations: list[dict[str, Any]],
    *,
    pictures: int = 2,
    size: tuple[int, int] = (40, 60),
    split: str = "val2017",
    categories: dict[int, str] | None = None,
) -> Path:
    """The file of annotations, with images named after their ids; returns its path."""
    images = []
    for i in range(1, pictures + 1):
        name = f"{i:012d}.jpg"
        images.append({"id": i, "file_name": name, "height": size[0], "width": size[1]})
        save(root / "images" / split / name, image(i, size))
    names = VOC_CATEGORIES | OTHER_CATEGORIES if categories is None else categories
    tree = {
        "info": {"year": 2017},
        "images": images,
        "annotations": [{"id": 100 + i, **item} for i, item in enumerate(annotations)],
        "categories": [{"id": key, "name": name} for key, name in names.items()],
    }
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree))
    return path
