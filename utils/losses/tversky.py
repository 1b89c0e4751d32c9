"""Tversky loss: an overlap in which the two kinds of error weigh differently."""

from torch import Tensor

from utils.config.types import NonNegativeFloat, PositiveFloat
from utils.losses.base import ClassWeights, safe_ratio
from utils.losses.overlap import Classes, OverlapLoss


class TverskyLoss(OverlapLoss):
    """One minus the soft Tversky index of each class, or a power of it, mean over the classes.

    L = mean_k (1 - T_k)^(1 / gamma), T_k = (I_k + s) / (I_k + alpha X_k + beta M_k + s), with
    I_k = sum_i p_ik g_ik, X_k = sum_i p_ik (1 - g_ik), M_k = sum_i (1 - p_ik) g_ik, p the softmax,
    g the label as 0 and 1, s `smooth`, i over the valid pixels of the whole batch.

    Papers: Tversky loss, https://arxiv.org/abs/1706.05721; focal Tversky loss (gamma other than 1),
    https://arxiv.org/abs/1810.07842.
    Differs from the papers: a mean over the classes, not their sum; s is added. The second paper
    swaps alpha and beta; here they are those of the first. Where a class has no error at all, the
    gradient of its power is 0.

    Example:
        >>> loss = TverskyLoss(alpha=0.25, beta=0.75, smooth=0.0)
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> round(loss(torch.zeros(1, 2, 2, 2), labels).item(), 4)  # of T 0.5 / 1.125 and 1 / 1.875
        0.5111

    Args:
        class_weights, ignore_index, smooth, classes, per_image: As in `OverlapLoss`.
        alpha: The weight of false positives; `alpha` and `beta` of 0.5 make the Dice loss (with
            half its `smooth`), of 1 the Jaccard loss.
        beta: The weight of false negatives; above `alpha`, small classes are rather found too often
            than missed.
        gamma: Above 1, the classes with much overlap get more of the gradient; the paper has 4 / 3.
    """

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        alpha: NonNegativeFloat = 0.3,
        beta: NonNegativeFloat = 0.7,
        gamma: PositiveFloat = 1.0,
        smooth: NonNegativeFloat = 1.0,
        classes: Classes = "present",
        per_image: bool = False,
    ) -> None:
        super().__init__(
            class_weights, ignore_index, smooth=smooth, classes=classes, per_image=per_image
        )
        if not alpha + beta:
            raise ValueError("alpha: it and beta are both 0, so nothing would be learned")
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma

    def class_losses(
        self, true_positives: Tensor, false_positives: Tensor, false_negatives: Tensor
    ) -> Tensor:
        """Return one minus the index of each class; see `OverlapLoss.class_losses()`."""
        errors = self.alpha * false_positives + self.beta * false_negatives
        losses = safe_ratio(errors, true_positives + errors + self.smooth)
        if self.gamma == 1:
            return losses
        # A root is infinitely steep at 0: there it is left out of the graph.
        some = losses > 0
        return losses.where(some, 1).pow(1 / self.gamma) * some
