"""Cross-entropy over pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CrossEntropyLoss2d(nn.Module):
    """Mean cross-entropy over the pixels that count.

    L = sum_i w[y_i] * -log softmax(z_i)[y_i] / sum_i w[y_i], over the pixels i with y_i other than
    `ignore_index`; 0 with zero gradient where there is none.

    Example:
        >>> loss = CrossEntropyLoss2d(ignore_index=255)
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> round(loss(torch.zeros(1, 3, 2, 2), labels).item(), 4)  # ln 3
        1.0986

    Args:
        weight: A factor for each class, length K; none weighs all alike.
        ignore_index: The label that does not count.
    """

    weight: Tensor | None

    def __init__(self, weight: list[float] | None = None, ignore_index: int = 255) -> None:
        super().__init__()
        if weight is not None and min(weight) < 0:
            raise ValueError(f"weight: a class weight cannot be negative, got {min(weight)}")
        self.ignore_index = ignore_index
        # Not part of a checkpoint's weights: the config holds it.
        values = None if weight is None else torch.tensor(weight, dtype=torch.float32)
        self.register_buffer("weight", values, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            logits: (B, K, H, W), any float type.
            labels: (B, H, W) int64 in 0..K-1, or `ignore_index`.

        Returns:
            A scalar.

        Raises:
            ValueError: If there are not as many class weights as classes.
        """
        if self.weight is not None and len(self.weight) != logits.shape[1]:
            raise ValueError(
                f"weight: {len(self.weight)} class weights for {logits.shape[1]} classes"
            )
        weight = None if self.weight is None else self.weight.to(logits.dtype)
        total = F.cross_entropy(
            logits, labels, weight, ignore_index=self.ignore_index, reduction="sum"
        )
        valid = labels != self.ignore_index
        if weight is None:
            count = valid.sum().to(total.dtype)
        else:
            count = (weight[labels.where(valid, 0)] * valid).sum()
        # An all-ignored batch has total 0, and 0 / tiny is 0 where 0 / 0 would be NaN.
        return total / count.clamp_min(torch.finfo(total.dtype).tiny)
