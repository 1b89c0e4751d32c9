"""DRN-D-54: a residual network that dilates, then smooths the grid pattern away."""

from torch import Tensor, nn

from models.convolution import conv_bn_relu
from models.pretrained import load_pretrained
from models.resnet import Bottleneck, stage


class DRN(nn.Module):
    """A ResNet-50 at an output stride of 8, with convolutions before and after it.

    Paper: Dilated Residual Networks, https://arxiv.org/abs/1705.09914

    Differs from the paper:
        - There is no pooling and no classifier at the end.

    The modules have the names of the published weights.

    Args:
        in_channels: Channels of the images.
    """

    weights_name = "drn_d_54"
    channels = (256, 512)
    output_stride = 8

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__()
        self.layer0 = conv_bn_relu(in_channels, 16, 7)
        self.layer1 = conv_bn_relu(16, 16, 3)
        self.layer2 = conv_bn_relu(16, 32, 3, stride=2)
        self.layer3 = stage(Bottleneck, 32, 64, [1] * 3, stride=2)
        self.layer4 = stage(Bottleneck, 256, 128, [1] * 4, stride=2)
        self.layer5 = stage(Bottleneck, 512, 256, [2] * 6)
        self.layer6 = stage(Bottleneck, 1024, 512, [4] * 3)
        # Without shortcuts, which would pass the grid pattern of the dilated blocks on.
        self.layer7 = conv_bn_relu(2048, 512, 3, dilation=2)
        self.layer8 = conv_bn_relu(512, 512, 3)

    def load(self, pretrained: bool | str) -> None:
        """Fill in the authors' ImageNet weights.

        Raises:
            ValueError: If the weights cannot be downloaded or read.
        """
        load_pretrained(self, self.weights_name, pretrained)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (B, C, H, W) to (B, 256, ceil(H / 4), ceil(W / 4)) and (B, 512, ceil(H / 8), ...)."""
        stride2 = self.layer2(self.layer1(self.layer0(images)))
        stride4 = self.layer3(stride2)
        stride8 = self.layer6(self.layer5(self.layer4(stride4)))
        return [stride4, self.layer8(self.layer7(stride8))]
