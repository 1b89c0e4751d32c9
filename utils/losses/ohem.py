"""Cross-entropy over the hardest pixels."""

import math
from typing import Annotated

import msgspec
import torch.nn.functional as F
from torch import Tensor

from utils.config.types import Fraction
from utils.distributed.collectives import batch_rows, batch_sum
from utils.losses.base import ClassWeights, SegmentationLoss, picked

KeptFraction = Annotated[float, msgspec.Meta(gt=0, le=1)]


class OhemCrossEntropyLoss2d(SegmentationLoss):
    """Mean cross-entropy over hard pixels: those that give the right class little probability.

    L = sum_{i in S} w[y_i] * -log p_i / sum_{i in S} w[y_i], with p_i the softmax of the right
    class and S the valid pixels with p_i < `threshold` or p_i <= t, the probability of the
    hardest `min_kept` of them, rounded up. Pixels as hard as the last one kept are kept too. 0 with
    zero gradient where no pixel is valid.

    Paper: Training Region-based Object Detectors with Online Hard Example Mining,
    https://arxiv.org/abs/1604.03540.
    Differs from the paper: pixels of a batch instead of regions of an image, none of which
    suppresses its neighbours, and a threshold beside the number kept, as is usual in segmentation.
    `min_kept` is a fraction (1/16 as in programs that train BiSeNet) where others take a number,
    which keeps every pixel of a small crop and hardly any of a large one.

    Example:
        >>> loss = OhemCrossEntropyLoss2d(threshold=0.7)
        >>> logits = torch.tensor([[[[0.0, -9.0, -9.0, -9.0]], [[0.0, 9.0, 9.0, 9.0]]]])
        >>> labels = torch.tensor([[[1, 1, 1, 1]]])
        >>> round(loss(logits, labels).item(), 4)  # ln 2: only the first pixel is hard
        0.6931

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`.
        threshold: A pixel whose right class has less probability is always kept.
        min_kept: The fraction of the valid pixels that is kept at least.
    """

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        threshold: Fraction = 0.7,
        min_kept: KeptFraction = 1 / 16,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.threshold = threshold
        self.min_kept = min_kept

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        log_p = picked(F.log_softmax(logits, dim=1), labels)
        return self.pixel_mean(-log_p, labels, valid & self._hard(log_p.detach(), valid))

    def _hard(self, log_p: Tensor, valid: Tensor) -> Tensor:
        """Return the hard pixels, (B, H, W) bool; ignored ones may be among them."""
        # The number kept stays on the device, and masks do for indices: nothing waits for it.
        order = batch_rows(log_p.where(valid, math.inf).flatten()).sort().values
        last = (batch_sum(valid.sum()) * self.min_kept).ceil().long() - 1
        limit = order.gather(0, last.clamp_min(0).view(1))
        return (log_p <= limit) | (log_p < math.log(self.threshold))
