"""How the predictions of several views of an image become one: flips, scales, models."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from utils.cli.choices import FLIPS, MERGES
from utils.logits.to_labels import all_channels

Merge = Literal["mean-logits", "mean-probabilities", "max"]
Flip = Literal["none", "horizontal", "both", "all8"]


class Scores:
    """What is added up: logits, or probabilities.

    `"mean-logits"` weighs the views like the geometric mean of their probabilities, as
    pytorch-segmentation does; `"mean-probabilities"` takes the arithmetic mean; `"max"` takes for
    each class the largest probability of all views. Between overlapping windows or tiles the mean
    is taken in any case.

    Args:
        merge: One of `MERGES`.

    Raises:
        ValueError: If there is no such merge.
    """

    def __init__(self, merge: Merge) -> None:
        if merge not in MERGES:
            raise ValueError(f"there is no merge {merge!r}; choose from {', '.join(MERGES)}")
        self._of_logits = merge == "mean-logits"
        self._largest = merge == "max"

    def of_logits(self, logits: Tensor) -> Tensor:
        """Return the scores (B, K, H, W) of a model's logits, in float32."""
        logits = logits.float()
        return logits if self._of_logits else all_channels(logits).softmax(1)

    def add(self, total: Tensor | None, scores: Tensor, weight: float = 1.0) -> Tensor:
        """Return the total with the scores of one more view, of the same shape; changes both."""
        if total is not None and total.shape[1] != scores.shape[1]:  # of a binary problem
            total, scores = all_channels(total), all_channels(scores)
        if weight != 1:
            scores = scores.mul_(weight)
        if total is None:
            return scores
        if self._largest:
            return torch.maximum(total, scores, out=total)
        return total.add_(scores)

    def merged(self, total: Tensor, weights: float) -> Tensor:
        """Return the merged scores of a total whose views weigh so much together."""
        return total if self._largest or weights == 1 else total.div_(weights)

    def as_logits(self, scores: Tensor) -> Tensor:
        """Return logits (B, K, H, W) whose softmax has the merged probabilities; K at least 2."""
        if self._of_logits:
            return all_channels(scores)
        return scores.clamp(min=torch.finfo(scores.dtype).tiny).log()


class View(NamedTuple):
    """One of the eight ways to turn and mirror an image."""

    transposed: bool = False
    mirrored: bool = False  # left and right exchanged, after the transposition
    flipped: bool = False  # top and bottom exchanged, after the transposition

    def apply(self, images: Tensor) -> Tensor:
        """Return the view (B, C, h, w) of images (B, C, H, W)."""
        if self.transposed:
            images = images.transpose(-1, -2)
        axes = [axis for axis, on in ((-1, self.mirrored), (-2, self.flipped)) if on]
        return images.flip(axes) if axes else images

    def undo(self, scores: Tensor) -> Tensor:
        """Return the scores of a view (B, K, h, w) as those of the image (B, K, H, W)."""
        axes = [axis for axis, on in ((-1, self.mirrored), (-2, self.flipped)) if on]
        scores = scores.flip(axes) if axes else scores
        return scores.transpose(-1, -2) if self.transposed else scores


def views_of(flip: Flip) -> list[View]:
    """Return the views that are merged.

    Raises:
        ValueError: If there is no such flip.
    """
    if flip not in FLIPS:
        raise ValueError(f"there is no flip {flip!r}; choose from {', '.join(FLIPS)}")
    views = [View()]
    if flip != "none":
        views += [View(mirrored=True)]
    if flip in ("both", "all8"):
        views += [View(flipped=True), View(mirrored=True, flipped=True)]
    if flip == "all8":
        views += [view._replace(transposed=True) for view in views]
    return views


def merge_views(
    images: Tensor, views: Sequence[View], scores: Scores, run: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the merged scores (B, K, H, W) of views of images (B, C, H, W).

    Views of one shape go through `run` together, as one batch.
    """
    if len(views) == 1:
        return run(images)
    total: Tensor | None = None
    for transposed in (False, True):
        group = [view for view in views if view.transposed == transposed]
        if not group:
            continue
        made = run(torch.cat([view.apply(images) for view in group]))
        for view, each in zip(group, made.chunk(len(group)), strict=True):
            total = scores.add(total, view.undo(each))
    assert total is not None
    return scores.merged(total, len(views))
