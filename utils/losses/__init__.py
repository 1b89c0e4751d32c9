"""Losses: what `loss` may name in a config; one file a family."""

from utils.losses.bce import BCE_DiceLoss, BCEWithLogitsLoss2d
from utils.losses.boundary import BoundaryLoss
from utils.losses.cross_entropy import CrossEntropyLoss2d
from utils.losses.dice import CE_DiceLoss, DiceLoss
from utils.losses.focal import FocalLoss
from utils.losses.jaccard import JaccardLoss
from utils.losses.lovasz import LovaszSoftmax
from utils.losses.noise_robust import (
    NCE_RCE,
    AUELoss,
    GeneralizedCrossEntropyLoss,
    SymmetricCrossEntropyLoss,
)
from utils.losses.ohem import OhemCrossEntropyLoss2d
from utils.losses.region_aware import RegionAwareLoss
from utils.losses.rmi import RMILoss
from utils.losses.tversky import TverskyLoss

__all__ = [
    "NCE_RCE",
    "AUELoss",
    "BCEWithLogitsLoss2d",
    "BCE_DiceLoss",
    "BoundaryLoss",
    "CE_DiceLoss",
    "CrossEntropyLoss2d",
    "DiceLoss",
    "FocalLoss",
    "GeneralizedCrossEntropyLoss",
    "JaccardLoss",
    "LovaszSoftmax",
    "OhemCrossEntropyLoss2d",
    "RMILoss",
    "RegionAwareLoss",
    "SymmetricCrossEntropyLoss",
    "TverskyLoss",
]
