"""Max unpooling without a scatter."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layout import crop, keep_layout


def unpool(
    features: Tensor, indices: Tensor, size: Sequence[int], *, kernel_size: int = 2
) -> Tensor:
    """Return values at the indices that max pooling with stride 2 took them from, zeros elsewhere.

    The same numbers as `F.max_unpool2d`, which is not deterministic on CUDA and does not know the
    size that was rounded up. Where two overlapping windows took the same pixel, the lower or right
    one counts.

    Args:
        features: (B, C, h, w).
        indices: The indices that the pooling returned, of the same shape.
        size: (H, W) before the pooling: `h` is ceil(H / 2), and `w` ceil(W / 2).
        kernel_size: 2, or 3 with a padding of 1.

    Returns:
        (B, C, H, W).
    """
    batch, channels, rows, columns = features.shape
    height, width = size
    row = torch.arange(2 * rows, device=features.device)[:, None]
    column = torch.arange(2 * columns, device=features.device)
    positions = (row * width + column).view(rows, 2, columns, 2)
    # Each 2x2 cell is compared only with the windows that reach into it: that of the same number
    # and, if windows overlap, the next ones down and to the right.
    reach = range(kernel_size - 1)
    unpooled = features.new_zeros(())
    for down, right in ((down, right) for down in reach for right in reach):
        index, value = indices, features
        if down or right:
            shift = (-right, right, -down, down)
            index, value = F.pad(indices, shift, value=-1), F.pad(features, shift)
        chosen = index[:, :, :, None, :, None] == positions
        unpooled = torch.where(chosen, value[:, :, :, None, :, None], unpooled)
    unpooled = unpooled.reshape(batch, channels, 2 * rows, 2 * columns)
    return crop(keep_layout(unpooled, features), height, width)
