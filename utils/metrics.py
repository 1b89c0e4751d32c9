"""The confusion matrix, and every figure derived from it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class SegmentationMetrics:
    """Counts of (label, prediction) pairs, as exact integers on the device.

    Nothing is read back before `compute`, so an update never waits for the device.

    Differs from many implementations: a class that occurs in neither labels nor predictions has no
    IoU and is left out of the mean, instead of counting as 0.

    Example:
        >>> metrics = SegmentationMetrics(num_classes=3, ignore_index=255)
        >>> metrics.update(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, 255]]))
        >>> metrics.compute()["Mean_IoU"]
        1.0

    Args:
        num_classes: K, without the ignored label.
        ignore_index: The label that does not count.
        device: Where the counts live.
    """

    def __init__(
        self, num_classes: int, ignore_index: int, device: torch.device | str = "cpu"
    ) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        # One more cell at the end takes the ignored pixels, and one the labels that are no class.
        self._counts = torch.zeros(num_classes**2 + 2, dtype=torch.int64, device=device)

    def reset(self) -> None:
        """Forget everything."""
        self._counts.zero_()

    @torch.no_grad()
    def update(self, logits_or_ids: Tensor, labels: Tensor) -> None:
        """Count a batch.

        Args:
            logits_or_ids: Logits (B, K, H, W), or class ids with the shape of `labels`.
            labels: (B, H, W) integers in 0..K-1, or `ignore_index`.

        Raises:
            ValueError: If the shapes do not belong together.
        """
        ids = logits_or_ids
        if ids.ndim == labels.ndim + 1:
            ids = ids.argmax(1)
        if ids.shape != labels.shape:
            raise ValueError(
                f"predictions {tuple(ids.shape)} and labels {tuple(labels.shape)} differ in shape"
            )
        k = self.num_classes
        labels = labels.reshape(-1).long()
        cells = labels * k + ids.reshape(-1).long()
        cells = torch.where((labels >= 0) & (labels < k), cells, k * k + 1)
        cells = torch.where(labels == self.ignore_index, k * k, cells)
        if cells.device.type == "cpu":
            self._counts += torch.bincount(cells, minlength=k * k + 2)
        else:
            # bincount would wait for the device to learn the size of its output.
            self._counts.scatter_add_(0, cells, torch.ones_like(cells))

    @property
    def confusion(self) -> Tensor:
        """Counts (K, K) int64: rows are labels, columns predictions."""
        return self._counts[: self.num_classes**2].view(self.num_classes, self.num_classes)

    def class_iou(self) -> Tensor:
        """IoU of each class, (K,) float64 on the device; NaN where the class does not occur."""
        confusion = self.confusion.double()
        true_positives = confusion.diag()
        # 0 / 0 is NaN: neither labelled nor predicted.
        return true_positives / (confusion.sum(0) + confusion.sum(1) - true_positives)

    def mean_iou(self) -> Tensor:
        """Mean IoU over the classes that occur, a scalar on the device."""
        return self.class_iou().nanmean()

    def compute(self) -> dict[str, Any]:
        """Every figure, as Python numbers.

        Returns:
            `Pixel_Accuracy`, `Mean_Accuracy`, `Mean_IoU`, and `Class_IoU`: a list of length K with
            None for a class that does not occur. A figure over no pixel at all is NaN.

        Raises:
            ValueError: If labels came that are neither a class nor `ignore_index`.
        """
        counts = self._counts.cpu()
        if counts[-1]:
            raise ValueError(
                f"{int(counts[-1])} labels are neither in 0..{self.num_classes - 1} nor "
                f"{self.ignore_index}"
            )
        confusion = self.confusion.double().cpu()
        true_positives = confusion.diag()
        accuracies = true_positives / confusion.sum(1)
        ious = self.class_iou().cpu()
        return {
            "Pixel_Accuracy": (true_positives.sum() / confusion.sum()).item(),
            "Mean_Accuracy": accuracies.nanmean().item(),
            "Mean_IoU": ious.nanmean().item(),
            "Class_IoU": [None if iou.isnan() else iou.item() for iou in ious],
        }

    def state_dict(self) -> dict[str, Tensor]:
        """The counts."""
        return {"counts": self._counts.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the counts that `state_dict` gave."""
        self._counts.copy_(state["counts"])
