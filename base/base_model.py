"""The contract of a model."""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from utils.checkpoint.name_map import NameMap

if TYPE_CHECKING:
    from typing_extensions import Self


class BaseModel(nn.Module):
    """A network from images (B, C, H, W) to logits (B, K, H, W) at the images' own size.

    Images are float, normalised, of any size from `min_size` up. In training mode `forward` may
    return `(logits, *auxiliary_logits)` instead, all of them at the images' size; the trainer adds
    the auxiliary losses times `aux_weight`. With `coarse_logits_in_training` each of them may be
    `CoarseLogits`. A subclass begins its `forward` with `check_images()` and, if it has BatchNorm,
    `check_batch()`, which raise a `ValueError`; ends its `__init__` with `apply_freezing()`; and
    names what depends on the classes in `classifier_modules()` and its backbone, if that is not
    `self.backbone`, in `backbone_modules()`.

    Args:
        num_classes: K, without the ignored label.
        in_channels: C, the channels of the images.
        freeze_bn: Keep the statistics of every BatchNorm as they are during training. Its weight
            and bias still train.
        freeze_backbone: Train the decoder only: the backbone's parameters get no gradient and the
            statistics of its BatchNorms stay as they are.

    Raises:
        ValueError: If `num_classes` or `in_channels` is below 1.
    """

    aux_weight: float = 0.4
    """Weight of the loss of each auxiliary output; 0.4 is the PSPNet paper's."""

    coarse_logits_in_training: bool = False
    """Whether a model that ends by upsampling its logits leaves that to the loss, in training."""

    min_size: int = 1
    """Smallest height and width of an image, in pixels."""

    legacy_args: ClassVar[dict[str, str]] = {}
    """Arguments that older configs carry for this model, and why each means nothing here."""

    foreign_names: ClassVar[dict[str, NameMap]] = {}
    """How other programs that have the same network call its weights, by the program's name."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        freeze_bn: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("num_classes", num_classes), ("in_channels", in_channels)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.freeze_bn = freeze_bn
        self.freeze_backbone = freeze_backbone
        self._freezing_applied = False

    @classmethod
    def args_for(cls, args: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments that build the network of a checkpoint, without any download."""
        accepted = inspect.signature(cls).parameters
        nothing = {"pretrained": False, "encoder_weights": None}
        return {**args, **{name: value for name, value in nothing.items() if name in accepted}}

    def backbone_modules(self) -> list[nn.Module]:
        """Return the modules that pretrained weights fill, in order: `self.backbone`, if any."""
        return [module for name, module in self.named_children() if name == "backbone"]

    def classifier_modules(self) -> list[nn.Module]:
        """Return the modules whose weights depend on the number of classes."""
        raise NotImplementedError(f"{type(self).__name__} does not name its classifier_modules()")

    def modules_over_classes(self) -> list[nn.Module]:
        """Return the classifier's modules whose input channels depend on the classes, too."""
        return []

    def own_names(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Return the weights of the same network in another program, under this model's names.

        Returns:
            The weights, renamed if they are of a program in `foreign_names`; and what the names of
            parts begin with that such a file may lack.
        """
        for names in self.foreign_names.values():
            renamed = names.ours(weights)
            if renamed is not None:
                return renamed, names.optional
        return dict(weights), ()

    def get_backbone_params(self) -> list[nn.Parameter]:
        """Return the parameters of `backbone_modules()`, each once, in the model's order."""
        inside = self._backbone_ids()
        return [parameter for parameter in self.parameters() if id(parameter) in inside]

    def get_decoder_params(self) -> list[nn.Parameter]:
        """Return every parameter that is not the backbone's, each once, in the model's order."""
        inside = self._backbone_ids()
        return [parameter for parameter in self.parameters() if id(parameter) not in inside]

    def num_parameters(self) -> tuple[int, int]:
        """Return the number of all parameters, and of those that train."""
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in self.parameters()]
        return sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)

    def apply_freezing(self) -> None:
        """Freeze what the constructor was asked to; the last line of a model's `__init__`.

        Raises:
            ValueError: If `freeze_backbone` is set and the model has no backbone.
        """
        self._freezing_applied = True
        if self.freeze_backbone:
            if not self.backbone_modules():
                raise ValueError(
                    f"{type(self).__name__} has no backbone to freeze: remove freeze_backbone"
                )
            for parameter in self.get_backbone_params():
                parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Self":
        """Switch to training mode, except for the BatchNorms that are frozen."""
        assert self._freezing_applied, (
            f"{type(self).__name__}.__init__ must end with apply_freezing()"
        )
        super().train(mode)
        # A backbone whose statistics drift would not be frozen, so its BatchNorms stop as well.
        # Looked up anew each time: they may have been converted to SyncBatchNorm meanwhile.
        frozen: list[nn.Module] = self.backbone_modules() if self.freeze_backbone else []
        for part in [self] if self.freeze_bn else frozen:
            for module in part.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def initialise_weights(
        self, classifiers: Sequence[nn.Conv2d], *, keep: nn.Module | None = None
    ) -> None:
        """Draw the weights anew, from torch's global generator.

        Args:
            classifiers: The convolutions that give logits. They start close to zero, so that the
                first loss is close to log(K) whatever the depth below.
            keep: A part that has its own way to begin.
        """
        kept = set() if keep is None else set(keep.modules())
        for module in self.modules():
            if module in kept:
                continue
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            elif isinstance(module, _BatchNorm):
                module.reset_parameters()
            else:
                continue
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        for classifier in classifiers:
            nn.init.normal_(classifier.weight, std=0.01)

    def check_images(self, images: Tensor) -> None:
        """Refuse images that are not (B, C, H, W) or too small; the first line of a `forward`.

        Raises:
            ValueError: If `images` has the wrong shape or is too small.
        """
        name = type(self).__name__
        if images.dim() != 4 or images.shape[1] != self.in_channels:
            raise ValueError(
                f"{name} takes images (B, {self.in_channels}, H, W), got {tuple(images.shape)}"
            )
        height, width = images.shape[2:]
        if height < self.min_size or width < self.min_size:
            raise ValueError(
                f"{name} takes images of at least {self.min_size}x{self.min_size} pixels, "
                f"got {height}x{width}: pad them"
            )

    def check_batch(self, images: Tensor, stride: int | None = None) -> None:
        """Refuse a batch that is too small to train on.

        A model whose features can shrink to 1x1 calls this after `check_images()`. In evaluation
        mode, and with every BatchNorm frozen, any batch passes.

        Args:
            images: (B, C, H, W).
            stride: That of the smallest map that a BatchNorm sees, rounded up; none means that one
                sees the mean of each image.

        Raises:
            ValueError: If a BatchNorm sees a single value, which has no variance to normalise by.
        """
        batch, _, height, width = images.shape
        if not (self.training and batch == 1 and self._has_training_bn()):
            return
        if stride is None or max(height, width) <= stride:
            raise ValueError(
                f"{type(self).__name__} cannot train on this batch: a BatchNorm would see one "
                "value per channel. Use a batch_size of at least 2 for each process (and no last "
                "batch of 1), or freeze_bn=true"
            )

    def _backbone_ids(self) -> set[int]:
        return {id(p) for module in self.backbone_modules() for p in module.parameters()}

    def _has_training_bn(self) -> bool:
        # SyncBatchNorm also counts the other processes' values, and complains by itself.
        plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        return any(isinstance(m, plain) and m.training for m in self.modules())
