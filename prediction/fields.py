"""From logits to what products are made of, and from blocks to complete rows."""

import dataclasses
import math
from collections.abc import Collection, Iterator

import numpy as np
import torch
from torch import Tensor

from prediction.predictor.mosaic import Block
from prediction.predictor.network import check_finite
from prediction.products.rows import Rows
from utils.files.spill import Spill
from utils.logits.to_labels import predict_labels
from utils.out_of_memory import with_cpu_fallback

# What a block becomes at once: more would take as much memory again as the logits.
_FIELDS = ("confidence", "entropy", "probabilities")
_CHUNK = 32 << 20  # the most bytes of rows that products get at once


@dataclasses.dataclass(frozen=True)
class LabelRule:
    """How logits become ids.

    Raises:
        ValueError: If `unsure` is not a probability.
    """

    num_classes: int
    threshold: float | None = None  # of two classes, see `predict_labels()`
    unsure: float | None = None  # ids are the ignored one where the confidence is lower
    ignore_index: int = 255  # the label that was ignored in training

    def __post_init__(self) -> None:
        if self.unsure is not None and not 0 <= self.unsure <= 1:
            raise ValueError(f"the confidence {self.unsure} is not a probability, 0..1")

    @property
    def ignored_id(self) -> int:
        """The id of pixels that have no class: the training's, if that fits, else the largest."""
        largest = 255 if self.num_classes <= 255 else 65535
        fits = self.num_classes <= self.ignore_index <= largest
        return self.ignore_index if fits else largest

    @property
    def dtype(self) -> type[np.unsignedinteger]:
        """The type of ids: uint8 if all fit, also the ignored one."""
        return np.uint8 if self.num_classes <= 255 else np.uint16

    def ignore(self, ids: np.ndarray, hole: np.ndarray) -> None:
        """Set the ids (h, w) where an image has no data, (h, w) bool."""
        ids[hole] = self.ignored_id


@torch.inference_mode()
def fields_of(logits: Tensor, rule: LabelRule, needs: Collection[str]) -> dict[str, np.ndarray]:
    """Return the ids (h, w) of logits (K, h, w), and the fields of `Rows` that are needed.

    The logits may be overwritten.

    Raises:
        ValueError: If a logit is not finite.
    """
    check_finite(logits)
    return with_cpu_fallback(lambda part: _fields_of(part, rule, needs), logits)


def _fields_of(logits: Tensor, rule: LabelRule, needs: Collection[str]) -> dict[str, np.ndarray]:
    labels = predict_labels(logits[None], rule.threshold)[0]
    made: dict[str, np.ndarray] = {}
    if rule.unsure is not None or any(name in needs for name in _FIELDS):
        probabilities = logits.softmax(0)
        confidence = probabilities.gather(0, labels[None])[0]
        if rule.unsure is not None:
            labels = torch.where(confidence < rule.unsure, rule.ignored_id, labels)
        if "confidence" in needs:
            made["confidence"] = confidence.cpu().numpy()
        if "entropy" in needs:
            # Into the logits, which nobody needs any more: another copy would be large.
            torch.special.entr(probabilities, out=logits)
            entropy = logits.sum(0) / math.log(len(probabilities))
            made["entropy"] = entropy.clamp_(0, 1).cpu().numpy()
        if "probabilities" in needs:
            made["probabilities"] = probabilities.cpu().numpy()
    made["ids"] = labels.to(torch.uint8 if rule.dtype is np.uint8 else torch.int32).cpu().numpy()
    if rule.dtype is not np.uint8:
        made["ids"] = made["ids"].astype(rule.dtype)
    return made


def copies_of(needs: Collection[str]) -> int:
    """Return how many arrays of the size of a block's logits are in memory beside the network."""
    return 5 if any(name in needs for name in _FIELDS) else 3


def complete_rows(
    blocks: Iterator[Block],
    width: int,
    rule: LabelRule,
    needs: Collection[str],
    spill: Spill,
    chunk: float = _CHUNK,
) -> Iterator[Rows]:
    """Yield rows over the full width of an image from its blocks, in order.

    Args:
        blocks: The blocks of logits, from `Predictor.blocks()`.
        width: Width of the image, in pixels.
        rule: How logits become ids.
        needs: The fields of `Rows` that products need.
        spill: Keeps the blocks of a band until it is complete.
        chunk: About the most bytes of the rows that are yielded at once.
    """
    lefts: list[int] = []
    for top, left, logits in blocks:
        fields = fields_of(logits, rule, needs)
        height, w = fields["ids"].shape
        if w == width:
            yield Rows(top, **fields)
            continue
        for name, values in fields.items():
            spill.put((name, left), np.ascontiguousarray(values))
        lefts.append(left)
        if left + w == width:
            yield from _rows_of_band(top, height, width, lefts, list(fields), spill, chunk)
            lefts = []


def _rows_of_band(
    top: int,
    height: int,
    width: int,
    lefts: list[int],
    names: list[str],
    spill: Spill,
    chunk: float,
) -> Iterator[Rows]:
    """Yield the rows of a band, as many at once as take little memory."""
    sample = {name: spill.rows((name, lefts[0]), 0, 1) for name in names}
    row_bytes = sum(
        width * values.dtype.itemsize * math.prod(values.shape[:-2]) for values in sample.values()
    )
    count = max(1, min(height, int(min(chunk, _CHUNK)) // max(1, row_bytes)))
    for first in range(0, height, count):
        last = min(height, first + count)
        fields = {
            name: np.concatenate([spill.rows((name, left), first, last) for left in lefts], -1)
            for name in names
        }
        yield Rows(top + first, **fields)
