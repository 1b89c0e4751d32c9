"""Boundary loss: probability costs by its distance from where it belongs."""

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from utils.distributed.collectives import batch_sum
from utils.losses.base import ClassWeights, SegmentationLoss, safe_ratio


class BoundaryLoss(SegmentationLoss):
    """The distance of a class's probability from the class's boundary, mean over pixels, classes.

    L = mean_k mean_i p_ik phi_ik, with p the softmax and phi the distance of pixel i from the
    boundary of class k as a fraction of the image's diagonal, negative inside the class. It is
    negative where most of the probability is in its place.

    It says little while a network still guesses: add it to a loss over regions, with a small
    weight: `"loss": [{"type": "CE_DiceLoss"}, {"type": "BoundaryLoss", "weight": 0.1}]`.

    The boundary lies half-way between pixels of the class and of other classes. Ignored pixels are
    neither, so a class does not end where they begin: distances reach across them. The mean for a
    class is over the images in which it has a boundary; a class that fills an image, or is not
    in it, takes no part there. Distances are computed on the CPU, one transform for each class in
    an image (some milliseconds for 512x512 pixels).

    Paper: Boundary loss for highly unbalanced segmentation, https://arxiv.org/abs/1812.07032.
    Differs from the paper: any number of classes; distances are fractions of the diagonal, so that
    images of any size compare; the boundary lies between pixels, not on those inside; the weight
    of the sum stays as the config has it, where the paper lets it rise with the epochs.

    Example:
        >>> loss = BoundaryLoss()
        >>> labels = torch.tensor([[[0, 0, 1, 1]]])
        >>> right = torch.tensor([[[[99.0, 99.0, 0.0, 0.0]], [[0.0, 0.0, 99.0, 99.0]]]])
        >>> round(loss(right, labels).item(), 4)  # -(1.5 + 0.5) / 4 / 17 ** 0.5
        -0.1213

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`.
        include_background: Whether class 0 has a term. With two classes that changes nothing but a
            constant and, with weights, the factor.
    """

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        include_background: bool = True,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.include_background = include_background

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        totals = logits[:0].sum((0, 2, 3))  # zeros, in the graph even without an image
        counts = torch.zeros_like(totals)
        pairs = zip(labels.cpu().numpy(), valid.cpu().numpy(), strict=True)
        for probabilities, (label, counted) in zip(logits.softmax(1), pairs, strict=True):
            found, distances = signed_distances(label, counted)
            classes = torch.from_numpy(found).to(logits.device)
            costs = probabilities[classes] * torch.from_numpy(distances).to(logits)
            totals = totals.index_add(0, classes, costs.sum((1, 2)))
            pixels = costs.new_full(classes.shape, counted.sum())
            counts = counts.index_add(0, classes, pixels)
        totals, counts = batch_sum(torch.stack([totals, counts]))
        taking_part = counts > 0
        taking_part[0] &= self.include_background
        return self.class_mean(safe_ratio(totals, counts), taking_part)


def signed_distances(label: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each pixel is from the boundary of each class of an image.

    Args:
        label: (H, W) integers.
        valid: (H, W) bool, the valid pixels.

    Returns:
        The classes that have a boundary, (N,) int64; and distances (N, H, W) float32 as fractions
        of the diagonal, negative inside, 0 where ignored.
    """
    classes = np.unique(label[valid])
    if len(classes) < 2:
        return np.zeros(0, np.int64), np.zeros((0, *label.shape), np.float32)
    inside = (label == classes[:, None, None]) & valid
    outer = np.stack([_distances(mask) for mask in inside])
    # From inside a class, another one is as far as the nearest but one: the nearest is itself.
    inner = np.partition(outer, 1, axis=0)[1]
    signed = np.where(inside, 0.5 - inner, outer - 0.5) * valid
    return classes, signed / np.float32(math.hypot(*label.shape))


def _distances(mask: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance to the nearest pixel of a mask, float32."""
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
