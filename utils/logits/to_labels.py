"""From logits to classes."""

import torch
from torch import Tensor

from utils.logits.coarse_logits import CoarseLogits, Logits


def all_channels(logits: Tensor) -> Tensor:
    """Return logits with a channel for each class.

    Args:
        logits: (B, K, H, W); or (B, 1, H, W) of a binary problem, where z stands for the pair
            (0, z), whose softmax is the sigmoid of z.

    Returns:
        (B, K, H, W), K at least 2.
    """
    if logits.shape[1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def predict_labels(logits: Logits, threshold: float | None = None) -> Tensor:
    """Return the class of each pixel.

    Args:
        logits: (B, K, H, W), coarse ones too, or (B, 1, H, W) of a binary problem.
        threshold: Of two classes, take the second where its probability is at least this; None
            takes the larger logit, and the first of equal ones.

    Returns:
        (B, H, W) int64.
    """
    if isinstance(logits, CoarseLogits):
        return logits.argmax()
    if threshold is not None:
        return (probability_of_second(logits) >= threshold).long()
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).long()
    if logits.device.type == "cpu":
        # The same, also for equal logits, in a third of the time of argmax().
        return logits.max(1).indices
    return logits.argmax(1)


def probability_of_second(logits: Tensor) -> Tensor:
    """Return the probability of the second of two classes: (B, H, W) float32."""
    logits = logits.float()
    return (logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]).sigmoid()
