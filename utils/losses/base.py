"""The base of the losses: logits, ignored pixels, class weights."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
import torch
from torch import Tensor, nn

from utils.config.types import NonNegativeFloat
from utils.distributed.collectives import batch_sum
from utils.logits.coarse_logits import CoarseLogits, Logits
from utils.logits.to_labels import all_channels

ClassWeights = Annotated[list[NonNegativeFloat], msgspec.Meta(min_length=1)] | Literal["auto"]


class SegmentationLoss(nn.Module):
    """A scalar for how wrong logits are, over the valid pixels.

    A subclass gives `value()`, for which everything is prepared: ignored pixels are marked, labels
    are classes everywhere, logits are at least float32 (autocast is off: sums over an image lose
    too much in 16 bits), and a single logit z of a binary problem has become the pair (0, z), whose
    softmax is the sigmoid of z.

    A loss with a state changes it only in training mode, as a BatchNorm does.

    Args:
        class_weights: A factor for each class (for its pixels, or for its term of a mean over the
            classes), length K; none weighs all alike. `"auto"` in a config means weights from the
            training labels.
        ignore_index: The label of ignored pixels; any integer.

    Raises:
        ValueError: If a weight is negative or not finite, or is still `"auto"`.
    """

    renamed_args: ClassVar[dict[str, str]] = {"weight": "class_weights"}
    """Arguments under their former names, and the present ones."""

    takes_coarse_logits: ClassVar[bool] = False
    """Whether `value()` also takes `CoarseLogits`; they are upsampled for the other losses."""

    weighs_foreground: ClassVar[bool] = False
    """Whether the loss uses the foreground mask of the dataset."""

    class_weights: Tensor | None

    def __init__(self, class_weights: ClassWeights | None = None, ignore_index: int = 255) -> None:
        super().__init__()
        if class_weights == "auto":
            raise ValueError(
                'class_weights: "auto" is computed by train.py from the training labels; give '
                "one number for each class here"
            )
        self.ignore_index = ignore_index
        values = None
        if class_weights is not None:
            values = torch.tensor(class_weights, dtype=torch.float32)
            if not (values >= 0).all() or not values.isfinite().all():
                raise ValueError(
                    f"class_weights: must be finite and not negative, got {list(class_weights)}"
                )
            if not values.any():
                raise ValueError("class_weights: every weight is 0, so nothing would be learned")
        # Not part of a checkpoint's weights: the config holds it.
        self.register_buffer("class_weights", values, persistent=False)

    def forward(self, logits: Logits, labels: Tensor, foreground: Tensor | None = None) -> Tensor:
        """Return the loss of a batch.

        Args:
            logits: (B, K, H, W), any float type; or (B, 1, H, W) of a binary problem.
            labels: (B, H, W) int64 in 0..K-1, or `ignore_index`.
            foreground: (B, H, W) bool, where the objects are; only losses that weigh regions look
                at it.

        Returns:
            A scalar, 0 with zero gradient where no pixel is valid.

        Raises:
            ValueError: If the shapes do not match, or there are not as many class weights
                as classes.
        """
        shape = tuple(logits.shape)
        if len(shape) != 4 or labels.shape != (shape[0], *shape[2:]):
            raise ValueError(
                f"logits {shape} and labels {tuple(labels.shape)} do not belong "
                "together; expected (B, K, H, W) and (B, H, W)"
            )
        if isinstance(logits, CoarseLogits) and not self.takes_coarse_logits:
            logits = logits.full()
        with torch.autocast(logits.device.type, enabled=False):
            if isinstance(logits, CoarseLogits):
                prepared: Any = logits._replace(values=_prepared(logits.values))
            else:
                prepared = _prepared(logits)
            self._check_weights(prepared.shape[1])
            valid = labels != self.ignore_index
            labels = labels.where(valid, 0)
            if foreground is None:
                return self.value(prepared, labels, valid)
            return self.value_with_foreground(prepared, labels, valid, foreground)

    def value(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of a prepared batch.

        Args:
            logits: (B, K, H, W) float32 or float64, K at least 2.
            labels: (B, H, W) int64 in 0..K-1, 0 where ignored.
            valid: (B, H, W) bool, the valid pixels.

        Returns:
            A scalar, 0 with zero gradient where no pixel is valid.
        """
        raise NotImplementedError

    def value_with_foreground(
        self, logits: Tensor, labels: Tensor, valid: Tensor, foreground: Tensor
    ) -> Tensor:
        """Return `value()` of a loss that weighs regions; the others ignore `foreground`."""
        return self.value(logits, labels, valid)

    def pixel_weights(self, labels: Tensor, valid: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the class weight of each pixel's label, 0 where ignored: (B, H, W)."""
        if self.class_weights is None:
            return valid.to(dtype)
        return self.class_weights.to(dtype)[labels] * valid

    def pixel_mean(self, values: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Return the mean of values (B, H, W) over the valid pixels, weighted by class."""
        weights = self.pixel_weights(labels, valid, values.dtype)
        return batch_ratio((values * weights).sum(), weights.sum())

    def class_mean(self, values: Tensor, present: Tensor) -> Tensor:
        """Return the mean of values over classes, weighted by class, then over rows that have any.

        Args:
            values: (K,), one for each class, or (R, K).
            present: The classes that take part, bool of the same shape.
        """
        weights = present.to(values.dtype)
        if self.class_weights is not None:
            weights = weights * self.class_weights.to(values.dtype)
        sums = weights.sum(-1)
        rows = safe_ratio((values * weights).sum(-1), sums)
        if rows.ndim == 0:
            return rows
        # Rows are images, of which each process has its own.
        return batch_ratio(rows.sum(), (sums > 0).sum().to(rows.dtype))

    def _check_weights(self, num_classes: int) -> None:
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(
                f"class_weights: {len(self.class_weights)} class weights for {num_classes} classes"
            )


def _prepared(logits: Tensor) -> Tensor:
    """Return logits in at least float32, and a single logit z as the pair (0, z)."""
    return all_channels(logits.to(torch.promote_types(logits.dtype, torch.float32)))


def safe_ratio(total: Tensor, count: Tensor) -> Tensor:
    """Return `total / count`, and 0 where both are 0, which would be NaN."""
    # Not 0 / tiny: the gradient 1 / tiny, times the weight of a loss, is infinite.
    return total / count.where(count > 0, 1)


def batch_ratio(total: Tensor, count: Tensor) -> Tensor:
    """Return the `safe_ratio` of two sums, scalars, over the pixels or images of a batch.

    Inside `whole_batch()`, both are first summed over all processes.
    """
    return safe_ratio(*batch_sum(torch.stack([total, count])).unbind())


def picked(values: Tensor, labels: Tensor, dim: int = 1) -> Tensor:
    """Return each label's value (B, H, W) of values (B, K, H, W), or with classes at `dim`.

    Unlike torch's 2-D cross-entropy, a gather has a deterministic form on CUDA.
    """
    return values.gather(dim, labels.unsqueeze(dim)).squeeze(dim)
