"""Resizing and cropping that keep the memory layout and export for every size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.logits.coarse_logits import CoarseLogits, Logits

if TYPE_CHECKING:
    from base.base_model import BaseModel


def keep_layout(features: Tensor, like: Tensor) -> Tensor:
    """Return the features, channels last in memory if `like` is.

    Joining maps of two layouts copies all of them and slows the next convolutions down.
    """
    if like.is_contiguous(memory_format=torch.channels_last):
        return features.contiguous(memory_format=torch.channels_last)
    return features


def resize_like(features: Tensor, like: Tensor, *, align_corners: bool) -> Tensor:
    """Resize bilinearly to the height, width and memory layout of another map.

    Args:
        features: (B, C, h, w).
        like: (B, any, H, W).
        align_corners: Keep the centres of the corner pixels in place rather than the outer edges.

    Returns:
        (B, C, H, W).
    """
    size = like.shape[2:]
    # An exported graph must take other sizes too; resizing to the same size has no effect.
    if torch.compiler.is_exporting() or features.shape[2:] != size:
        features = F.interpolate(features, size=size, mode="bilinear", align_corners=align_corners)
    return keep_layout(features, like)


def upsample_logits(
    model: BaseModel, logits: Tensor, images: Tensor, *, align_corners: bool = False
) -> Logits:
    """Upsample the logits of a model bilinearly to the size of its images: its last step.

    Args:
        model: The model; with `coarse_logits_in_training` the loss upsamples them later.
        logits: (B, K, h, w).
        images: (B, any, H, W).
        align_corners: Keep the centres of the corner pixels in place rather than the outer edges.

    Returns:
        (B, K, H, W), or `CoarseLogits` of that size.
    """
    if model.training and model.coarse_logits_in_training:
        height, width = images.shape[2:]
        return CoarseLogits(logits, (height, width), align_corners)
    return resize_like(logits, images, align_corners=align_corners)


def divide_up(size: int, by: int) -> int:
    """Return the quotient, rounded up.

    Not by `-(-size // by)`: an exported ONNX file divides integers toward zero.
    """
    return (size + by - 1) // by


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad images (B, C, H, W) with zeros at the right and at the bottom to multiples."""
    height, width = (divide_up(size, multiple) * multiple for size in images.shape[2:])
    return pad_to(images, height, width)


def pad_to(images: Tensor, height: int, width: int) -> Tensor:
    """Pad images with zeros at the right and at the bottom to a height and width."""
    rows, columns = images.shape[2:]
    if torch.compiler.is_exporting() or (rows, columns) != (height, width):
        images = F.pad(images, (0, width - columns, 0, height - rows))
    return images


def crop(features: Tensor, height: int, width: int) -> Tensor:
    """Return a copy of the top left part of a map."""
    # Not by slicing: an exported graph would fix whether the slice is the whole map.
    return pad_to(features, height, width)
