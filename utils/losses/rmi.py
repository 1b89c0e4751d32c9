"""Region mutual information: neighbourhoods of pixels instead of single ones."""

import math
from typing import Annotated

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.config.types import PositiveInt
from utils.losses.base import ClassWeights, SegmentationLoss

BceWeight = Annotated[float, msgspec.Meta(ge=0, le=1)]

RIDGE = 5e-4  # added to the diagonals of the covariances, as in the authors' code


class RMILoss(SegmentationLoss):
    """Binary cross-entropy of each class, and what its windows leave unknown of the label's.

    L = sum_k bce_weight * BCE_k + (1 - bce_weight) * RMI_k, with
    RMI_k = mean_b log det(I + S / e) / (2 d), S = YY - YP (PP + e I)^-1 PY, d = radius^2 and
    e = 5e-4. YY, YP and PP are the covariances (sums, not means) of the d-vectors that the label of
    class k (0 or 1) and its sigmoid form in all windows of radius x radius cells; a cell is the
    mean of downsampling x downsampling pixels.

    The means are over the valid pixels; a cell without one belongs to no window, and an image
    without a window takes no part in RMI_k. `class_weights` weigh the pixels of the BCE by their
    label, and the RMI_k, there scaled to a mean of 1. 0 with zero gradient where no pixel is valid.

    Paper: Region Mutual Information Loss for Semantic Segmentation,
    https://arxiv.org/abs/1910.12037.
    Differs from the paper: RMI_k is counted from its lower bound, log(e) / 2, which is a constant,
    so that it is never negative (a perfect prediction has log(2) / 2 at most, an absent class that
    nowhere is predicted 0); ignored pixels are left out instead of set to 0; the cells at the right
    and lower border average the pixels that they have. Two classes are one binary problem: the
    sigmoid is that of the difference of the logits, for both classes.

    RMI_k is computed in float64 whatever the logits are; its windows take about
    16 * radius^2 / downsampling^2 bytes of memory for each logit (9 by default).

    Example:
        >>> labels = torch.zeros(1, 16, 16, dtype=torch.long)
        >>> labels[:, 4:, 6:] = 1
        >>> logits = torch.stack([1 - labels, labels], 1) * 20.0
        >>> [round(RMILoss()(factor * logits, labels).item(), 2) for factor in (1, 0)]
        [0.12, 1.85]

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`.
        radius: The side of a window, in cells.
        downsampling: The side of a cell, in pixels.
        bce_weight: The weight of the binary cross-entropy in the sum.

    Raises:
        ValueError: If training images are too small for one window; in evaluation RMI_k is then
            left out.
    """

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        radius: PositiveInt = 3,
        downsampling: PositiveInt = 4,
        bce_weight: BceWeight = 0.5,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.radius = radius
        self.downsampling = downsampling
        self.bce_weight = bce_weight

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        side = min(labels.shape[1:])
        has_window = math.ceil(side / self.downsampling) >= self.radius
        if self.training and not has_window:
            raise ValueError(self._too_small(*labels.shape[1:]))
        classes = logits.shape[1]
        if classes == 2:
            logits = logits - logits.flip(1)
        mask = valid.unsqueeze(1).to(logits.dtype)
        truth = F.one_hot(labels, classes).movedim(-1, 1) * mask
        entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(1)
        bce = self.bce_weight * self.pixel_mean(entropy, labels, valid)
        if not has_window:  # one small validation image is no reason to end a run
            return bce
        cells = torch.stack([self._pool(logits.sigmoid() * mask), self._pool(truth)], 2)
        points, present = self._windows(cells, self._pool(mask))
        unknown = unknown_part(points, present)
        region = self.class_mean(unknown, present.any(1, keepdim=True).expand_as(unknown))
        return bce + (1 - self.bce_weight) * classes * region.to(logits.dtype)

    def _windows(self, cells: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Return all windows of cells.

        Args:
            cells: (B, K, 2, h, w), means of prediction and label, with 0 for ignored pixels.
            counted: (B, 1, h, w), the fraction of valid pixels in each.

        Returns:
            Points (B, K, 2 d, N) float64, and whether they are valid, (B, N) bool.
        """
        batch, classes = cells.shape[:2]
        means = cells.flatten(1, 2) / counted.where(counted > 0, 1)
        columns = F.unfold(means.double(), self.radius)
        points = columns.view(batch, classes, 2 * self.radius**2, columns.shape[-1])
        return points, (F.unfold(counted, self.radius) > 0).all(1)

    def _pool(self, maps: Tensor) -> Tensor:
        return F.avg_pool2d(maps, self.downsampling, ceil_mode=True)

    def _too_small(self, height: int, width: int) -> str:
        side = min(height, width)
        fitting = (side - 1) // (self.radius - 1)
        return (
            f"downsampling: images of {height}x{width} pixels have no window of {self.radius}x"
            f"{self.radius} cells of {self.downsampling}x{self.downsampling} pixels; use "
            + (f"downsampling {fitting}" if fitting else f"downsampling 1 and radius {side}")
            + f", or images of {(self.radius - 1) * self.downsampling + 1} pixels and more"
        )


def unknown_part(points: Tensor, present: Tensor) -> Tensor:
    """Return what P leaves unknown of Y: log det(I + S / e) / (2 d), see `RMILoss`.

    Args:
        points: (B, K, 2 d, N) float64, N vectors P with their Y below.
        present: (B, N) bool, the valid vectors.

    Returns:
        (B, K) float64, from 0 on; 0 where no vector is valid.
    """
    half = points.shape[2] // 2
    weights = present[:, None, None].to(points.dtype)
    means = (points * weights).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True).clamp_min(1)
    points = (points - means) * weights
    ridge = RIDGE * torch.eye(2 * half, dtype=points.dtype, device=points.device)
    # The lower half of this factor's diagonal is that of S + e I. No inverse is needed, and no
    # difference is taken that rounding could make negative. The plain function would wait for the
    # device to learn whether it failed.
    factor = torch.linalg.cholesky_ex(points @ points.mT + ridge).L
    logs = factor.diagonal(dim1=-2, dim2=-1)[..., half:].log()
    return logs.mean(-1) - math.log(RIDGE) / 2
