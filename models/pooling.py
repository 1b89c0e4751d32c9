"""Adaptive average pooling as two matrix products."""

import torch
from torch import Tensor, nn

from models.layout import keep_layout


def bin_weights(size: int, bins: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the matrix (bins, size) that averages `size` values into `bins` overlapping bins.

    Bin i covers the values from floor(i * size / bins) to ceil((i + 1) * size / bins); its row is
    1 / (number of values) there and 0 elsewhere.
    """
    index = torch.arange(bins, device=device)[:, None]
    position = torch.arange(size, device=device)
    start = index * size // bins
    end = ((index + 1) * size + bins - 1) // bins
    inside = ((position >= start) & (position < end)).to(dtype)
    return inside / inside.sum(dim=1, keepdim=True)


def adaptive_average_pool(features: Tensor, bins: int) -> Tensor:
    """Average (B, C, H, W) into (B, C, bins, bins); the same numbers as `F.adaptive_avg_pool2d`.

    torch's own has no deterministic backward on CUDA, and its ONNX export is right at the traced
    size only. This one has neither fault.
    """
    device_type = features.device.type
    if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
        # Half precision would round the weights: 1/11 alone is 0.1% off in bfloat16.
        with torch.autocast(device_type, enabled=False):
            return _pool(features, bins)
    return _pool(features, bins)


def _pool(features: Tensor, bins: int) -> Tensor:
    height, width = features.shape[2:]
    precise = features.dtype if features.dtype == torch.float64 else torch.float32
    rows = bin_weights(height, bins, features.device, precise)
    columns = bin_weights(width, bins, features.device, precise)
    features_precise = features.to(precise)
    if features.is_contiguous() or not features.is_contiguous(memory_format=torch.channels_last):
        pooled = rows @ (features_precise @ columns.T)  # (B, C, bins, bins)
    else:
        # The same products in this layout: the matrices above would have to be copied.
        batch, channels = features.shape[:2]
        cells = features_precise.permute(0, 2, 3, 1)  # (B, H, W, C)
        rows_pooled = rows @ cells.reshape(batch, height, width * channels)
        pooled = columns @ rows_pooled.view(batch, bins, width, channels)  # (B, bins, bins, C)
        pooled = pooled.permute(0, 3, 1, 2)
    return keep_layout(pooled.to(features.dtype), features)


class AveragePool(nn.Module):
    """Averages over a grid of bins x bins cells.

    Args:
        bins: Cells along each side.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, bins, bins)."""
        return adaptive_average_pool(features, self.bins)

    def extra_repr(self) -> str:
        """Return what `print(model)` shows of this module."""
        return f"bins={self.bins}"
