"""DeepLab V3: atrous spatial pyramid pooling on a dilated backbone."""

from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from base.base_model import BaseModel
from models.aspp import ASPP, USUAL_DILATIONS
from models.backbones import DILATED, TORCHVISION_RESNET, dilated_backbone, initialise
from models.convolution import conv_bn_relu
from models.fcn import fcn_head
from models.layout import upsample_logits
from utils.checkpoint.name_map import NameMap
from utils.config.types import PositiveInt
from utils.logits.coarse_logits import Logits


class DeepLabV3(BaseModel):
    """DeepLab V3: context at several dilations, upsampled without a decoder.

    The same network as torchvision's `deeplabv3_resnet50` and `deeplabv3_resnet101`, so that their
    checkpoints fit.

    Paper: Rethinking Atrous Convolution for Semantic Image Segmentation,
    https://arxiv.org/abs/1706.05587

    Differs from the paper:
        - All 3x3 convolutions of a stage have the same dilation (no multi-grid), except for its
          first block, which has that of the stage before.
        - Dropout and one more 3x3 convolution follow the pyramid pooling.
        - There is an auxiliary head.

    Args:
        num_classes, in_channels, freeze_bn, freeze_backbone: As in `BaseModel`.
        backbone: A ResNet, resnet18 to resnet152, or `timm/` and a name of timm's.
        pretrained: ImageNet weights for the backbone: true downloads them, a path reads a file.
        output_stride: Ratio of the image size to that of the deepest features; 8 takes more time
            and memory than 16. torchvision's checkpoints were trained at 8, with the dilations of
            the pyramid pooling for 8.
        use_aux: Return auxiliary logits in training; without, their head stays, untrained.

    Raises:
        ValueError: If `backbone` is not known or cannot have the output stride, or its weights
            cannot be downloaded or read.
    """

    aux_weight = 0.5  # as torchvision trained the weights that it publishes

    foreign_names: ClassVar[dict[str, NameMap]] = {
        "torchvision": NameMap(
            (
                *TORCHVISION_RESNET,
                *((f"classifier.0.convs.{i}.", f"aspp.aspp{i + 1}.") for i in range(4)),
                ("classifier.0.convs.4.", "aspp.avg_pool."),
                ("classifier.0.project.0.", "aspp.conv1."),
                ("classifier.0.project.1.", "aspp.bn1."),
                ("classifier.1.", "head.0."),
                ("classifier.2.", "head.1."),
                ("classifier.4.", "head.3."),
                ("aux_classifier.", "auxiliary_head."),
            ),
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
        output_stride: Literal[8, 16] = 8,
        use_aux: bool = True,
        freeze_bn: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn, freeze_backbone)
        if output_stride not in USUAL_DILATIONS:
            raise ValueError(f"output_stride must be 8 or 16, got {output_stride}")
        self.use_aux = use_aux
        self.backbone = dilated_backbone(
            backbone, in_channels=in_channels, output_stride=output_stride, pretrained=pretrained
        )
        aux_channels, channels = self.backbone.channels[2:]
        self.aspp = ASPP(channels, USUAL_DILATIONS[output_stride])
        classifiers = [nn.Conv2d(c, num_classes, 1) for c in (256, aux_channels // 4)]
        self.head = nn.Sequential(*conv_bn_relu(256, 256, 3), classifiers[0])
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
        self.check_batch(images)  # ASPP's mean is one value per channel and image

        # Backbone: (B, C3, h, w) and (B, C4, h, w) at the output stride
        middle, deep = self.backbone(images)[2:]

        # Context at several dilations: (B, 256, h, w)
        context = self.aspp(deep)

        # Heads: (B, K, h, w), then upsampled
        logits = upsample_logits(self, self.head(context), images)
        if not (self.training and self.use_aux):
            return logits
        return logits, upsample_logits(self, self.auxiliary_head(middle), images)
