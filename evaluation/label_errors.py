"""Regions whose label is likely wrong, by confident learning."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from evaluation.result import LabelIssue
from utils.distributed.collectives import all_gather_json, all_reduce_sum

KEPT = 4096  # regions: many times what anyone looks at, a few megabytes

# Below this probability networks differ by how far they were trained, not by how sure they can be.
_LEAST = 1e-4
# A region this deep, as a fraction of the image's side, scores half of what a huge one would.
_DEPTH = 0.01
# The score of a region whose segments have almost nothing else in common, against a perfect fit.
_NO_FIT = 1 / 6
# A class that the model never believes is ranked low, but still by the rest of the score.
_MIN_KNOWN = 0.01
# Sums of probabilities are kept as whole numbers of this unit, rounded down: the order of the
# images does not change their last bits, and a mean never exceeds what all its terms are.
_UNIT = 2.0**-20
_SQUARE = np.ones((3, 3), np.uint8)


class LabelErrors:
    """Ranks the regions whose label is likely wrong, in one pass over the images.

    Confident learning, Northcutt et al., https://arxiv.org/abs/1911.00068: t_j is the mean
    probability of class j over the pixels labelled j, and a pixel labelled i is counted as one of
    class j where p_j >= t_j and j is the likeliest of the classes for which that holds. Here a
    region with label i and prediction j counts if the mean of p_j over it is at least t_j. All
    means are over its inner pixels, those within 3x3 pixels of its label and prediction.

    The score, from 0 to 1, is the product of

    - doubt, min(1, -log10(p_i) / 4) of the mean p_i of the label: 1 where the model rules it out;
    - depth, D / (D + 0.01 sqrt(H W)), of the mean distance D to the nearest pixel that is no inner
      one: small for a strip along a boundary, where a correct model is unsure too;
    - fit, (1 + 5 IoU) / 6, of the labelled and the predicted segment (connected pixels of one
      class) around it, which share the region: 1 for an object drawn alike and named differently;
    - knowledge, sqrt(max(t_i, 0.01)): doubt about a class that the model hardly knows says little.

    It ranks and is no probability. `benchmarks/label_errors.py` measures it: doubt and depth alone
    find the errors best with a good model, but with a poor one they find what it has missed.

    Differs from the paper: it judges regions, not pixels; the suggestion always is the predicted
    class; the joint distribution is not calibrated and no number of errors estimated; the ranking
    is our own; the paper asks for predictions on images that the model was not trained on, which
    is up to the caller.

    A poor model finds its own errors, too: where it is wrong and sure of itself, a correct label
    ranks high.

    Example:
        >>> errors = LabelErrors(num_classes=2, ignore_index=255)
        >>> labels = torch.zeros(16, 16, dtype=torch.int64)
        >>> labels[:, 8:] = 1
        >>> probabilities = torch.stack([1.0 - labels, labels])
        >>> labels[4:10, 1:7] = 1
        >>> errors.update(0, "a", probabilities, labels)
        >>> [(issue.given, issue.suggested, issue.box) for issue in errors.result()]
        [(1, 0, (1, 4, 7, 10))]

    Args:
        num_classes: K, without the ignored label.
        ignore_index: The ignored label.
        kept: How many regions to remember; those of the lowest scores are dropped.
    """

    def __init__(self, num_classes: int, ignore_index: int, *, kept: int = KEPT) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.kept = kept
        self._sums = np.zeros(num_classes, np.int64)
        self._counts = np.zeros(num_classes, np.int64)
        self._candidates: list[_Candidate] = []

    @property
    def thresholds(self) -> np.ndarray:
        """t_j of each class, (K,); NaN for a class that no pixel is labelled with."""
        with np.errstate(invalid="ignore"):
            return self._sums * _UNIT / self._counts

    @property
    def knowledge(self) -> np.ndarray:
        """The last factor of the score for each class as a label, (K,)."""
        return np.sqrt(np.maximum(self.thresholds, _MIN_KNOWN))

    def update(
        self,
        index: int,
        name: str,
        probabilities: Tensor,
        labels: Tensor,
        ids: Tensor | None = None,
    ) -> None:
        """Add an image.

        Args:
            index: Its index in the dataset.
            name: The name of the sample.
            probabilities: (K, H, W) of each class, any float type.
            labels: (H, W) integers in 0..K-1, or `ignore_index`.
            ids: (H, W), the classes that are predicted; None: the most probable ones.

        Raises:
            ValueError: If the shapes do not match, or a label is no class.
        """
        self.update_planes(index, name, self.planes(probabilities, labels, ids))

    def update_planes(self, index: int, name: str, planes: Planes) -> None:
        """Add an image by its `planes()`."""
        cells = (planes.given + 1).ravel()  # cell 0 takes the ignored pixels
        sums = np.bincount(cells, planes.p_given.ravel(), self.num_classes + 1)[1:]
        self._sums += np.floor(sums / _UNIT).astype(np.int64)
        self._counts += np.bincount(cells, minlength=self.num_classes + 1)[1:]
        self._add(index, name, find_regions(planes))

    def result(self, limit: int = 100) -> list[LabelIssue]:
        """Return at most `limit` likely label errors, the likeliest first; ties by image, box."""
        thresholds, knowledge = self.thresholds, self.knowledge
        sure = (c for c in self._candidates if c.p_suggested >= thresholds[c.issue.suggested])
        issues = (c.issue for c in sure)
        scored = [i._replace(score=i.score * knowledge[i.given].item()) for i in issues]
        return sorted(scored, key=lambda issue: (-issue.score, issue))[:limit]

    def exchange(self) -> None:
        """All-reduce and gather what was found, so that every process has all images."""
        all_reduce_sum(torch.from_numpy(self._sums))
        all_reduce_sum(torch.from_numpy(self._counts))
        found = itertools.chain.from_iterable(all_gather_json(self._candidates))
        candidates = [
            _Candidate(score, LabelIssue(*issue)._replace(box=tuple(issue[-1])), p_suggested)
            for score, issue, p_suggested in found
        ]
        self._candidates = sorted(candidates)[: self.kept]

    @torch.no_grad()
    def planes(self, probabilities: Tensor, labels: Tensor, ids: Tensor | None = None) -> Planes:
        """Return the labels, predictions and probabilities that the regions follow from.

        Raises:
            ValueError: As `update`.
        """
        if probabilities.shape != (self.num_classes, *labels.shape):
            raise ValueError(
                f"expected probabilities ({self.num_classes}, H, W) and labels (H, W), got "
                f"{tuple(probabilities.shape)} and {tuple(labels.shape)}"
            )
        labels = labels.to(probabilities.device).long()
        valid = labels != self.ignore_index
        unknown = valid & ((labels < 0) | (labels >= self.num_classes))
        if unknown.any():
            raise ValueError(
                f"{int(unknown.sum())} labels are neither in 0..{self.num_classes - 1} nor "
                f"{self.ignore_index}"
            )
        suggested = probabilities.argmax(0) if ids is None else ids.to(probabilities.device)
        p_suggested = probabilities.gather(0, suggested.unsqueeze(0))[0]
        p_given = probabilities.gather(0, labels.where(valid, 0).unsqueeze(0))[0]
        given = labels.where(valid, -1)
        # These four are copied to the host, not K planes.
        found = given.int(), suggested.int(), p_given.float(), p_suggested.float()
        return Planes(*(plane.cpu().numpy() for plane in found))

    def _add(self, index: int, name: str, regions: Regions) -> None:
        """Keep the best of these regions and the former ones, best first."""
        scores = regions.scores
        for i in np.argsort(-scores, kind="stable")[: self.kept]:
            left, top, right, bottom = regions.boxes[i].tolist()
            issue = LabelIssue(
                index,
                name,
                given=regions.given[i].item(),
                suggested=regions.suggested[i].item(),
                score=scores[i].item(),
                pixels=regions.pixels[i].item(),
                box=(left, top, right, bottom),
            )
            candidate = _Candidate(-issue.score, issue, regions.p_suggested[i].item())
            self._candidates.append(candidate)
        self._candidates = sorted(self._candidates)[: self.kept]


class _Candidate(NamedTuple):
    """A region to remember; sorting puts the highest score first, and ties in a fixed order.

    The score is without the knowledge of the class, which only the last image completes.
    """

    minus_score: float
    issue: LabelIssue
    p_suggested: float


class Planes(NamedTuple):
    """An image's labels and predictions."""

    given: np.ndarray  # (H, W) int32 labels, -1 where ignored
    suggested: np.ndarray  # (H, W) int32, the class that is predicted
    # (H, W) float32, the probability of the label; anything where it is ignored.
    p_given: np.ndarray
    p_suggested: np.ndarray  # (H, W) float32, the probability of that class


class Regions(NamedTuple):
    """The N regions of an image in which one label meets one other prediction."""

    numbers: np.ndarray  # (H, W) int32: 1 to N in the regions, 0 elsewhere
    given: np.ndarray  # (N,) the class of the label
    suggested: np.ndarray  # (N,) the class of the prediction
    pixels: np.ndarray  # (N,) the number of pixels
    depth: np.ndarray  # (N,) mean distance of the inner pixels to the nearest pixel that is none
    p_given: np.ndarray  # (N,) mean probability of the label over the inner pixels
    p_suggested: np.ndarray  # (N,) mean probability of the prediction over the inner pixels
    # (N,) IoU of the labelled and the predicted segment around it, which share the region.
    fit: np.ndarray
    boxes: np.ndarray  # (N, 4) left, top, right, bottom; the last two exclusive

    @property
    def scores(self) -> np.ndarray:
        """(N,) as `LabelErrors` defines them, but for the knowledge of the class."""
        doubt = np.log10(np.maximum(self.p_given, _LEAST)) / np.log10(_LEAST)
        depth = self.depth / (self.depth + _DEPTH * np.sqrt(self.numbers.size))
        return doubt * depth * (_NO_FIT + (1 - _NO_FIT) * self.fit)


def find_regions(planes: Planes) -> Regions:
    """Find the regions of an image in which label and prediction differ.

    An inner pixel has one label and one prediction in the 3x3 pixels around it. A region is
    connected inner pixels and all pixels around them, so it is at least three pixels wide.
    """
    given, suggested = planes.given, planes.suggested
    # Inner pixels that touch are of one code: one pass finds the components of all codes.
    code = (given * (suggested.max() + 1) + suggested).astype(np.float32)
    inner = cv2.erode(code, _SQUARE) == cv2.dilate(code, _SQUARE)
    inner &= (given != suggested) & (given >= 0)
    mask = inner.view(np.uint8)
    count, cores, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    # A pixel beside two components of one code belongs to the later one.
    numbers = cv2.dilate(cores.astype(np.float32), _SQUARE).astype(np.int32)
    inner_at = np.flatnonzero(inner)
    owners = cores.ravel()[inner_at]

    seeds = np.zeros(count, np.intp)  # one inner pixel of each region
    seeds[owners] = inner_at
    seeds = seeds[1:]
    pixels = np.bincount(numbers.ravel(), minlength=count)[1:]
    labelled = _segment_pixels(given, seeds)
    predicted = _segment_pixels(np.where(given < 0, -1, suggested), seeds)

    def mean(plane: np.ndarray) -> np.ndarray:
        return np.bincount(owners, plane.ravel()[inner_at], count)[1:] / stats[1:, cv2.CC_STAT_AREA]

    return Regions(
        numbers=numbers,
        given=given.ravel()[seeds],
        suggested=suggested.ravel()[seeds],
        pixels=pixels,
        depth=mean(_distance_to_edge(mask)),
        p_given=mean(planes.p_given),
        p_suggested=mean(planes.p_suggested),
        fit=pixels / (labelled + predicted - pixels),
        boxes=_boxes(stats[1:], given.shape),
    )


def _segment_pixels(ids: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Count the connected pixels of one class around each seed, a flat index."""
    classes, found = ids.ravel()[seeds], np.zeros(len(seeds), np.int64)
    for class_id in np.unique(classes):
        area = (ids == class_id).view(np.uint8)
        _, segments, stats, _ = cv2.connectedComponentsWithStats(area, connectivity=8)
        own = classes == class_id
        found[own] = stats[segments.ravel()[seeds[own]], cv2.CC_STAT_AREA]
    return found


def _distance_to_edge(mask: np.ndarray) -> np.ndarray:
    # The border of the image is an edge too, or an image that is one region would have none.
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    return cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]


def _boxes(stats: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return boxes (N, 4) of components with the pixels around them."""
    left, top, width, height = stats[:, :4].T
    boxes = np.stack([left - 1, top - 1, left + width + 1, top + height + 1], axis=1)
    rows, columns = shape
    return np.clip(boxes, 0, [columns, rows, columns, rows])
