"""The base of Dice, Jaccard and Tversky: soft counts of a class's pixels."""

from typing import Literal

import torch
from torch import Tensor

from utils.config.types import NonNegativeFloat
from utils.distributed.collectives import batch_sum
from utils.losses.base import ClassWeights, SegmentationLoss

Classes = Literal["present", "all"]


class OverlapLoss(SegmentationLoss):
    """One minus the overlap of a class's probabilities with its labels, mean over the classes.

    A subclass says with `class_losses()` what overlap is. It divides the errors, rather than
    subtract a ratio of true positives from 1: that is exact near 0.

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`.
        smooth: Added to both sides of the overlap's fraction, in pixels; keeps the loss of a class
            with few pixels from jumping.
        classes: `"present"` takes the mean over the classes that occur in the labels, `"all"` over
            all: then one that does not occur costs what probability it was given.
        per_image: One overlap for each image, and their mean, not one for the batch.
    """

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        smooth: NonNegativeFloat = 1.0,
        classes: Classes = "present",
        per_image: bool = False,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.smooth = smooth
        self.classes = classes
        self.per_image = per_image

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        return self.of_probabilities(logits.softmax(1), labels, valid)

    def of_probabilities(
        self, probabilities: Tensor, labels: Tensor, valid: Tensor, first_class: int = 0
    ) -> Tensor:
        """Return the loss of probabilities (B, K, H, W), without classes below `first_class`."""
        truth = one_hot(labels, valid, probabilities.shape[1])
        included = included_classes(truth, valid, self.classes, self.per_image)
        included[..., :first_class] = False
        maps = probabilities * truth, self.area(probabilities * valid.unsqueeze(1)), truth
        if self.per_image:
            true_positives, area, size = (plane.sum((2, 3)) for plane in maps)
        else:
            sums = [plane.sum((0, 2, 3)).to(probabilities.dtype) for plane in maps]
            true_positives, area, size = batch_sum(torch.stack(sums))
        return self.class_mean(
            self.class_losses(true_positives, area - true_positives, size - true_positives),
            included,
        )

    def class_losses(
        self, true_positives: Tensor, false_positives: Tensor, false_negatives: Tensor
    ) -> Tensor:
        """Return the loss of each class, from soft counts of pixels, each (B, K) or (K,).

        Args:
            true_positives: Probability of the class on its pixels.
            false_positives: Probability of it on other pixels.
            false_negatives: What its pixels lack of probability 1.
        """
        raise NotImplementedError

    def area(self, probabilities: Tensor) -> Tensor:
        """Return what is summed up as the predicted area of a class."""
        return probabilities


def one_hot(labels: Tensor, valid: Tensor, num_classes: int) -> Tensor:
    """Return which pixels have each class, none of the ignored ones: (B, K, H, W) bool."""
    classes = torch.arange(num_classes, device=labels.device).view(1, -1, 1, 1)
    return (labels.unsqueeze(1) == classes) & valid.unsqueeze(1)


def included_classes(truth: Tensor, valid: Tensor, classes: Classes, per_image: bool) -> Tensor:
    """Return the classes that a mean is taken over; none where no pixel is valid.

    Args:
        truth: (B, K, H, W) bool, from `one_hot()`.
        valid: (B, H, W) bool, the valid pixels.
        classes: `"present"`: those that occur; `"all"`: every one.
        per_image: Decide for each image, not for the batch.

    Returns:
        (B, K) bool with `per_image`, else (K,).
    """
    if classes == "present":
        found = truth.flatten(2).any(2)
    else:
        found = valid.flatten(1).any(1, keepdim=True).repeat(1, truth.shape[1])
    return found if per_image else batch_sum(found.sum(0)) > 0
