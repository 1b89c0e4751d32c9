"""Cross-entropy that penalizes common confusions of two classes less."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.config.types import NonNegativeFloat, PositiveFloat
from utils.distributed.collectives import batch_sum
from utils.losses.base import ClassWeights, SegmentationLoss, picked


class RegionAwareLoss(SegmentationLoss):
    """Cross-entropy and a running confusion matrix, with less weight off the objects.

    L = mean_i r_i * (relu(1 - p_i . M[:, y_i]) / K + ce_weight * -log p_i[y_i]), with p_i the
    softmax of pixel i, y_i its label, r_i = 1 on the foreground and `background_weight` off it; the
    mean is over the valid pixels, weighted by class, and 0 with zero gradient where there is
    none. Without a foreground mask all r_i are 1.

    M (K, K) starts as zeros. In training mode each batch updates it before the value is taken:
    M <- (M + step * B) / (1 + step), with B[t, q] the fraction of the pixels predicted as q whose
    label is t, 0 where nothing is predicted as q. A batch without a valid pixel leaves it as it
    is. M is part of the state (`confusion`).

    Source: https://github.com/derby-ding/carpartssegment, for car parts with noisy labels; there is
    no paper.
    Differs from it: ignored pixels take no part in M or the mean; evaluation leaves M as it is.

    Example:
        >>> loss = RegionAwareLoss(ce_weight=0.0).eval()
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> loss(torch.zeros(1, 2, 2, 2), labels).item()  # M is still 0: 1 / K
        0.5

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`.
        step: How much a batch weighs in M; the matrices before it weigh 1.
        ce_weight: The factor of the cross-entropy.
        background_weight: The factor of the pixels off the foreground.

    Raises:
        ValueError: If the state belongs to another number of classes.
    """

    weighs_foreground: ClassVar[bool] = True

    confusion: Tensor

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        step: PositiveFloat = 0.01,
        ce_weight: NonNegativeFloat = 0.7,
        background_weight: NonNegativeFloat = 0.4,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.step = step
        self.ce_weight = ce_weight
        self.background_weight = background_weight
        # Empty until the first batch, or a checkpoint, tells the number of classes.
        self.register_buffer("confusion", torch.zeros(0, 0))

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        return self.pixel_mean(self._pixel_values(logits, labels, valid), labels, valid)

    def value_with_foreground(
        self, logits: Tensor, labels: Tensor, valid: Tensor, foreground: Tensor
    ) -> Tensor:
        """Return the loss with less weight off the foreground, (B, H, W) bool."""
        values = self._pixel_values(logits, labels, valid)
        factors = torch.where(foreground.bool(), 1.0, self.background_weight)
        return self.pixel_mean(values * factors, labels, valid)

    def _pixel_values(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of each pixel, (B, H, W)."""
        self._fit_state(logits)
        if self.training:
            self._update_confusion(logits.detach(), labels, valid)
        log_probabilities = F.log_softmax(logits, dim=1)
        mistaken = self.confusion.to(logits.dtype).t()[labels].movedim(-1, 1)  # (B, K, H, W)
        forgiven = (log_probabilities.exp() * mistaken).sum(1)
        region = (1 - forgiven).relu() / logits.shape[1]
        return region + self.ce_weight * -picked(log_probabilities, labels)

    def _fit_state(self, logits: Tensor) -> None:
        classes = logits.shape[1]
        if not len(self.confusion):
            self.confusion = torch.zeros(classes, classes, device=logits.device)
        elif len(self.confusion) != classes:
            raise ValueError(
                f"the confusion matrix of RegionAwareLoss is of {len(self.confusion)} classes, the "
                f"logits are of {classes}; start without the loss's former state"
            )

    def _update_confusion(self, logits: Tensor, labels: Tensor, valid: Tensor) -> None:
        classes = logits.shape[1]
        cells = (labels * classes + logits.argmax(1)).flatten()
        counts = cells.new_zeros(classes**2).scatter_add_(0, cells, valid.flatten().long())
        counts = batch_sum(counts).view(classes, classes)
        fractions = counts / counts.sum(0).clamp_min(1)
        moved = (self.confusion + self.step * fractions) / (1 + self.step)
        self.confusion = torch.where(counts.any(), moved, self.confusion)

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        stored = state.get(prefix + "confusion")
        if stored is not None:
            self.confusion = self.confusion.new_zeros(stored.shape)
        super()._load_from_state_dict(state, prefix, *rest)
