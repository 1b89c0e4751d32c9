"""Binary cross-entropy, alone and with the Dice loss."""

import torch.nn.functional as F
from torch import Tensor

from utils.losses.base import ClassWeights, SegmentationLoss
from utils.losses.cross_entropy import Smoothing
from utils.losses.dice import SumWithDice
from utils.losses.overlap import one_hot


class BCEWithLogitsLoss2d(SegmentationLoss):
    """Binary cross-entropy: one class against the rest, mean over channels and pixels.

    L = sum_i w[y_i] b_i / sum_i w[y_i] over the valid pixels i, with
    b_i = mean_k -(g_ik log sigmoid(z_ik) + (1 - g_ik) log(1 - sigmoid(z_ik))), g the label as 0
    and 1. One channel z is that of class 1. Two channels are one question too, asked of
    z = z_1 - z_0: the same as cross-entropy over their softmax, so that their arg max means what
    was trained. From three channels on, each is a question of its own.

    Paper: ResNet strikes back, https://arxiv.org/abs/2110.00476, which trains classifiers with one
    question for each class.
    Differs from the paper: a pixel has one class, and two channels are one question.

    Example:
        >>> loss = BCEWithLogitsLoss2d()
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> round(loss(torch.zeros(1, 1, 2, 2), labels).item(), 4)  # ln 2
        0.6931

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`; one channel has 2 class weights.
        label_smoothing: s makes the answers 1 and 0 into 1 - s / 2 and s / 2.
    """

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        label_smoothing: Smoothing = 0.0,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.label_smoothing = label_smoothing

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        truth = one_hot(labels, valid, logits.shape[1])
        if logits.shape[1] == 2:
            logits, truth = logits[:, 1:] - logits[:, :1], truth[:, 1:]
        answers = truth.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        entropy = F.binary_cross_entropy_with_logits(logits, answers, reduction="none")
        return self.pixel_mean(entropy.mean(1), labels, valid)


class BCE_DiceLoss(SumWithDice):
    """Binary cross-entropy plus the Dice loss of what the sigmoids say.

    L = `BCEWithLogitsLoss2d` + `DiceLoss`, the latter of sigmoid(z) in place of the softmax. With
    one or two channels it is the Dice loss of class 1 alone; from three on that of every channel.

    Paper: nnU-Net, https://arxiv.org/abs/1809.10486 (section 2.3), which trains with cross-entropy
    and Dice.
    Differs from the paper: sigmoids in place of the softmax; the Dice loss is that of `DiceLoss`.

    Example:
        >>> loss = BCE_DiceLoss(smooth=0.0)
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> round(loss(torch.zeros(1, 1, 2, 2), labels).item(), 4)  # ln 2 + 1 - 2 / 3.5
        1.1217

    Args:
        class_weights, ignore_index, smooth, classes, per_image, squared: As in `SumWithDice`; one
            channel has 2 class weights.
        label_smoothing: Of the binary cross-entropy: s makes 1 and 0 into 1 - s / 2 and s / 2.
    """

    pixel_loss = BCEWithLogitsLoss2d

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        binary = logits.shape[1] == 2
        probabilities = logits.softmax(1) if binary else logits.sigmoid()
        dice = self.dice.of_probabilities(probabilities, labels, valid, first_class=int(binary))
        return self.entropy.value(logits, labels, valid) + dice
