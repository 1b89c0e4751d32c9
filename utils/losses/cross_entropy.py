"""Cross-entropy over pixels."""

from typing import Annotated, ClassVar

import msgspec
import torch.nn.functional as F
from torch import Tensor

from utils.logits.coarse_logits import CoarseLogits, Logits
from utils.losses.base import ClassWeights, SegmentationLoss, batch_ratio, picked

Smoothing = Annotated[float, msgspec.Meta(ge=0, le=1)]


class CrossEntropyLoss2d(SegmentationLoss):
    """Mean cross-entropy over the valid pixels.

    L = sum_i w[y_i] l_i / sum_i w[y_i], over the pixels i with y_i other than `ignore_index`; 0
    with zero gradient where there is none. With p the softmax and smoothing s
    l_i = -(1 - s) log p_i[y_i] - s mean_k log p_i[k]: the label is the mixture of itself (1 - s)
    and of all classes alike (s).

    Paper: of the smoothing, Rethinking the Inception Architecture,
    https://arxiv.org/abs/1512.00567 (section 7).
    Differs from the paper: nothing. Differs from torch where there are both weights and smoothing:
    a pixel weighs what its label weighs. In torch each term of the mean over k weighs what class k
    does, which draws every pixel towards the rarest class.

    Example:
        >>> loss = CrossEntropyLoss2d(ignore_index=255)
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> round(loss(torch.zeros(1, 3, 2, 2), labels).item(), 4)  # ln 3
        1.0986

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`.
        label_smoothing: The fraction of the label that is spread over all classes.
    """

    takes_coarse_logits: ClassVar[bool] = True

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        label_smoothing: Smoothing = 0.0,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.label_smoothing = label_smoothing

    def value(self, logits: Logits, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`.

        Of coarse logits a tile at a time is upsampled, so that memory is taken for one tile only.
        """
        if isinstance(logits, CoarseLogits):
            total = logits.total(self._total, labels, valid)
        else:
            total = self._total(logits, labels, valid, dim=1)
        return batch_ratio(total, self.pixel_weights(labels, valid, total.dtype).sum())

    def _total(self, logits: Tensor, labels: Tensor, valid: Tensor, dim: int = -1) -> Tensor:
        """Return the weighted sum over pixels; `dim` is that of the classes."""
        log_probabilities = F.log_softmax(logits, dim)
        values = picked(log_probabilities, labels, dim)
        if self.label_smoothing:
            values = values.lerp(log_probabilities.mean(dim), self.label_smoothing)
        return -(values * self.pixel_weights(labels, valid, logits.dtype)).sum()
