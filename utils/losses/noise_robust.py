"""Losses for noisy labels: a single wrong pixel has a bounded effect."""

import math
from typing import Annotated

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.config.types import NonNegativeFloat, PositiveFloat
from utils.losses.base import ClassWeights, SegmentationLoss, picked

Exponent = Annotated[float, msgspec.Meta(gt=0, le=1)]
AboveOne = Annotated[float, msgspec.Meta(gt=1)]

LOG_ZERO = math.log(1e-4)  # in place of log 0, as in the code of the authors


def reverse_cross_entropy(log_p: Tensor) -> Tensor:
    """Return the cross-entropy with label and prediction swapped: -sum_k p[k] log y[k].

    Returns:
        -`LOG_ZERO` * (1 - p), in the shape of `log_p`.
    """
    return LOG_ZERO * torch.expm1(log_p)


class SymmetricCrossEntropyLoss(SegmentationLoss):
    """Mean of cross-entropy and reverse cross-entropy over the valid pixels.

    L = mean_i (alpha * -log p_i + beta * -A * (1 - p_i)), with p_i the softmax of the right class
    and A = log 1e-4; the mean is weighted by class, and 0 with zero gradient where no pixel is
    valid.

    Paper: Symmetric Cross Entropy for Robust Learning with Noisy Labels,
    https://arxiv.org/abs/1908.06112. alpha 0.1 and beta 1 are its values for CIFAR-10 (10 classes),
    6 and 0.1 those for CIFAR-100.
    Differs from the paper: A is log 1e-4 as in the authors' code; the text says -4.

    Example:
        >>> loss = SymmetricCrossEntropyLoss(alpha=1.0, beta=0.5)
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> round(loss(torch.zeros(1, 2, 2, 2), labels).item(), 4)  # ln 2 + ln 10
        2.9957

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`.
        alpha: The factor of the cross-entropy: it learns fast, and wrong labels too.
        beta: The factor of the reverse cross-entropy, which wrong labels mislead little.
    """

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        alpha: NonNegativeFloat = 0.1,
        beta: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.alpha = alpha
        self.beta = beta

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        log_p = picked(F.log_softmax(logits, dim=1), labels)
        values = self.alpha * -log_p + self.beta * reverse_cross_entropy(log_p)
        return self.pixel_mean(values, labels, valid)


class GeneralizedCrossEntropyLoss(SegmentationLoss):
    """Generalised cross-entropy: from cross-entropy (q near 0) to mean absolute error (q = 1).

    L = mean_i (1 - p_i^q) / q, with p_i the softmax of the right class; the mean is weighted by
    class and 0 with zero gradient where no pixel is valid.

    Paper: Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels,
    https://arxiv.org/abs/1805.07836.
    Differs from the paper: the truncated form, which drops pixels while training, is left out.

    Example:
        >>> loss = GeneralizedCrossEntropyLoss(q=0.5)
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> round(loss(torch.zeros(1, 4, 2, 2), labels).item(), 4)  # (1 - sqrt(1/4)) / 0.5
        1.0

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`.
        q: The nearer to 1, the less a wrong label misleads, and the slower training is.
    """

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        q: Exponent = 0.7,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.q = q

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        log_p = picked(F.log_softmax(logits, dim=1), labels)
        # Through the logarithm the gradient stays finite at p = 0, and small q lose no digits.
        return self.pixel_mean(-torch.expm1(self.q * log_p) / self.q, labels, valid)


class NCE_RCE(SegmentationLoss):
    """Mean of normalised and reverse cross-entropy over the valid pixels.

    L = mean_i (alpha * log p_i / sum_k log softmax(z_i)[k] + beta * -A * (1 - p_i)), with p_i the
    softmax of the right class and A = log 1e-4; the mean is weighted by class and 0 with zero
    gradient where no pixel is valid. Both terms have the same sum over all labels for any logits.

    Paper: Normalized Loss Functions for Deep Learning with Noisy Labels,
    https://arxiv.org/abs/2006.13554. alpha 1 and beta 1 are its values for CIFAR-10 (10 classes),
    10 and 0.1 those for CIFAR-100.
    Differs from the paper: nothing; A is that of the authors' code.

    Example:
        >>> loss = NCE_RCE(alpha=1.0, beta=0.0)
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> round(loss(torch.zeros(1, 4, 2, 2), labels).item(), 4)  # ln 4 / (4 ln 4)
        0.25

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`.
        alpha: The factor of the normalised cross-entropy, which raises the right class.
        beta: The factor of the reverse cross-entropy, which lowers all others.
    """

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        alpha: NonNegativeFloat = 1.0,
        beta: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.alpha = alpha
        self.beta = beta

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        log_probabilities = F.log_softmax(logits, dim=1)
        log_p = picked(log_probabilities, labels)
        # The sum is at most -K log K: never 0.
        normalised = log_p / log_probabilities.sum(1)
        values = self.alpha * normalised + self.beta * reverse_cross_entropy(log_p)
        return self.pixel_mean(values, labels, valid)


class AUELoss(SegmentationLoss):
    """Mean asymmetric unhinged loss over the valid pixels.

    L = mean_i ((a - p_i)^q - (a - 1)^q) / q, with p_i the softmax of the right class; the mean is
    weighted by class and 0 with zero gradient where no pixel is valid.

    Paper: Asymmetric Loss Functions for Learning with Noisy Labels,
    https://arxiv.org/abs/2106.03110 (there AUL). a 1.5 and q 0.9 are the defaults of the authors'
    code; their values for MNIST are 3 and 0.1, for CIFAR 5.5 and 3.
    Differs from the paper: nothing.

    Example:
        >>> loss = AUELoss(a=1.5, q=2.0)
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> round(loss(torch.zeros(1, 2, 2, 2), labels).item(), 4)  # (1 - 0.25) / 2
        0.375

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`.
        a: Above 1; the larger, the more the loss is like the mean absolute error.
        q: Below 1 pixels with a high probability pull more, above 1 those with a low one.
    """

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        a: AboveOne = 1.5,
        q: PositiveFloat = 0.9,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.a = a
        self.q = q

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        p = picked(logits.softmax(1), labels)
        values = ((self.a - p) ** self.q - (self.a - 1) ** self.q) / self.q
        return self.pixel_mean(values, labels, valid)
