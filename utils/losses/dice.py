"""Dice loss, alone and with cross-entropy."""

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from utils.config.types import NonNegativeFloat
from utils.losses.base import ClassWeights, SegmentationLoss, safe_ratio
from utils.losses.cross_entropy import CrossEntropyLoss2d, Smoothing
from utils.losses.overlap import Classes, OverlapLoss


class DiceLoss(OverlapLoss):
    """One minus the soft Dice coefficient of each class, mean over the classes.

    L = mean_k 1 - (2 sum_i p_ik g_ik + s) / (sum_i p_ik + sum_i g_ik + s), with p the softmax, g
    the label as 0 and 1, s `smooth`, i over the valid pixels of the whole batch. With
    `squared` the denominator has sum_i p_ik^2 in place of sum_i p_ik.

    Paper: V-Net, https://arxiv.org/abs/1606.04797 (section 3).
    Differs from the paper: any number of classes; s is added; the paper squares, which is
    `squared` here; the batch is one volume unless `per_image`.
    Differs from pytorch-segmentation: that took one ratio over all classes and pixels together.
    Both terms of its denominator are the number of pixels then, so it was one minus the mean
    probability of the right class, in which small classes weigh as little as in cross-entropy.

    Example:
        >>> loss = DiceLoss(smooth=0.0)
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> round(loss(torch.zeros(1, 2, 2, 2), labels).item(), 4)  # 1 - (1 / 2.5 + 2 / 3.5) / 2
        0.5143

    Args:
        class_weights, ignore_index, smooth, classes, per_image: As in `OverlapLoss`.
        squared: Square the probabilities in the denominator, as the paper does.
    """

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        smooth: NonNegativeFloat = 1.0,
        classes: Classes = "present",
        per_image: bool = False,
        squared: bool = False,
    ) -> None:
        super().__init__(
            class_weights, ignore_index, smooth=smooth, classes=classes, per_image=per_image
        )
        self.squared = squared

    def class_losses(
        self, true_positives: Tensor, false_positives: Tensor, false_negatives: Tensor
    ) -> Tensor:
        """Return one minus Dice of each class; see `OverlapLoss.class_losses()`."""
        errors = false_positives + false_negatives
        return safe_ratio(errors, 2 * true_positives + errors + self.smooth)

    def area(self, probabilities: Tensor) -> Tensor:
        """See `OverlapLoss.area()`."""
        return probabilities.square() if self.squared else probabilities


class SumWithDice(SegmentationLoss):
    """A loss over pixels plus the Dice loss; a subclass says which, and of what probabilities.

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`, for both parts.
        label_smoothing: Of the loss over pixels.
        smooth, classes, per_image, squared: Of the Dice loss, see `DiceLoss`.
    """

    pixel_loss: Callable[..., SegmentationLoss]

    legacy_args: ClassVar[dict[str, str]] = {"reduction": "the loss is always a mean"}

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        label_smoothing: Smoothing = 0.0,
        smooth: NonNegativeFloat = 1.0,
        classes: Classes = "present",
        per_image: bool = False,
        squared: bool = False,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.entropy = self.pixel_loss(class_weights, label_smoothing=label_smoothing)
        self.dice = DiceLoss(
            class_weights, smooth=smooth, classes=classes, per_image=per_image, squared=squared
        )


class CE_DiceLoss(SumWithDice):
    """Cross-entropy plus Dice loss: every pixel counts, and so does every class.

    L = `CrossEntropyLoss2d` + `DiceLoss`. For another mixture name both in the config, each with
    its `"weight"`.

    Paper: nnU-Net, https://arxiv.org/abs/1809.10486 (section 2.3), which trains with this sum.
    Differs from the paper: the Dice loss is that of `DiceLoss`, from 0 to 1; there it is its
    negative coefficient, which is one less.
    Differs from pytorch-segmentation: see `DiceLoss`; `smooth` and `ignore_index` reach it.

    Example:
        >>> loss = CE_DiceLoss(smooth=0.0)
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> round(loss(torch.zeros(1, 2, 2, 2), labels).item(), 4)  # ln 2 + 0.5143
        1.2074

    Args:
        class_weights, ignore_index, smooth, classes, per_image, squared: As in `SumWithDice`.
        label_smoothing: Of the cross-entropy: the fraction of the label spread over all classes.
    """

    pixel_loss = CrossEntropyLoss2d

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        dice = self.dice.value(logits, labels, valid)
        return self.entropy.value(logits, labels, valid) + dice
