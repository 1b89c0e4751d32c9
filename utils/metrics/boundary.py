"""Boundary IoU and boundary F-score."""

import math
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from utils.config.types import Fraction
from utils.metrics.confusion import ExactCounts, optional_floats

# The F-score of a class in an image is kept in steps of 2^-40, as an integer, so that sums over
# images and processes do not depend on their order; 2^23 images fit.
_F_ONE = 2**40


class BoundaryMetrics(ExactCounts):
    """Boundary IoU and boundary F-score of each class.

    Boundary IoU (Cheng et al. 2021, https://arxiv.org/abs/2103.16562): with G_d and P_d the pixels
    of a class in label and prediction that are within d pixels of its boundary,
    |G_d and P_d| / |G_d or P_d|, intersections and unions summed over all images; the metric is
    the mean over the classes that occur. Distances are those of a square (chessboard), and the
    image's border is a boundary, as in the authors' code.

    Boundary F (Csurka et al. 2013, https://doi.org/10.5244/C.27.32; Perazzi et al. 2016,
    https://doi.org/10.1109/CVPR.2016.85): with P the fraction of a class's predicted contour pixels
    that lie within r pixels of its labelled contour, and R the fraction of labelled ones within r
    pixels of the predicted contour, F = 2 P R / (P + R). A class's score is the mean of F over
    the images where label or prediction has a contour of it; the metric is the mean over the
    classes that have a score. Distances are Euclidean, a contour pixel is one of the class that
    has one of its four neighbours outside of it, and the image's border is no contour.

    Differs from the papers: ignored pixels belong to no class in labels and predictions alike, so
    a region ends where they begin, and this end is a boundary of both. What is predicted under
    them has no effect. Boundary IoU is of classes, not of objects. F is averaged first over
    images, then over classes.

    Example:
        >>> labels = np.zeros((1, 40, 40), np.uint8)
        >>> labels[:, 10:30, 10:30] = 1
        >>> metrics = BoundaryMetrics(num_classes=2, ignore_index=255)
        >>> metrics.update(labels, labels)
        >>> metrics.compute()["Boundary_IoU"], metrics.compute()["Boundary_F"]
        (1.0, 1.0)

    Args:
        num_classes: K, without the ignored label.
        ignore_index: The label of ignored pixels.
        width: d as a fraction of the image's diagonal; rounded, at least 1 pixel.
        tolerance: r as a fraction of the image's diagonal; rounded up.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int,
        *,
        width: Fraction = 0.02,
        tolerance: Fraction = 0.0075,
    ) -> None:
        # Of each class: intersection and union in pixels, sum of F in steps, images with an F.
        super().__init__((num_classes, 4))
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.width = width
        self.tolerance = tolerance

    def update(self, ids: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> None:
        """Count one image or a batch.

        Args:
            ids: Predicted classes (H, W) or (B, H, W), integers in 0..K-1.
            labels: The labels, of the same shape: integers in 0..K-1 or `ignore_index`.

        Raises:
            ValueError: If the shapes differ, or a value is no class.
        """
        ids, labels = _array(ids), _array(labels)
        if ids.shape != labels.shape or ids.ndim not in (2, 3):
            raise ValueError(
                f"predictions {ids.shape} and labels {labels.shape} must have one shape, (H, W) or "
                "(B, H, W)"
            )
        height, width = ids.shape[-2:]
        for one, other in zip(
            ids.reshape(-1, height, width), labels.reshape(-1, height, width), strict=True
        ):
            ignored = other == self.ignore_index
            prediction = self._cut(one, ignored, "predictions")
            label = self._cut(other, ignored, "labels")
            counts = [*self._overlaps(prediction, label), *self._scores(prediction, label)]
            self.counts += torch.from_numpy(np.stack(counts, 1))

    def compute(self) -> dict[str, Any]:
        """Return every metric as Python numbers.

        Returns:
            `Boundary_IoU` and `Boundary_F`, NaN where no class has one; `Class_Boundary_IoU` and
            `Class_Boundary_F`, lists of length K with None for a class without.
        """
        intersections, unions, scores, images = self.counts.double().unbind(1)
        ious = intersections / unions
        fs = scores / _F_ONE / images
        return {
            "Boundary_IoU": ious.nanmean().item(),
            "Boundary_F": fs.nanmean().item(),
            "Class_Boundary_IoU": optional_floats(ious),
            "Class_Boundary_F": optional_floats(fs),
        }

    def _cut(self, ids: np.ndarray, ignored: np.ndarray, what: str) -> np.ndarray:
        """Return ids (H, W) with K where they are ignored, in the smallest type for OpenCV."""
        k = self.num_classes
        counted = ids[~ignored]
        wrong = counted[(counted < 0) | (counted >= k)]
        if wrong.size:
            raise ValueError(f"{what} are integers in 0..{k - 1}, got {wrong[0]}")
        cut = np.where(ignored, np.int64(k), ids)
        return cut.astype(np.uint8 if k <= 255 else np.uint16)

    def _overlaps(self, prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Return intersection and union of the boundary regions of each class, (2, K) int64."""
        k = self.num_classes
        distance = max(1, round(self.width * math.hypot(*label.shape)))
        predicted = _near_boundary(prediction, distance, k)
        labelled = _near_boundary(label, distance, k)
        both = predicted & labelled & (prediction == label)

        def sizes(ids: np.ndarray) -> np.ndarray:
            return np.bincount(ids, minlength=k + 1)[:k]

        intersections = sizes(label[both])
        unions = sizes(label[labelled]) + sizes(prediction[predicted]) - intersections
        return np.stack([intersections, unions])

    def _scores(self, prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Return F of each class in steps, and whether it has one, (2, K) int64."""
        radius = math.ceil(self.tolerance * math.hypot(*label.shape))
        predicted, labelled = _contours(prediction), _contours(label)
        result = np.zeros((2, self.num_classes), np.int64)
        for c in (predicted.keys() | labelled.keys()) - {self.num_classes}:
            result[1, c] = 1
            if c in predicted and c in labelled:
                score = _f_score(predicted[c], labelled[c], radius)
                result[0, c] = round(score * _F_ONE)
        return result


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, Tensor) else values


def _near_boundary(ids: np.ndarray, distance: int, outside: int) -> np.ndarray:
    """Return where another id, or the outside of the image, is within a distance: (H, W) bool."""
    padded = cv2.copyMakeBorder(ids, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=outside)
    square = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    # One pass for all classes: a square that holds one id only has equal extremes.
    return (cv2.erode(padded, square) != cv2.dilate(padded, square))[1:-1, 1:-1]


def _contours(ids: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return rows and columns of the contour pixels of each id that has any."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    rows, columns = np.nonzero(cv2.erode(ids, cross) != cv2.dilate(ids, cross))
    classes = ids[rows, columns]
    return {
        int(c): (rows[classes == c], columns[classes == c])
        for c in np.flatnonzero(np.bincount(classes))
    }


def _f_score(
    predicted: tuple[np.ndarray, np.ndarray], labelled: tuple[np.ndarray, np.ndarray], radius: int
) -> float:
    """Return F of two contours, each given as rows and columns of its pixels."""
    both = [np.concatenate(axis) for axis in zip(predicted, labelled, strict=True)]
    corner = [axis.min() for axis in both]
    size = [axis.max() - start + 1 for axis, start in zip(both, corner, strict=True)]

    def fraction_near(
        points: tuple[np.ndarray, np.ndarray], others: tuple[np.ndarray, np.ndarray]
    ) -> float:
        drawn = np.ones(size, np.uint8)
        drawn[others[0] - corner[0], others[1] - corner[1]] = 0
        distance = cv2.distanceTransform(drawn, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return float((distance[points[0] - corner[0], points[1] - corner[1]] <= radius).mean())

    precision, recall = fraction_near(predicted, labelled), fraction_near(labelled, predicted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
