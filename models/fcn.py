"""FCN: a dilated backbone and a small convolutional head, as torchvision has it."""

from typing import Annotated, ClassVar

from torch import Tensor, nn

from base.base_model import BaseModel
from models.backbones import DILATED, TORCHVISION_RESNET, dilated_backbone, initialise
from models.convolution import conv_bn_relu
from models.layout import upsample_logits
from utils.checkpoint.name_map import NameMap
from utils.config.types import PositiveInt
from utils.logits.coarse_logits import Logits


def fcn_head(in_channels: int, classifier: nn.Conv2d) -> nn.Sequential:
    """Return a 3x3 convolution to the channels that the classifier takes, and the classifier."""
    return nn.Sequential(
        *conv_bn_relu(in_channels, classifier.in_channels, 3), nn.Dropout(0.1), classifier
    )


class FCN(BaseModel):
    """Fully convolutional network: logits at an output stride of 8, upsampled.

    The same network as torchvision's `fcn_resnet50` and `fcn_resnet101`, so that their checkpoints
    fit.

    Paper: Fully Convolutional Networks for Semantic Segmentation, https://arxiv.org/abs/1411.4038

    Differs from the paper:
        - The backbone is a dilated ResNet with an output stride of 8 instead of VGG-16 with 32.
        - The head is two convolutions with BatchNorm instead of two wide ones of 4096 channels.
        - The logits are upsampled bilinearly in one step, not by a learned convolution.
        - There is an auxiliary head.

    Args:
        num_classes, in_channels, freeze_bn, freeze_backbone: As in `BaseModel`.
        backbone: A ResNet, resnet18 to resnet152, or `timm/` and a name of timm's.
        pretrained: ImageNet weights for the backbone: true downloads them, a path reads a file.
        use_aux: Return auxiliary logits in training; without, their head stays, untrained.

    Raises:
        ValueError: If `backbone` is not known or cannot have an output stride of 8, or its weights
            cannot be downloaded or read.
    """

    aux_weight = 0.5  # as torchvision trained the weights that it publishes

    foreign_names: ClassVar[dict[str, NameMap]] = {
        "torchvision": NameMap(
            (*TORCHVISION_RESNET, ("classifier.", "head."), ("aux_classifier.", "auxiliary_head.")),
            optional=("auxiliary_head.",),
        )
    }

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: PositiveInt = 3,
        backbone: Annotated[str, DILATED] = "resnet50",
        pretrained: bool | str = True,
        use_aux: bool = True,
        freeze_bn: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn, freeze_backbone)
        self.use_aux = use_aux
        self.backbone = dilated_backbone(
            backbone, in_channels=in_channels, output_stride=8, pretrained=pretrained
        )
        aux_channels, channels = self.backbone.channels[2:]
        classifiers = [nn.Conv2d(c // 4, num_classes, 1) for c in (channels, aux_channels)]
        self.head = fcn_head(channels, classifiers[0])
        self.auxiliary_head = fcn_head(aux_channels, classifiers[1])

        initialise(self, classifiers, pretrained)
        # Trainable weights that never get a gradient would stop a run on several processes.
        self.auxiliary_head.requires_grad_(use_aux)
        self.apply_freezing()

    def classifier_modules(self) -> list[nn.Module]:
        """Return the last convolution of each head."""
        return [self.head[-1], self.auxiliary_head[-1]]

    def forward(self, images: Tensor) -> Logits | tuple[Logits, Logits]:
        """Return logits (B, K, H, W); in training with `use_aux`, auxiliary ones as well."""
        self.check_images(images)
        self.check_batch(images, 8)

        # Backbone: (B, C3, h, w) and (B, C4, h, w), where h is ceil(H / 8)
        middle, deep = self.backbone(images)[2:]

        # Heads: (B, K, h, w), then upsampled
        logits = upsample_logits(self, self.head(deep), images)
        if not (self.training and self.use_aux):
            return logits
        return logits, upsample_logits(self, self.auxiliary_head(middle), images)
