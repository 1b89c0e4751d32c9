"""Masks with holes and several parts, and products made of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from prediction.products.rows import ImageFacts, Rows
from utils.drawing.palette import voc_palette
from utils.files.geo_file import GeoReference

CLASSES = ("background", "road", "tree", "car")


@dataclasses.dataclass(frozen=True)
class Settings:
    overwrite: bool = False
    min_area: float = 0.0
    simplify: float = 0.0
    max_regions: int | None = None


def random_ids(
    seed: int, height: int, width: int, *, num_classes: int = 4, blur: float = 1.0
) -> Any:
    """Blobs of classes within each other; without blur, noise."""
    rng = np.random.default_rng(seed)
    scores = rng.random((num_classes, height, width), np.float32)
    if blur:
        scores = np.stack([cv2.GaussianBlur(score, (0, 0), blur) for score in scores])
    return scores.argmax(0).astype(np.uint8)


def facts_of(
    ids: np.ndarray,
    folder: Path,
    *,
    name: str = "some/im.png",
    classes: Sequence[str] = CLASSES,
    ignore_index: int | None = None,
    geo: GeoReference | None = None,
) -> ImageFacts:
    height, width = ids.shape
    palette = tuple(voc_palette(len(classes)))
    return ImageFacts(folder / "images" / name, Path(name), height, width, tuple(classes), palette,
                      ignore_index, geo)  # fmt: skip


def in_rows(
    ids: np.ndarray, step: int, *, confidence: np.ndarray | None = None, image: Any = None
) -> Iterator[Rows]:
    for top in range(0, len(ids), step):
        some = slice(top, top + step)
        yield Rows(
            top, ids[some], None if confidence is None else confidence[some],
            image=None if image is None else image[some],
        )  # fmt: skip


def feed(product: Any, ids: np.ndarray, step: int = 7, **fields: Any) -> None:
    for rows in in_rows(ids, step, **fields):
        product.write(rows)
    product.finish()


def real_masks() -> list[np.ndarray]:
    """A few labels of car parts and streets, at their own size."""
    root = os.environ.get("SEGMENTATION_DATA")
    if not root:
        pytest.skip("SEGMENTATION_DATA is not set")
    paths = [*sorted(Path(root, "carparts/valid/annotation").iterdir())[:3],
             *sorted(Path(root, "camvid/valannot").iterdir())[:2]]  # fmt: skip
    return [np.array(Image.open(path)) for path in paths]
