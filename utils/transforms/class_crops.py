"""Crops that look at the label: rare classes in, monotony out.

Candidates are judged on the label alone, so the image is still warped once.
"""

from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np

from utils.config.errors import suggest
from utils.config.types import Fraction
from utils.transforms.base import GeometryOperation, Probability, TrainingSample
from utils.transforms.geometry import Geometry, source_to_canvas
from utils.transforms.warp import thin_label

# As in MMSegmentation's RandomCrop.
DRAWS = 10

# A crop is judged by about this many points a side: 64 * 64 points of a class that covers half of
# the crop give its ratio to within one percent.
POINTS = 64


class ClassCrop(GeometryOperation):
    """Move the crop to where it shows more of what matters.

    With probability `rare_share`, and where the image has one of `rare_classes`, the crop lies
    around a random pixel of one of them. Then up to ten crops are drawn until no class has more
    than `max_class_ratio` of the labelled pixels, as in MMSegmentation's `RandomCrop`; if all ten
    fail, the most balanced one is taken.

    Args:
        max_class_ratio: Greatest fraction of the labelled pixels that one class may have, in
            (0, 1); none allows any.
        rare_classes: Names or numbers of classes to place the crop on.
        rare_share: Probability of doing so, where the image has one of them.
        class_names: Names of the classes.

    Raises:
        ValueError: If a rare class is not among the classes.
    """

    stream = 1
    requires: ClassVar[dict[str, str]] = {
        "rare_classes": "crop_size",
        "max_class_ratio": "crop_size",
    }
    refines: ClassVar[dict[str, str]] = {"rare_share": "rare_classes"}
    follows_label = True

    def __init__(
        self,
        *,
        max_class_ratio: Fraction | None = None,
        rare_classes: list[str | int] | None = None,
        rare_share: Probability = 0.5,
        class_names: Sequence[str] = (),
    ) -> None:
        self.max_ratio = 1.0 if max_class_ratio is None else max_class_ratio
        self.classes = class_numbers(rare_classes, class_names, "rare_classes")
        self.rare_share = rare_share

    @property
    def active(self) -> bool:
        """Return whether there is something to look for in the label."""
        return bool(self.classes) or self.max_ratio < 1

    def geometry(
        self, geometry: Geometry, rng: np.random.Generator, sample: TrainingSample
    ) -> Geometry:
        """Move the corner of the crop."""
        return self.choose(geometry, rng, sample.label, sample.ignore_index)

    def choose(
        self, geometry: Geometry, rng: np.random.Generator, label: np.ndarray, ignore_index: int
    ) -> Geometry:
        """Return the geometry with another `top` and `left`."""
        free = (
            max(geometry.scaled_height - geometry.height, 0),
            max(geometry.scaled_width - geometry.width, 0),
        )
        points = pixels_of(label, self.classes, rng) if rng.random() < self.rare_share else None
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
            if self.max_ratio >= 1:
                return candidate
            ratio = greatest_ratio(label, candidate, ignore_index)
            if ratio < best_ratio:
                best, best_ratio = candidate, ratio
            if ratio <= self.max_ratio:
                break
        return best


def class_numbers(
    classes: Sequence[str | int] | None, class_names: Sequence[str], argument: str
) -> tuple[int, ...]:
    """Return the numbers of classes given by name or number.

    Raises:
        ValueError: If there is no such class.
    """
    names, numbers = list(class_names), []
    for c in classes or ():
        if isinstance(c, str) and c not in names:
            hint = suggest(c, names, listing=True) or "; give its number"
            raise ValueError(f"{argument}: there is no class named {c!r}{hint}")
        if isinstance(c, int) and not 0 <= c < (len(names) or c + 1):
            last = f"0..{len(names) - 1}" if names else "0 and above"
            raise ValueError(f"{argument}: {c} is no class ({last})")
        numbers.append(names.index(c) if isinstance(c, str) else c)
    return tuple(dict.fromkeys(numbers))


def pixels_of(
    label: np.ndarray, classes: Sequence[int], rng: np.random.Generator
) -> np.ndarray | None:
    """Return all pixels of one class, drawn from those of `classes` that the image has.

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
    """Return the greatest fraction of a crop's labelled pixels that one class has.

    It is measured on the points of a grid of about 64 a side.

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
    """Return a crop with one of the pixels in its middle half, as far as the edges allow."""
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
    """Return the crop at a corner (y, x), or as near to it as it stays in the image."""
    top, left = np.clip(np.floor(corner), 0, free).astype(int).tolist()
    return geometry._replace(top=top, left=left)
