"""Crops that look at the label: rare classes in, monotony out.

Candidates are judged on the label alone, so the picture is still warped once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from utils.transforms.geometry import Geometry, source_to_canvas, thin_label

# As in MMSegmentation's RandomCrop.
DRAWS = 10

# A crop is judged by about this many points a side: 64 * 64 points of a class that covers half of
# the crop give its share to within one percent.
POINTS = 64


@dataclass(frozen=True)
class CropRule:
    """What a crop should show.

    Args:
        classes: Classes to look for.
        share: Probability of looking for them.
        max_ratio: Greatest share that one class may have of the labelled pixels; 1 allows all.
    """

    classes: Sequence[int] = ()
    share: float = 1.0
    max_ratio: float = 1.0


def choose_crop(
    label: np.ndarray,
    geometry: Geometry,
    rng: np.random.Generator,
    rule: CropRule,
    *,
    ignore_index: int,
) -> Geometry:
    """Move the crop of a geometry to where it shows more of what matters.

    With probability `rule.share`, and where the picture has one of `rule.classes`, the crop lies
    around a random pixel of one of them. Then up to ten crops are drawn until no class has more
    than `rule.max_ratio` of the labelled pixels; if all ten fail, the most balanced one is taken.

    Args:
        label: (H, W), uint8 or int16.
        geometry: Its crop is the first candidate where no pixel of a class is looked for.
        rng: Source of chance.
        rule: What the crop should show.
        ignore_index: The label of pixels that do not count.

    Returns:
        The geometry with another `top` and `left`.
    """
    free = (
        max(geometry.scaled_height - geometry.height, 0),
        max(geometry.scaled_width - geometry.width, 0),
    )
    points = pixels_of(label, rule.classes, rng) if rng.random() < rule.share else None
    if free == (0, 0):
        return geometry

    best, best_ratio = geometry, 2.0
    for draw in range(DRAWS):
        if points is not None:
            candidate = _around(points, label.shape, geometry, free, rng)
        elif draw == 0:
            candidate = geometry
        else:
            candidate = _moved(geometry, rng.random(2) * (np.array(free) + 1), free)
        if rule.max_ratio >= 1:
            return candidate
        ratio = greatest_ratio(label, candidate, ignore_index)
        if ratio < best_ratio:
            best, best_ratio = candidate, ratio
        if ratio <= rule.max_ratio:
            break
    return best


def pixels_of(
    label: np.ndarray, classes: Sequence[int], rng: np.random.Generator
) -> np.ndarray | None:
    """All pixels of one class, drawn from those of `classes` that the picture has.

    Each class is as likely as the others, whatever its area.

    Returns:
        (N, 2) x and y, or None where there are none.
    """
    present = [c for c in classes if cv2.hasNonZero(cv2.inRange(label, c, c))]
    if not present:
        return None
    chosen = int(rng.choice(present))
    return cv2.findNonZero(cv2.inRange(label, chosen, chosen)).reshape(-1, 2)


def greatest_ratio(label: np.ndarray, geometry: Geometry, ignore_index: int) -> float:
    """The greatest share that one class has of the labelled pixels of a crop.

    Taken from points of a grid of about 64 a side.

    Returns:
        In (0, 1]; 1 also where nothing is labelled, as there is nothing to learn from either.
    """
    step = max(min(geometry.height, geometry.width) // POINTS, 1)
    points = thin_label(label, geometry, step, ignore_index=ignore_index)
    points = points[points != ignore_index]
    return float(np.bincount(points).max() / points.size) if points.size else 1.0


def _around(
    points: np.ndarray,
    source_size: tuple[int, ...],
    geometry: Geometry,
    free: tuple[int, int],
    rng: np.random.Generator,
) -> Geometry:
    """A crop with one of the pixels in its middle half, as far as the picture's edges allow."""
    # Several, as a rotation moves some pixels out of the canvas.
    drawn = points[rng.integers(len(points), size=DRAWS)] + 0.5
    drawn = source_to_canvas(drawn, geometry, source_size)
    inside = (drawn >= 0) & (drawn < (geometry.scaled_width, geometry.scaled_height))
    x, y = drawn[int(inside.all(axis=1).argmax())]
    down, right = rng.uniform(0.25, 0.75, size=2)
    return _moved(
        geometry, np.array([y - down * geometry.height, x - right * geometry.width]), free
    )


def _moved(geometry: Geometry, corner: np.ndarray, free: tuple[int, int]) -> Geometry:
    """The crop at a corner (y, x), or as near to it as it stays in the picture."""
    top, left = np.clip(np.floor(corner), 0, free).astype(int).tolist()
    return replace(geometry, top=top, left=left)
