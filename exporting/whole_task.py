"""The module that is exported: the network alone, or everything from stored pixels to ids."""

import numpy as np
import torch
from torch import Tensor, nn

from exporting.spec import ExportSpec
from prediction.load_model import Meta
from utils.logits.to_labels import all_channels


class WholeTask(nn.Module):
    """Normalisation, network and choice of the class in one.

    Args:
        network: From normalised images (B, C, H, W) to logits (B, K, H, W).
        meta: Its classes and statistics.
        spec: What comes out.
    """

    def __init__(self, network: nn.Module, meta: Meta, spec: ExportSpec) -> None:
        super().__init__()
        self.network, self.spec, self.threshold = network, spec, meta.threshold
        unit = 255 if input_type(meta) == "uint8" else 1
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(meta.mean) * unit)
        self.register_buffer("std", torch.tensor(meta.std) * unit)
        self.ids_type = torch.uint8 if len(meta.classes) <= 256 else torch.int32

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images (B, H, W, C) as they are stored to the outputs of the spec.

        Returns:
            Of `ids` (B, H, W), uint8 or int32; `confidence` (B, H, W), float32, the probability of
            the class that is chosen; and `logits` (B, K, H, W), float32, K at least 2.
        """
        values = images.permute(0, 3, 1, 2).float()
        normalised = (values - self.mean.view(1, -1, 1, 1)) / self.std.view(1, -1, 1, 1)
        logits = all_channels(self.network(normalised))
        if self.threshold is None:
            ids = logits.argmax(1)
        else:
            ids = ((logits[:, 1] - logits[:, 0]).sigmoid() >= self.threshold).long()
        made = {"ids": ids.to(self.ids_type), "logits": logits}
        if "confidence" in self.spec.outputs:
            made["confidence"] = logits.softmax(1).gather(1, ids[:, None])[:, 0]
        return tuple(made[name] for name in self.spec.outputs)


class NetworkAlone(nn.Module):
    """The bare network, with its only output in a tuple.

    Args:
        network: From normalised images (B, C, H, W) to logits (B, K, H, W).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images (B, C, H, W) to logits (B, K, H, W)."""
        return (self.network(images),)


class Reduced(nn.Module):
    """A network that computes in 16 bits, between images and logits of 32 bits.

    Args:
        network: From normalised images (B, C, H, W) to logits (B, K, H, W); it is changed.
        dtype: What it computes in.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network.to(dtype), dtype

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W), float32, to logits (B, K, H, W), float32."""
        logits: Tensor = self.network(images.to(self.dtype)).float()
        return logits


def module_of(network: nn.Module, meta: Meta, spec: ExportSpec) -> nn.Module:
    """Return the module that is exported."""
    whole = WholeTask(network, meta, spec) if spec.inside == "all" else NetworkAlone(network)
    return whole.eval()


def input_type(meta: Meta) -> str:
    """Return the type of stored pixels, as numpy calls it."""
    return "uint8" if meta.band_rule is None else meta.band_rule.dtype


def images_for(meta: Meta, spec: ExportSpec, pixels: np.ndarray) -> np.ndarray:
    """Return stored pixels (B, H, W, C) as the module takes them.

    That is, as they are; or for the network alone normalised (B, C, H, W).
    """
    if spec.inside == "all":
        return np.ascontiguousarray(pixels, dtype=input_type(meta))
    from utils.samples.normalize import normalize

    normalised = normalize(torch.from_numpy(np.ascontiguousarray(pixels)), meta.mean, meta.std)
    return normalised.contiguous().numpy()
