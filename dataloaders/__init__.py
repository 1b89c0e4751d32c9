"""Datasets: what `train_loader.type` may name in a config."""

from dataloaders.ade20k import ADE20K
from dataloaders.camvid import CamVid
from dataloaders.carparts import CarParts
from dataloaders.cityscapes import CityScapes
from dataloaders.coco import COCO
from dataloaders.cocovoc21 import COCOVOC21
from dataloaders.deepscene import DeepScene
from dataloaders.folder import Folder
from dataloaders.gaofen2 import Gaofen2
from dataloaders.gaofen3 import Gaofen3
from dataloaders.shapes import Shapes
from dataloaders.voc import VOC

__all__ = [
    "ADE20K",
    "COCO",
    "COCOVOC21",
    "VOC",
    "CamVid",
    "CarParts",
    "CityScapes",
    "DeepScene",
    "Folder",
    "Gaofen2",
    "Gaofen3",
    "Shapes",
]
