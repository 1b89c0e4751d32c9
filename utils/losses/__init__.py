"""Losses: what `loss` may name in a config."""

from utils.losses.cross_entropy import CrossEntropyLoss2d

__all__ = ["CrossEntropyLoss2d"]
