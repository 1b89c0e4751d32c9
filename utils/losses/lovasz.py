"""Lovász-Softmax: the Jaccard index, made continuous."""

import torch
from torch import Tensor

from utils.distributed.collectives import batch_rows
from utils.losses.base import ClassWeights, SegmentationLoss
from utils.losses.overlap import Classes, included_classes, one_hot


class LovaszSoftmax(SegmentationLoss):
    """The convex surrogate of one minus the intersection over union, mean over the classes.

    L = mean_k sum_i e_(i) (J(i) - J(i - 1)), with e_i = |g_ik - p_ik| in falling order, p the
    softmax, g the label as 0 and 1, and J(i) one minus the intersection over union of class k if
    just the first i pixels are wrong. Where every probability is 0 or 1, this is the mean of
    1 - IoU.

    Mostly added to cross-entropy, or trained with after it.

    Paper: The Lovász-Softmax loss, https://arxiv.org/abs/1705.08790.
    Differs from the paper: the differences of J are computed as fractions of counts, which loses
    nothing on large batches.

    Example:
        >>> loss = LovaszSoftmax()
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> logits = torch.tensor([[[[9.0, 9.0], [-9.0, 0.0]], [[-9.0, -9.0], [9.0, 0.0]]]])
        >>> round(loss(logits, labels).item(), 4)  # one of the two 1 is a 0: IoU 1 / 2 of both
        0.5

    Args:
        class_weights, ignore_index: As in `SegmentationLoss`.
        classes: `"present"` takes the mean over the classes that occur in the labels, `"all"` over
            all: then one that does not occur costs the largest probability it was given.
        per_image: One index for each image, and their mean, not one for the batch.
    """

    def __init__(
        self,
        class_weights: ClassWeights | None = None,
        ignore_index: int = 255,
        *,
        classes: Classes = "present",
        per_image: bool = False,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        self.classes = classes
        self.per_image = per_image

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch; see `SegmentationLoss.value()`."""
        num_classes = logits.shape[1]
        if self.per_image and not len(logits):  # the images are with other processes
            return self.class_mean(logits.sum((2, 3)), labels.new_zeros(0, num_classes))
        truth = one_hot(labels, valid, num_classes)
        included = included_classes(truth, valid, self.classes, self.per_image)
        # Sorting dominates, so only contributing classes are sorted, one at a time to limit memory.
        # If none contributes, the first is kept, so that the loss has a gradient, which is zero.
        chosen = included.flatten().nonzero().flatten().tolist() or [0]
        probabilities, truths = (self._one_by_one(maps) for maps in (logits.softmax(1), truth))
        if self.per_image:
            terms = [lovasz(probabilities[i], truths[i], valid[i // num_classes]) for i in chosen]
        else:
            counted = batch_rows(valid.flatten())
            terms = [
                lovasz(
                    batch_rows(probabilities[i].flatten()), batch_rows(truths[i].flatten()), counted
                )
                for i in chosen
            ]
        losses = logits.new_zeros(included.numel())
        positions = torch.tensor(chosen, device=logits.device)
        losses = losses.index_put((positions,), torch.stack(terms)).view(included.shape)
        return self.class_mean(losses, included)

    def _one_by_one(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Return the maps (B, K, H, W) that one term each is made of, in the order of the terms."""
        return (maps.flatten(0, 1) if self.per_image else maps.transpose(0, 1)).unbind()


def lovasz(probabilities: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return the loss of one class, a scalar, from three tensors of one shape.

    Args:
        probabilities: The probabilities of the class.
        truth: bool, whether the pixel is of the class.
        valid: bool, whether the pixel is valid.
    """
    errors = torch.where(truth, 1 - probabilities, probabilities).flatten()
    # Ignored pixels come last, so that they change nothing before them.
    order = errors.detach().where(valid.flatten(), -1).argsort(descending=True, stable=True)
    steps = jaccard_steps(truth.flatten()[order], errors.dtype)
    return (errors * torch.empty_like(steps).scatter(0, order, steps) * valid.flatten()).sum()


def jaccard_steps(truth: Tensor, dtype: torch.dtype) -> Tensor:
    """Return how much one minus the intersection over union grows with each further wrong pixel.

    With G pixels of the class, c of them and n others wrong, it is 1 - (G - c) / (G + n). So one
    more wrong pixel of the class adds 1 / (G + n), and another pixel
    (G - c) (1 / (G + n - 1) - 1 / (G + n)).

    Args:
        truth: (P,) bool, whether the pixel is of the class, in the order in which they get wrong.
        dtype: Type of the result.

    Returns:
        (P,), none negative.
    """
    wrong = truth.cumsum(0, dtype=torch.int32)
    size = wrong[-1]
    position = torch.arange(1, len(truth) + 1, dtype=torch.int32, device=truth.device)
    union = (size + position - wrong).to(dtype)
    left = (size - wrong).to(dtype)
    # Without a pixel of the class, the first wrong one takes the whole step from 0 to 1.
    left = torch.where((size == 0) & (position == 1), 1.0, left)
    return torch.where(truth, 1.0, left / (union - 1).clamp_min(1)) / union
