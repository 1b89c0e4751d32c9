"""Cross-entropy that leaves easy pixels aside."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.config.types import NonNegativeFloat
from utils.losses.base import ClassWeights, SegmentationLoss, picked


class FocalLoss(SegmentationLoss):
    """Mean cross-entropy in which a pixel weighs the less the surer it is of the right class.

    L = sum_i w[y_i] * (1 - p_i)^gamma * -log p_i / sum_i w[y_i], with p_i the softmax of the right
    class, over the pixels i with y_i other than `ignore_index`; 0 with zero gradient where there is
    none.

    Paper: Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002.
    Differs from the paper: softmax over the classes instead of a sigmoid, which for two classes is
    the same; the sum is divided by the weights of all valid pixels, not by the number of
    objects. The paper's alpha is `class_weights` [1 - alpha, alpha].

    Example:
        >>> loss = FocalLoss(gamma=2)
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> round(loss(torch.zeros(1, 2, 2, 2), labels).item(), 4)  # (1 - 1/2)^2 ln 2
        0.1733

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`.
        gamma: How fast the weight of a pixel falls with its probability; 0 is the cross-entropy.
    """

    renamed_args: ClassVar[dict[str, str]] = {"alpha": "class_weights", "weight": "class_weights"}

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        gamma: NonNegativeFloat = 2.0,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.gamma = gamma

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        log_p = picked(F.log_softmax(logits, dim=1), labels)
        # At 0 the slope of a power below 1 is infinite, and its product with 0 is NaN.
        rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        return self.pixel_mean(rest**self.gamma * -log_p, labels, valid)
