"""Datasets: what `train_loader.type` may name in a config."""

from dataloaders.folder import Folder
from dataloaders.shapes import Shapes
from dataloaders.voc import VOC

__all__ = ["VOC", "Folder", "Shapes"]
