"""Exact search for the probability threshold of class 1, over many thresholds at once."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from utils.metrics.confusion import ExactCounts
from utils.samples.pairing import Sample

SearchedMetric = Literal["Mean_IoU", "IoU", "Dice"]


class BestThreshold(NamedTuple):
    """The result of a search."""

    # Class 1 is where its probability is at least this, see `predict_labels()`, a value that
    # float32 has.
    threshold: float
    score: float  # the metric at this threshold, NaN without a labelled pixel
    score_at_half: float  # the metric at 0.5
    confusion: Tensor  # pixel counts (2, 2) int64 at this threshold; rows are labels


class ThresholdSearch(ExactCounts):
    """Counts of pixels by label and probability of class 1, as exact integers on the device.

    confusion(t) = counts of (label, p >= t) for every t in {0, 1/bins, 2/bins, ..., 1}: the bins'
    edges are the candidates, so that what is found is what predicting with `p >= t` gives, to the
    pixel. Nothing is read back before `best`, so an update never waits for the device.

    Example:
        >>> search = ThresholdSearch(ignore_index=255)
        >>> search.update(torch.tensor([[0.1, 0.3, 0.4]]), torch.tensor([[0, 1, 1]]))
        >>> best = search.best("Dice")
        >>> round(best.threshold, 3), best.score
        (0.3, 1.0)

    Args:
        ignore_index: The label of ignored pixels.
        bins: How many steps there are from 0 to 1; an even number, so that 0.5 is one of them.
        device: Where the counts live.

    Raises:
        ValueError: If `bins` is not a positive even number.
    """

    def __init__(
        self, ignore_index: int, *, bins: int = 1000, device: torch.device | str = "cpu"
    ) -> None:
        if bins % 2 or bins < 2:
            raise ValueError(f"bins: expected a positive even number, got {bins}")
        # Of each label one cell for every number of edges that a probability can have reached;
        # then one for ignored pixels, and one for labels that are no class.
        super().__init__((2 * (bins + 2) + 2,), device)
        self.ignore_index = ignore_index
        self.bins = bins
        # Divided in float64 and rounded once: 1/2 is 0.5 and bins/bins is 1.
        edges = torch.arange(bins + 1, dtype=torch.float64) / bins
        self.thresholds = edges.to(device=device, dtype=torch.float32)  # (bins + 1,)

    @torch.no_grad()
    def update(self, probability: Tensor, labels: Tensor) -> None:
        """Count a batch.

        Args:
            probability: That of class 1, (B, H, W) float32 in 0..1; see `probability_of_second()`.
            labels: (B, H, W) integers, 0, 1 or `ignore_index`.

        Raises:
            ValueError: If the shapes differ.
        """
        if probability.shape != labels.shape:
            raise ValueError(
                f"probabilities {tuple(probability.shape)} and labels {tuple(labels.shape)} differ "
                "in shape"
            )
        # NaN is no number >= t, but would sort behind all of them.
        values = probability.reshape(-1).float().nan_to_num(nan=-1.0)
        reached = torch.bucketize(values, self.thresholds, right=True)  # how many t <= p
        labels = labels.reshape(-1).long()
        ignored = 2 * (self.bins + 2)
        cells = labels * (self.bins + 2) + reached
        cells = torch.where((labels == 0) | (labels == 1), cells, ignored + 1)
        self.add_cells(torch.where(labels == self.ignore_index, ignored, cells))

    def labelled(self) -> tuple[int, int]:
        """Return how many pixels are labelled as the first and as the second class."""
        first, second = self.counts[:-2].view(2, self.bins + 2).sum(1).tolist()
        return first, second

    def confusions(self) -> Tensor:
        """Return pixel counts (bins + 1, 2, 2) int64 on the CPU, by threshold; rows are labels.

        Raises:
            ValueError: If labels came that are neither 0, 1 nor `ignore_index`.
        """
        counts = self.counts.cpu()
        if counts[-1]:
            raise ValueError(
                f"{int(counts[-1])} labels are neither 0, 1 nor {self.ignore_index}; a threshold "
                "is for two classes"
            )
        by_label = counts[:-2].view(2, self.bins + 2)
        # A pixel that has reached n edges is of class 0 for thresholds n, n + 1, ...
        as_zero = by_label.cumsum(1)[:, :-1]
        as_one = by_label.sum(1, keepdim=True) - as_zero
        return torch.stack([as_zero, as_one], dim=2).permute(1, 0, 2)

    def curve(self, metric: SearchedMetric = "Mean_IoU") -> Tensor:
        """Return the metric at each of `thresholds`, (bins + 1,) float64 on the CPU.

        NaN where no pixel is labelled or predicted as what the metric is about.

        Args:
            metric: `"Mean_IoU"` over both classes, or `"IoU"` or `"Dice"` of class 1. These two
                always agree on what is best: Dice = 2 IoU / (1 + IoU).

        Raises:
            ValueError: If there is no such metric, or a label was no class.
        """
        if metric not in get_args(SearchedMetric):
            known = ", ".join(get_args(SearchedMetric))
            raise ValueError(f"there is no metric {metric!r} to search by; choose from {known}")
        confusion = self.confusions().double()
        right = confusion.diagonal(dim1=1, dim2=2)  # (bins + 1, 2)
        either = confusion.sum(1) + confusion.sum(2)
        if metric == "Mean_IoU":
            return (right / (either - right)).nanmean(1)
        if metric == "IoU":
            return (right / (either - right))[:, 1]
        return (2 * right / either)[:, 1]

    def best(self, metric: SearchedMetric = "Mean_IoU") -> BestThreshold:
        """Return the threshold that scores best; of several the one nearest to 0.5, then the lower.

        It is 0.5 where the labels have one class only (see `labelled()`): the best would be to
        predict nothing else, whatever the image.

        Raises:
            ValueError: If there is no such metric, or a label was no class.
        """
        scores = self.curve(metric)
        half = self.bins // 2
        ranked = scores.nan_to_num(nan=-1.0)
        distance = (torch.arange(self.bins + 1) - half).abs()
        distance[ranked < ranked.max()] = self.bins  # further than any
        index = int(distance.argmin()) if all(self.labelled()) else half
        return BestThreshold(
            threshold=self.thresholds[index].item(),
            score=scores[index].item(),
            score_at_half=scores[half].item(),
            confusion=self.confusions()[index],
        )


def search_record(
    best: BestThreshold,
    metric: SearchedMetric,
    *,
    samples: Sequence[Sample],
    dataset: str,
    split: str,
    mode: str,
) -> dict[str, Any]:
    """Return where a threshold comes from: `meta["threshold_search"]` of a checkpoint."""
    return {
        "split": split,
        "dataset": dataset,
        "pictures": digest_of(samples),
        "mode": mode,
        "figure": metric,
        "score": best.score,
        "score_at_half": best.score_at_half,
    }


def recorded_search(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `search_record()` has put into `meta`; empty if no threshold was searched."""
    return (meta.get("threshold_search") or {}) if meta.get("threshold") is not None else {}


def digest_of(samples: Sequence[Sample]) -> str:
    """Return a digest that is the same for the same images in any folder and order."""
    names = sorted("/".join((one.name, *Path(one.image).parts[-2:])) for one in samples)
    return hashlib.sha256("\0".join(names).encode(errors="surrogatepass")).hexdigest()
