"""The networks: what `arch.type` in a config may name."""

from models.pspnet import PSPNet
from models.unet import UNet

__all__ = ["PSPNet", "UNet"]
