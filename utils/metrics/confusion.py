"""The confusion matrix, and every metric derived from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

# The metrics of `metrics_of()` that are one number: what one run is compared with another by.
SCALAR_METRICS = (
    "Pixel_Accuracy",
    "Mean_Accuracy",
    "Mean_IoU",
    "Mean_Dice",
    "FWIoU",
    "Precision",
    "Recall",
    "Kappa",
)


MEANS = ("Mean_Accuracy", "Mean_IoU", "Mean_Dice", "Precision", "Recall")  # over classes


def name_of(metric: str, labelled_classes: int | None) -> str:
    """Return a metric's name for people: a mean says if one class alone is labelled.

    Such a mean is nearly always perfect, and means nothing.
    """
    return f"{metric} (one class labelled)" if metric in MEANS and labelled_classes == 1 else metric


class ExactCounts:
    """Integers that add up: over batches, images and processes, in any order.

    All that a metric knows is the one int64 tensor `counts`. Summing it over processes (one
    all-reduce) is merging their metrics, to the last digit.

    Args:
        shape: Shape of `counts`.
        device: Where they live.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self.counts = torch.zeros(shape, dtype=torch.int64, device=device)

    def reset(self) -> None:
        """Forget everything."""
        self.counts.zero_()

    def merge(self, other: ExactCounts) -> None:
        """Add what another one has counted, as if its updates had come here.

        Raises:
            ValueError: If the other is of another kind, or counts by other rules.
        """
        if type(self) is not type(other) or self._rules() != other._rules():
            raise ValueError(
                f"cannot add {type(other).__name__} {other._rules()} to "
                f"{type(self).__name__} {self._rules()}; both must have the same settings"
            )
        self.counts += other.counts.to(self.counts.device)

    def _rules(self) -> dict[str, Any]:
        return {name: rule for name, rule in vars(self).items() if not isinstance(rule, Tensor)}

    def add_cells(self, cells: Tensor) -> None:
        """Count each of these indices (N,) into one-dimensional counts."""
        if cells.device.type == "cpu":
            self.counts += torch.bincount(cells, minlength=len(self.counts))
        else:
            # bincount would wait for the device to learn the size of its output.
            self.counts.scatter_add_(0, cells, torch.ones_like(cells))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the counts."""
        return {"counts": self.counts.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the counts that `state_dict` gave."""
        self.counts.copy_(state["counts"])


class SegmentationMetrics(ExactCounts):
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
        ignore_index: The label of ignored pixels.
        device: Where the counts live.
    """

    def __init__(
        self, num_classes: int, ignore_index: int, device: torch.device | str = "cpu"
    ) -> None:
        # One more cell at the end takes the ignored pixels, and one those that are no class.
        super().__init__((num_classes**2 + 2,), device)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    @torch.no_grad()
    def update(self, logits_or_ids: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> None:
        """Count a batch.

        Args:
            logits_or_ids: Logits (B, K, H, W); or, for two classes, (B, 1, H, W), where a positive
                one means class 1; or class ids with the shape of `labels`.
            labels: (B, H, W) integers in 0..K-1, or `ignore_index`; with ids, of any shape.

        Raises:
            ValueError: If the shapes do not match, or ids or labels are no integers.
        """
        k = self.num_classes
        predictions, labels = torch.as_tensor(logits_or_ids), torch.as_tensor(labels)
        ids = self._ids(predictions, labels).reshape(-1)
        labels = labels.reshape(-1).long()
        known = (labels >= 0) & (labels < k) & (ids >= 0) & (ids < k)
        cells = torch.where(known, labels * k + ids, k * k + 1)
        self.add_cells(torch.where(labels == self.ignore_index, k * k, cells))

    def _ids(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Return the predicted classes, int64 in the labels' shape; -1 where logits are NaN."""
        is_logits = predictions.ndim == 4 and labels.ndim == 3
        if labels.is_floating_point() or (predictions.is_floating_point() and not is_logits):
            raise ValueError(
                f"got predictions {tuple(predictions.shape)} of {predictions.dtype} and labels "
                f"{tuple(labels.shape)} of {labels.dtype}; expected logits (B, K, H, W) with "
                "labels (B, H, W), or integers of one shape"
            )
        ids = predictions.long()
        if is_logits:
            ids = predicted_ids(predictions, self.num_classes)
            ids = ids.where(~predictions.amax(1).isnan(), -1)
        if ids.shape != labels.shape:
            raise ValueError(
                f"predictions {tuple(predictions.shape)} and labels {tuple(labels.shape)} "
                "differ in shape"
            )
        return ids

    @property
    def confusion(self) -> Tensor:
        """Counts (K, K) int64: rows are labels, columns predictions."""
        return self.counts[: self.num_classes**2].view(self.num_classes, self.num_classes)

    def class_iou(self) -> Tensor:
        """Return the IoU of each class, (K,) float64 on the device; NaN if it does not occur."""
        true_positives, labelled, predicted = _totals(self.confusion)
        # 0 / 0 is NaN: neither labelled nor predicted.
        return true_positives.double() / (labelled + predicted - true_positives)

    def mean_iou(self) -> Tensor:
        """Return the mean IoU over the classes that occur, a scalar on the device."""
        return self.class_iou().nanmean()

    def labelled_classes(self) -> int:
        """Return how many classes have a labelled pixel; waits for the device."""
        return int((self.confusion.sum(1) > 0).sum())

    def compute(self) -> dict[str, Any]:
        """Return every metric as Python numbers: `metrics_of(confusion)`.

        Raises:
            ValueError: If labels came that are neither a class nor `ignore_index`, ids that are
                no class, or logits that are NaN.
        """
        counts = self.counts.cpu()
        if counts[-1]:
            raise ValueError(
                f"{int(counts[-1])} labels are neither in 0..{self.num_classes - 1} nor "
                f"{self.ignore_index}, or the prediction there is NaN or no class"
            )
        return metrics_of(self.confusion)


def predicted_ids(logits: Tensor, num_classes: int) -> Tensor:
    """Return the class of each pixel.

    Args:
        logits: (B, K, ...); or (B, 1, ...) for two classes, class 1 where it is positive.
        num_classes: K.

    Returns:
        (B, ...) int64.

    Raises:
        ValueError: If there are not as many channels as classes.
    """
    channels = logits.shape[1]
    if channels == num_classes:
        return logits.argmax(1)
    if channels == 1 and num_classes == 2:
        return (logits[:, 0] > 0).long()
    expected = "2 channels, or 1" if num_classes == 2 else f"{num_classes} channels"
    raise ValueError(
        f"logits of {num_classes} classes have {expected}, got shape {tuple(logits.shape)}"
    )


def metrics_of(confusion: Tensor | np.ndarray) -> dict[str, Any]:
    """Return every metric that follows from a confusion matrix.

    With t_i the pixels of class i that are predicted as i, n_i those labelled and m_i those
    predicted as i, and N all pixels:

    - `Class_IoU` t_i / (n_i + m_i - t_i), `Class_Dice` 2 t_i / (n_i + m_i),
      `Class_Precision` t_i / m_i, `Class_Recall` t_i / n_i. A class that is neither labelled nor
      predicted has none of them (None); of one that is only labelled the precision, and of one
      that is only predicted the recall, is 0.
    - `Mean_IoU`, `Mean_Dice`, `Precision`, `Recall`: their means over the classes that have one.
    - `Pixel_Accuracy` sum t_i / N; `FWIoU` sum n_i IoU_i / N.
    - `Mean_Accuracy`: mean of t_i / n_i over the labelled classes alone.
    - `Kappa` (p - e) / (1 - e), with p the pixel accuracy and e = sum n_i m_i / N^2, the accuracy
      of chance (Cohen 1960, https://doi.org/10.1177/001316446002000104).

    Example:
        >>> metrics_of(torch.tensor([[3, 1], [0, 4]]))["Class_IoU"]
        [0.75, 0.8]

    Args:
        confusion: Counts (K, K): rows are labels, columns predictions.

    Returns:
        `SCALAR_METRICS`, NaN where there is nothing to divide by; and the four lists of length K.
    """
    confusion = torch.as_tensor(confusion).cpu()
    true_positives, labelled, predicted = _totals(confusion)
    count, right = labelled.sum(), true_positives.sum()
    occurs = labelled + predicted > 0

    def ratio(part: Tensor, whole: Tensor) -> Tensor:
        return torch.where(occurs, part.double() / whole.clamp_min(1), torch.nan)

    classes = {
        "IoU": ratio(true_positives, labelled + predicted - true_positives),
        "Dice": ratio(2 * true_positives, labelled + predicted),
        "Precision": ratio(true_positives, predicted),
        "Recall": ratio(true_positives, labelled),
    }
    # 1 - (1 - p) / (1 - e): written so, nothing cancels where nearly all is right, or one class.
    by_chance = (labelled.double() * (count - predicted)).sum()
    scalars = {
        "Pixel_Accuracy": right.double() / count,
        "Mean_Accuracy": (true_positives.double() / labelled).nanmean(),
        "Mean_IoU": classes["IoU"].nanmean(),
        "Mean_Dice": classes["Dice"].nanmean(),
        "FWIoU": (labelled * classes["IoU"]).nansum() / count,
        "Precision": classes["Precision"].nanmean(),
        "Recall": classes["Recall"].nanmean(),
        "Kappa": 1 - (count - right).double() * count / by_chance,
    }
    metrics: dict[str, Any] = {name: scalars[name].item() for name in SCALAR_METRICS}
    return metrics | {f"Class_{name}": optional_floats(values) for name, values in classes.items()}


def optional_floats(values: Tensor) -> list[float | None]:
    """Return Python numbers, with None for NaN."""
    return [None if value != value else value for value in values.tolist()]


def _totals(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each class's true positives, labelled and predicted pixels: (K,) int64 each."""
    return confusion.diag(), confusion.sum(1), confusion.sum(0)
