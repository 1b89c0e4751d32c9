"""The architectures of Segmentation Models PyTorch, over any of its encoders or timm's."""

import contextlib
import inspect
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from base.base_model import BaseModel
from models.layout import crop, divide_up, pad_to
from models.pooling import AveragePool
from models.pretrained import adapt_first_layer, load_pretrained, read_weights
from models.probe import outputs_of
from models.timm_backbone import (
    PREFIX,
    hub_file,
    local_file,
    missing_weights,
    report_missing,
    timm_weights,
    weights_overlay,
)
from utils.checkpoint.name_map import NameMap
from utils.cli.sanitize import first_line
from utils.config.errors import suggest
from utils.config.types import Choices, PositiveInt
from utils.logits.coarse_logits import CoarseLogits, Logits

ARCHITECTURES = Choices(
    (
        "Unet",
        "UnetPlusPlus",
        "MAnet",
        "FPN",
        "PAN",
        "Linknet",
        "DeepLabV3",
        "DeepLabV3Plus",
        "Segformer",
        "DPT",
        "UPerNet",
        "PSPNet",
    )
)

# A branch of theirs averages each image to one value per channel, which a BatchNorm then sees.
_POOLS_WHOLE_IMAGE = ("PAN", "DeepLabV3", "DeepLabV3Plus", "UPerNet")

# Encoders end at stride 32 even if they dilate; PAN halves its map of stride 16 three times.
_SMALLEST_SIDE = {"PAN": 128}

_SET_HERE = (
    "encoder_name",
    "encoder_weights",
    "in_channels",
    "classes",
    "activation",
    "aux_params",
)


class SMP(BaseModel):
    """An architecture of Segmentation Models PyTorch.

    Source: https://github.com/qubvel-org/segmentation_models.pytorch, where each architecture
    names its paper.

    Differs from the library:
        - Takes images of any size: they are padded with zeros to multiples of the stride, and the
          logits are cropped. For sizes that need no padding the logits are the same.
        - The classifier starts close to zero, pooling to several bins is deterministic and exports
          for every size, and parameters without influence do not train.

    Args:
        num_classes, in_channels, freeze_bn, freeze_backbone: As in `BaseModel`.
        architecture: Unet, UnetPlusPlus, MAnet, FPN, PAN, Linknet, DeepLabV3, DeepLabV3Plus,
            Segformer, DPT, UPerNet or PSPNet.
        encoder_name: The library's name of an encoder, such as resnet34, mobilenet_v2 or mit_b0; or
            `tu-` and a name of timm's, such as tu-convnext_tiny. DPT takes timm's transformers
            only.
        encoder_weights: Weights of the encoder: the library's name of them, mostly `"imagenet"`, or
            the path of a local file; null trains from scratch.
        options: Further arguments of the architecture, as a dict, such as
            `{"decoder_channels": [128, 64, 32, 16, 8]}`; for a `tu-` encoder also those of timm.

    Raises:
        ValueError: If the architecture, the encoder, its weights or an option is not known, or the
            architecture does not take the encoder.
    """

    foreign_names: ClassVar[dict[str, NameMap]] = {
        "segmentation_models_pytorch": NameMap(
            [(part, f"network.{part}") for part in ("encoder.", "decoder.", "segmentation_head.")],
            dropped=("classification_head.",),
        )
    }

    def __init__(
        self,
        num_classes: int,
        *,
        architecture: Annotated[str, ARCHITECTURES] = "Unet",
        encoder_name: str = "resnet34",
        encoder_weights: str | None = "imagenet",
        options: dict[str, Any] | None = None,
        in_channels: PositiveInt = 3,
        freeze_bn: bool = False,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(num_classes, in_channels, freeze_bn, freeze_backbone)
        ARCHITECTURES.check(architecture, "architecture")
        self.architecture = architecture
        builder = _Builder(architecture, encoder_name, options or {})
        self.network = builder.build(num_classes, in_channels, encoder_weights)
        _replace_pooling(self.network)
        self.stride: int = self.network.encoder.output_stride
        if architecture == "DPT" and self.stride < 32:
            self.stride *= 2  # it halves the map of a vision transformer, and doubles it again
        self.smallest_side = _SMALLEST_SIDE.get(architecture, 32)
        classifier = self._classifier()
        nn.init.normal_(classifier.weight, std=0.01)
        if classifier.bias is not None:
            nn.init.zeros_(classifier.bias)
        side = max(2 * self.stride, self.smallest_side)
        images = torch.zeros(1, in_channels, side, side + self.stride)
        try:
            (logits,) = outputs_of(self.network, images)
        except ValueError as error:
            raise ValueError(f"{architecture} with encoder {encoder_name} {error}") from error
        if logits.shape[2:] != images.shape[2:]:
            raise ValueError(
                f"options: {architecture} makes {logits.shape[2]}x{logits.shape[3]} logits of a "
                f"{side}x{side + self.stride} image; upsampling has to undo the encoder's stride"
            )
        self.apply_freezing()

    def backbone_modules(self) -> list[nn.Module]:
        """Return the encoder."""
        return [self.network.encoder]

    def classifier_modules(self) -> list[nn.Module]:
        """Return the last convolution of the head."""
        return [self._classifier()]

    def forward(self, images: Tensor) -> Logits:
        """Return logits (B, K, H, W) of images (B, C, H, W)."""
        self.check_images(images)
        height, width = images.shape[2:]
        rows, columns = divide_up(height, self.stride), divide_up(width, self.stride)
        pools = self.architecture in _POOLS_WHOLE_IMAGE
        self.check_batch(images, None if pools else 32)

        # Padding to multiples of the stride: (B, C, *canvas)
        smallest = divide_up(self.smallest_side, self.stride)
        if smallest > 1:  # not all formats that models are exported to have a maximum of sizes
            rows, columns = max(rows, smallest), max(columns, smallest)
        canvas = rows * self.stride, columns * self.stride
        images = pad_to(images, *canvas)

        # Coarse logits (B, K, h, w), which the loss upsamples
        upsampling = self._upsampling()
        if self.training and self.coarse_logits_in_training and upsampling is not None:
            features = self.network.decoder(self.network.encoder(images))
            aligned = bool(upsampling.align_corners)
            values = self.network.segmentation_head[0](features)
            return CoarseLogits(values, (height, width), aligned, canvas)

        # The whole network: (B, K, *canvas), cropped to (B, K, H, W)
        return crop(self.network(images), height, width)

    def _upsampling(self) -> nn.Upsample | None:
        """Return the bilinear upsampling after the classifier, None in architectures without."""
        parts = list(self.network.segmentation_head.children())
        last = parts[1] if len(parts) == 3 else None
        return last if isinstance(last, nn.Upsample) and last.mode == "bilinear" else None

    def _classifier(self) -> nn.Conv2d:
        head = self.network.segmentation_head
        return [module for module in head.modules() if isinstance(module, nn.Conv2d)][-1]


class _Builder:
    """Builds an architecture with an encoder, and its weights."""

    def __init__(self, architecture: str, encoder_name: str, options: dict[str, Any]) -> None:
        self.library = import_smp()
        self.architecture = getattr(self.library, architecture)
        self.encoder_name = encoder_name
        self.options = options
        self.of_timm = encoder_name.startswith("tu-")
        self._check_encoder()
        self._check_options(architecture)

    def build(self, num_classes: int, in_channels: int, weights: str | None) -> Any:
        """Return the network of the library."""
        settings: dict[str, Any] = {
            "encoder_name": self.encoder_name,
            "encoder_weights": None,
            "in_channels": in_channels,
            "classes": num_classes,
            **self.options,
        }
        path = None if weights is None else self._weights_file(weights)
        if not self.of_timm:
            network = self._create_or_refuse(settings)
            if path is not None:
                self._load(network.encoder, path, in_channels)
            return network
        if path is None:
            return self._create_of_timm(settings)
        settings |= weights_overlay(path) | {"encoder_weights": True}
        del settings["pretrained"]  # `encoder_weights` of the library sets it
        with missing_weights() as missing:
            network = self._create_of_timm(settings)
        report_missing(missing, network.encoder, self.encoder_name, path)
        return network

    def _weights_file(self, weights: str) -> Path:
        if _is_path(weights):
            return local_file(weights, "encoder_weights")
        if self.of_timm:
            return timm_weights(self.encoder_name.removeprefix("tu-"), "encoder_weights")
        known = self.library.encoders.encoders[self.encoder_name]["pretrained_settings"]
        if weights not in known:
            hint = suggest(weights, known, listing=True) or "; there are none: use null"
            raise ValueError(f"encoder_weights: {self.encoder_name} has no {weights!r}{hint}")
        return hub_file(
            known[weights]["repo_id"],
            "model.safetensors",
            f"the {weights} weights of {self.encoder_name}",
            "encoder_weights",
            known[weights]["revision"],
        )

    def _create_of_timm(self, settings: dict[str, Any]) -> Any:
        # Transformers keep to one size unless told not to, each in its own words.
        for extra in ({"strict_img_size": False}, {"dynamic_img_size": True}):
            with contextlib.suppress(TypeError):
                return self._create({**extra, **settings})
        return self._create_or_refuse(settings)

    def _create_or_refuse(self, settings: dict[str, Any]) -> Any:
        try:
            return self._create(settings)
        except TypeError as error:
            name = self.architecture.__name__
            text = str(error)
            if "output_stride" in text:
                text = f"it cannot leave out strides, which {name} needs"
            raise ValueError(f"{name} with encoder {self.encoder_name}: {text}") from error

    def _create(self, settings: dict[str, Any]) -> Any:
        try:
            return self.architecture(**settings)
        except (KeyError, ValueError, NotImplementedError, RuntimeError, AssertionError) as error:
            text = first_line(error.args[0] if error.args else error)
            name = self.architecture.__name__
            raise ValueError(f"{name} with encoder {self.encoder_name}: {text}") from error

    def _load(self, encoder: nn.Module, path: Path, in_channels: int) -> None:
        first = next(
            f"{key}.weight" for key, m in encoder.named_modules() if isinstance(m, nn.Conv2d)
        )

        def convert(values: dict[str, Tensor]) -> dict[str, Tensor]:
            values = {key.removeprefix("encoder."): value for key, value in values.items()}
            if first in values:
                values[first] = adapt_first_layer(values[first], in_channels)
            return values

        try:
            # The library's own method knows former names, and drops the classifier.
            encoder.load_state_dict(convert(read_weights(path)))
        except (RuntimeError, KeyError):
            load_pretrained(encoder, self.encoder_name, str(path), convert=convert)

    def _check_encoder(self) -> None:
        name = self.encoder_name
        known = self.library.encoders.get_encoder_names()
        if not self.of_timm and name not in known:
            hint = suggest(name, known) or "; timm's names begin with tu-, as in tu-convnext_tiny"
            if name.startswith(PREFIX):
                hint = f"; did you mean 'tu-{name.removeprefix(PREFIX)}'?"
            raise ValueError(f"encoder_name: there is no encoder {name!r}{hint}")
        if self.of_timm:
            import timm

            if not timm.is_model(name.removeprefix("tu-")):
                names = [f"tu-{model}" for model in timm.list_models()]
                raise ValueError(f"encoder_name: timm has no {name[3:]!r}{suggest(name, names)}")

    def _check_options(self, architecture: str) -> None:
        parameters = inspect.signature(self.architecture.__init__).parameters.values()
        known = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
        for name in self.options:
            if name in _SET_HERE:
                raise ValueError(f"options.{name}: the program sets this itself; remove it")
            if name not in known and not self.of_timm:
                free = [option for option in known if option not in _SET_HERE]
                hint = suggest(name, free, listing=True)
                raise ValueError(f"options.{name}: {architecture} takes no such option{hint}")


def import_smp() -> Any:
    """Return the package segmentation_models_pytorch.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        raise ValueError(
            f"SMP needs a package ({error}): pip install segmentation-models-pytorch"
        ) from error
    return segmentation_models_pytorch


def _is_path(weights: str) -> bool:
    return "/" in weights or "." in weights


def _replace_pooling(network: nn.Module) -> None:
    """Replace the poolings that have no deterministic gradient on CUDA by ours."""
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.AdaptiveAvgPool2d):
                size = module.output_size
                rows, columns = (size, size) if isinstance(size, int) else size or (1, 1)
                if rows is not None and rows == columns and rows > 1:
                    setattr(parent, name, AveragePool(rows))
