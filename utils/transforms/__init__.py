"""The operations of the training augmentation.

Each is a class with its own config keys in `train_loader.args`. They are called in the order of
this list. Geometry operations fill in one `Geometry`, which is applied as one warp: scale and
rotation, crop, horizontal flip, vertical flip, quarter turns. What changes the size comes before
`Crop`, what selects among crops after it.
"""

from utils.transforms.albumentations_pipeline import Albumentations
from utils.transforms.blur import Blur
from utils.transforms.class_crops import ClassCrop
from utils.transforms.colour import ColourJitter
from utils.transforms.copy_paste import CopyPaste
from utils.transforms.cutout import Cutout
from utils.transforms.mosaic import Mosaic
from utils.transforms.rotate_and_flip import Flip, Rotate, Turns
from utils.transforms.scale_and_crop import Crop, Scale

__all__ = [  # noqa: RUF022  in the order of application
    "Scale",
    "Rotate",
    "Turns",
    "Crop",
    "Flip",
    "ClassCrop",
    "Mosaic",
    "CopyPaste",
    "Blur",
    "ColourJitter",
    "Cutout",
    "Albumentations",
]
