"""Expected calibration error: how far confidence and accuracy are apart."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from utils.config.types import PositiveInt
from utils.logits.to_labels import all_channels
from utils.metrics.confusion import ExactCounts, optional_floats

# Confidences are added up as integers in steps of 2^-24, the spacing of float32 between 1/2 and 1.
# So the sum does not depend on the order, also on a GPU; 2^39 pixels a bin fit.
_ONE = 2**24


@dataclasses.dataclass(frozen=True)
class CalibrationBin:
    """The pixels whose confidence lies in (low, high]; means are None where there is no pixel."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


class CalibrationMetrics(ExactCounts):
    """Expected and maximum calibration error, and the bins of a reliability diagram.

    A pixel's confidence is the probability of the class that is predicted there. With n_b pixels
    in bin b, ECE = sum_b n_b / N |accuracy_b - confidence_b|, and MCE is the largest of these
    differences (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

    Differs from the paper: nothing; a sample is a pixel, and bins have the same width.

    Nothing is read back before `compute`, so an update never waits for the device.

    Example:
        >>> metrics = CalibrationMetrics(ignore_index=255)
        >>> probabilities = torch.tensor([[0.75, 0.25]]).view(1, 2, 1, 1)
        >>> metrics.update_probabilities(probabilities, torch.tensor([[[0]]]))
        >>> metrics.compute()["ECE"]
        0.25

    Args:
        num_bins: Bins of equal width over confidences from 0 to 1, each without its lower and with
            its upper edge.
        ignore_index: The label of ignored pixels.
        device: Where the counts live.
    """

    def __init__(
        self,
        num_bins: PositiveInt = 15,
        ignore_index: int = 255,
        device: torch.device | str = "cpu",
    ) -> None:
        # Pixels, right ones, and the sum of confidences in each bin. A row more at the end takes
        # the ignored pixels, and one those that are no class or have no probability.
        super().__init__((num_bins + 2, 3), device)
        self.num_bins = num_bins
        self.ignore_index = ignore_index
        self._edges = torch.linspace(0, 1, num_bins + 1, device=device)

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch of logits.

        Args:
            logits: (B, K, H, W); or (B, 1, H, W) for two classes, the logit of class 1.
            labels: (B, H, W) integers in 0..K-1, or `ignore_index`.

        Raises:
            ValueError: If the shapes do not match.
        """
        self.update_probabilities(all_channels(logits).float().softmax(1), labels)

    @torch.no_grad()
    def update_probabilities(
        self, probabilities: Tensor, labels: Tensor, ids: Tensor | None = None
    ) -> None:
        """Count a batch of probabilities.

        Args:
            probabilities: (B, K, H, W) that add up to 1; or (B, 1, H, W) for two classes, the
                probability of class 1.
            labels: (B, H, W) integers in 0..K-1, or `ignore_index`.
            ids: (B, H, W), the classes that are predicted; None: the most probable ones.

        Raises:
            ValueError: If the shapes do not match.
        """
        if probabilities.shape[1] == 1:
            probabilities = torch.cat([1 - probabilities, probabilities], 1)
        probabilities = probabilities.float()
        largest, likeliest = probabilities.max(1)
        ids = likeliest if ids is None else ids
        if not largest.shape == ids.shape == labels.shape:
            raise ValueError(
                f"probabilities {tuple(probabilities.shape)}, ids {tuple(ids.shape)} and labels "
                f"{tuple(labels.shape)} differ in shape"
            )
        confidence = probabilities.gather(1, ids.unsqueeze(1))[:, 0]
        labels = labels.long()
        known = (labels >= 0) & (labels < probabilities.shape[1])
        # A little above 1 is rounding; NaN fails every comparison.
        known &= (largest > 0) & (largest < 1 + 1e-3) & (confidence >= 0)
        bins = torch.bucketize(confidence, self._edges[1:-1])
        bins = torch.where(known, bins, self.num_bins + 1)
        bins = torch.where(labels == self.ignore_index, self.num_bins, bins).reshape(-1)
        steps = torch.where(known, confidence.clamp_max(1) * _ONE, 0).round().long()
        values = [torch.ones_like(bins), (ids == labels).reshape(-1).long(), steps.reshape(-1)]
        for column, value in enumerate(values):
            self.counts[:, column].scatter_add_(0, bins, value)

    def compute(self) -> dict[str, Any]:
        """Return every metric as Python numbers.

        Returns:
            `ECE`, `MCE`, `Mean_Confidence`, `Pixel_Accuracy`, NaN without a pixel; and `Bins`, a
            list of `CalibrationBin`.

        Raises:
            ValueError: If labels came that are no class, or values that are no probability.
        """
        wrong = int(self.counts[-1, 0])
        if wrong:
            raise ValueError(
                f"{wrong} pixels have a label that is neither a class nor {self.ignore_index}, or "
                "values that are no probabilities; logits go to update()"
            )
        pixels, right, steps = self.counts[: self.num_bins].cpu().unbind(1)
        confidence = steps.double() / _ONE
        gaps = (right - confidence).abs()
        total = pixels.sum()
        edges = [i / self.num_bins for i in range(self.num_bins + 1)]
        columns = (
            edges[:-1],
            edges[1:],
            pixels.tolist(),
            optional_floats(confidence / pixels),
            optional_floats(right.double() / pixels),
        )
        return {
            "ECE": (gaps.sum() / total).item(),
            "MCE": (gaps / pixels).nan_to_num().max().item() if total else math.nan,
            "Mean_Confidence": (confidence.sum() / total).item(),
            "Pixel_Accuracy": (right.sum().double() / total).item(),
            "Bins": [CalibrationBin(*row) for row in zip(*columns, strict=True)],
        }
