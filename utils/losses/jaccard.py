"""Jaccard loss: the soft intersection over union."""

from torch import Tensor

from utils.losses.base import safe_ratio
from utils.losses.overlap import OverlapLoss


class JaccardLoss(OverlapLoss):
    """One minus the soft intersection over union of each class, mean over the classes.

    L = mean_k 1 - (I_k + s) / (U_k + s), with I_k = sum_i p_ik g_ik and
    U_k = sum_i p_ik + g_ik - p_ik g_ik, p the softmax, g the label as 0 and 1, s `smooth`, i over
    the valid pixels of the whole batch.

    Paper: Rahman and Wang 2016, Optimizing Intersection-Over-Union in Deep Neural Networks for
    Image Segmentation, https://doi.org/10.1007/978-3-319-50835-1_22.
    Differs from the paper: any number of classes; s is added.

    Example:
        >>> loss = JaccardLoss(smooth=0.0)
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> round(loss(torch.zeros(1, 2, 2, 2), labels).item(), 4)  # 1 - (0.5 / 2 + 1 / 2.5) / 2
        0.675

    Args:
        class_weights, ignore_index, smooth, classes, per_image: As in `OverlapLoss`.
    """

    def class_losses(
        self, true_positives: Tensor, false_positives: Tensor, false_negatives: Tensor
    ) -> Tensor:
        """Return one minus the ratio of each class; see `OverlapLoss.class_losses()`."""
        errors = false_positives + false_negatives
        return safe_ratio(errors, true_positives + errors + self.smooth)
