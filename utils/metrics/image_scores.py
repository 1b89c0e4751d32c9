"""Counts of each image by itself, and its own mean IoU."""

import numpy as np
from torch import Tensor


def class_counts(confusion: Tensor | np.ndarray) -> np.ndarray:
    """Return what the metrics of each class need of a confusion matrix, in less memory.

    Args:
        confusion: (..., K, K) integers: rows are labels, columns predictions.

    Returns:
        (..., 3, K) int64: true positives, false positives, false negatives.
    """
    matrix = confusion.cpu().numpy() if isinstance(confusion, Tensor) else np.asarray(confusion)
    true_positives = np.diagonal(matrix, axis1=-2, axis2=-1)
    counts = [true_positives, matrix.sum(-2) - true_positives, matrix.sum(-1) - true_positives]
    return np.stack(counts, axis=-2).astype(np.int64)


def class_ious(counts: np.ndarray) -> np.ndarray:
    """Return the IoU of each class: t / (t + false positives + false negatives).

    Args:
        counts: (..., 3, K), see `class_counts()`.

    Returns:
        (..., K) float64; NaN where a class occurs in neither label nor prediction.
    """
    return ratio(counts[..., 0, :], counts.sum(-2))


def image_mean_ious(counts: np.ndarray) -> np.ndarray:
    """Return the mean IoU of each image, over the classes that occur in its label or prediction.

    Their mean over the images is mIoU^I of Wang et al. 2023, https://arxiv.org/abs/2310.19252.

    Differs from the paper: a class that is predicted in an image but not labelled there counts
    with an IoU of 0, as it does in the dataset's mean IoU; the paper's mean is over the labelled
    classes alone. Of two classes the authors' code scores the second only; here both count.

    Example:
        >>> counts = class_counts(np.array([[[3, 1], [0, 0]], [[0, 0], [0, 0]]]))
        >>> image_mean_ious(counts)
        array([0.375,   nan])

    Args:
        counts: (N, 3, K) int64, one `class_counts()` an image.

    Returns:
        (N,) float64; NaN for an image without a labelled pixel.
    """
    return nan_mean(class_ious(counts))


def mean_image_iou(counts: np.ndarray) -> float:
    """Return `Mean_Image_IoU`, the mean of `image_mean_ious()` over the images that have one."""
    return float(nan_mean(image_mean_ious(counts)))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return `part / whole` in float64, NaN where `whole` is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole != 0)


def nan_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of what is not NaN; NaN where nothing is."""
    found = ~np.isnan(values)
    return ratio(np.where(found, values, 0).sum(-1), found.sum(-1))
