"""The networks that `arch.type` in a config can name."""

from models.deeplab import DeepLab
from models.deeplab_duc_hdc import DeepLab_DUC_HDC
from models.deeplabv3 import DeepLabV3
from models.enet import ENet
from models.fcn import FCN
from models.fcn8 import FCN8
from models.gcn import GCN
from models.pspdensenet import PSPDenseNet
from models.pspnet import PSPNet
from models.segnet import SegNet
from models.segresnet import SegResNet
from models.smp import SMP
from models.unet import UNet
from models.unet_resnet import UNetResnet
from models.upernet import UperNet

__all__ = [
    "FCN",
    "FCN8",
    "GCN",
    "SMP",
    "DeepLab",
    "DeepLabV3",
    "DeepLab_DUC_HDC",
    "ENet",
    "PSPDenseNet",
    "PSPNet",
    "SegNet",
    "SegResNet",
    "UNet",
    "UNetResnet",
    "UperNet",
]
