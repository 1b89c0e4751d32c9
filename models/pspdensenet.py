"""PSPDenseNet: the pyramid pooling of PSPNet on a dilated DenseNet."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from torch import Tensor, nn

from base.base_model import BaseModel
from models.convolution import conv_bn_relu
from models.layout import upsample_logits
from models.pretrained import load_pretrained
from models.pspnet import PyramidPooling
from utils.config.types import Choices, PositiveInt
from utils.logits.coarse_logits import Logits

BACKBONES = Choices(("densenet121", "densenet169", "densenet201", "densenet161"))


def densenet_features(name: str, in_channels: int) -> Any:
    """Return a DenseNet of torchvision without its classifier: conv0 to norm5."""
    from torchvision.models import get_model  # here, as it takes two seconds

    features = get_model(name, weights=None).features
    channels = features.conv0.out_channels
    features.conv0 = nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False)
    return features


def published_name(key: str) -> str:
    """Return the name in `densenet_features` of a weight in a published file.

    The files are older than the names of the modules: they have `norm.1` for `norm1`.
    """
    return re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key).removeprefix("features.")


def dilate(block: nn.Module, dilation: int) -> None:
    """Set the dilation of every 3x3 convolution of a block."""
    for module in block.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.dilation = module.padding = (dilation, dilation)


def without_pooling(transition: Any) -> nn.Sequential:
    """Return a transition between two blocks without its pooling."""
    return nn.Sequential(transition.norm, transition.relu, transition.conv)


def deep_stem(in_channels: int, channels: int) -> nn.Sequential:
    """Return three 3x3 convolutions without padding; the second and third share weights."""
    first = nn.Conv2d(in_channels, channels, 3, stride=2, bias=False)
    shared = [
        nn.Conv2d(channels, channels, 3, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    ]
    pool = nn.MaxPool2d(3, 2, padding=1)
    return nn.Sequential(
        first, nn.BatchNorm2d(channels), nn.ReLU(inplace=True), *shared, *shared, pool
    )


class PSPDenseNet(BaseModel):
    """Dilated DenseNet, pyramid pooling at 1, 2, 3 and 6 bins, one auxiliary head.

    Papers: Pyramid Scene Parsing Network, https://arxiv.org/abs/1612.01105, and
    Densely Connected Convolutional Networks, https://arxiv.org/abs/1608.06993

    Differs from the papers:
        - The backbone is a DenseNet, not a ResNet.
        - The last two transitions of the DenseNet do not pool, and the blocks after them dilate by
          2 and 4, for an output stride of 8; no BatchNorm follows the last block.
        - Without pretrained weights three 3x3 convolutions replace the 7x7, the second and third
          with shared weights; see `stem`.
        - Dropout drops whole channels.

    Args:
        num_classes, in_channels, freeze_bn, freeze_backbone: As in `BaseModel`.
        backbone: densenet121, densenet161, densenet169 or densenet201.
        pretrained: ImageNet weights for the backbone: true downloads them, a path reads a file.
        use_aux: Return auxiliary logits in training; without, their head stays, untrained.
        stem: `plain` begins with one 7x7 convolution, as the ImageNet weights do; `deep` with 3x3
            convolutions, for which there are no weights; `auto` is plain with `pretrained` and deep
            without, as in older checkpoints.

    Raises:
        ValueError: If `backbone` is not known, its weights cannot be downloaded or read, or
            `pretrained` is set with a deep stem.
    """

    min_size = 5

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: PositiveInt = 3,
        backbone: Annotated[str, BACKBONES] = "densenet201",
        pretrained: bool | str = True,
        use_aux: bool = True,
        stem: Literal["auto", "plain", "deep"] = "auto",
        freeze_bn: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn, freeze_backbone)
        BACKBONES.check(backbone, "backbone")
        if stem not in ("auto", "plain", "deep"):
            raise ValueError(f'stem must be "auto", "plain" or "deep", got {stem!r}')
        if stem == "deep" and pretrained:
            raise ValueError(
                "there are no ImageNet weights for a deep stem: set pretrained to false, or stem "
                'to "plain"'
            )
        self.use_aux = use_aux
        trunk = densenet_features(backbone, in_channels)
        if stem == "deep" or (stem == "auto" and not pretrained):
            self.min_size = 15
            self.block0 = deep_stem(in_channels, trunk.conv0.out_channels)
        else:
            self.block0 = nn.Sequential(trunk.conv0, trunk.norm0, trunk.relu0, trunk.pool0)
        self.block1 = trunk.denseblock1
        self.block2 = trunk.denseblock2
        self.block3 = trunk.denseblock3
        self.block4 = trunk.denseblock4
        self.transition1 = trunk.transition1
        self.transition2 = without_pooling(trunk.transition2)
        self.transition3 = without_pooling(trunk.transition3)
        dilate(self.block3, 2)
        dilate(self.block4, 4)
        aux_channels = trunk.transition3.conv.out_channels
        channels = trunk.norm5.num_features
        classifier = nn.Conv2d(channels // 4, num_classes, 1)
        self.master_branch = nn.Sequential(PyramidPooling(channels), classifier)
        aux_classifier = nn.Conv2d(channels // 4, num_classes, 1)
        self.auxiliary_branch = nn.Sequential(
            *conv_bn_relu(aux_channels, channels // 4, 3), nn.Dropout2d(0.1), aux_classifier
        )

        self.initialise_weights([classifier, aux_classifier])
        load_pretrained(
            trunk, backbone, pretrained, rename=published_name, classifier="classifier."
        )
        # Trainable weights that never get a gradient would stop a run on several processes.
        self.auxiliary_branch.requires_grad_(use_aux)
        self.apply_freezing()

    @classmethod
    def args_for(cls, args: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments for a checkpoint, whose weights tell the kind of the stem."""
        stem = "deep" if "block0.6.weight" in weights else "plain"
        return {**super().args_for(args, weights), "stem": stem}

    def backbone_modules(self) -> list[nn.Module]:
        """Return the DenseNet."""
        start = [self.block0, self.block1, self.transition1, self.block2, self.transition2]
        return [*start, self.block3, self.transition3, self.block4]

    def classifier_modules(self) -> list[nn.Module]:
        """Return the last convolution of each head."""
        return [self.master_branch[-1], self.auxiliary_branch[-1]]

    def forward(self, images: Tensor) -> Logits | tuple[Logits, Logits]:
        """Return logits (B, K, H, W); in training with `use_aux`, auxiliary ones as well."""
        self.check_images(images)
        self.check_batch(images)  # the 1x1 pooling leaves one value per image

        # Backbone: (B, C3, h, w) and (B, C4, h, w), where h is about H / 8
        stride8 = self.block2(self.transition1(self.block1(self.block0(images))))
        middle = self.transition3(self.block3(self.transition2(stride8)))
        deep = self.block4(middle)

        # Heads: (B, K, h, w), then upsampled
        logits = upsample_logits(self, self.master_branch(deep), images)
        if not (self.training and self.use_aux):
            return logits
        return logits, upsample_logits(self, self.auxiliary_branch(middle), images)
