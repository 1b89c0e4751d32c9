"""Losses: what `loss` may name in a config; one file a family."""

from utils.losses.cross_entropy import CrossEntropyLoss2d

__all__ = ["CrossEntropyLoss2d"]
