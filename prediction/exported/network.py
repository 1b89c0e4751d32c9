"""An exported file in the place of a network: the same windows, products and figures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prediction.exported.description import Description, Run

# Loads a file for a device: what it says of itself, and what runs it.
Load = Callable[[Path, torch.device], tuple[Description, Run]]

_SURE = 30.0  # the logit of a class whose probability is 1, but for 1e-13


class ExportedNetwork(nn.Module):
    """A file that was exported, from images (B, C, H, W) to logits (B, K, H, W), like a model.

    A file with everything inside takes the pixels as they are stored: `statistics` undo the
    normalisation. If it gives ids alone, their logits are one class's.

    Args:
        description: What the file says of itself.
        run: Runs it.
    """

    def __init__(self, description: Description, run: Run) -> None:
        super().__init__()
        self.description, self.run = description, run
        self.has_scores = description.inside == "network" or "logits" in description.outputs
        self.num_classes = len(description.meta["classes"])

    def statistics(self) -> tuple[list[float], list[float]] | None:
        """Return the mean and standard deviation that leave stored values; None for the usual."""
        if self.description.inside == "network":
            return None
        channels = self.description.meta.get("channels", 3)
        unit = 255.0 if self.description.input_type == "uint8" else 1.0
        return [0.0] * channels, [1 / unit] * channels

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, K, H, W), on the device of the images.

        A file of a fixed size gets smaller images with their edges repeated, and the rest of what
        it says is cut off.

        Raises:
            ValueError: If the images are larger than the file takes.
        """
        height, width = images.shape[2:]
        if self.description.size is not None:
            images = self._grown(images, *self.description.size)
        return self._logits(images)[..., :height, :width]

    def _grown(self, images: Tensor, height: int, width: int) -> Tensor:
        """Return images (B, C, height, width), with their edges repeated."""
        missing = height - images.shape[2], width - images.shape[3]
        if min(missing) < 0:
            raise ValueError(
                f"the file takes images of {height} x {width} only: use --window "
                f"{min(height, width)} for larger ones"
            )
        return F.pad(images, (0, missing[1], 0, missing[0]), mode="replicate")

    def _logits(self, images: Tensor) -> Tensor:
        values = images.detach().cpu()
        if self.description.inside == "all":
            values = values.permute(0, 2, 3, 1)
            if self.description.input_type != "float32":
                limits = np.iinfo(self.description.input_type)
                values = values.round().clamp(limits.min, limits.max)
        outputs = self.run(
            np.ascontiguousarray(values.numpy()).astype(self.description.input_type, copy=False)
        )
        named = dict(zip(self.description.outputs, outputs, strict=True))
        if self.has_scores:
            return torch.from_numpy(named["logits"]).to(images.device)
        ids = torch.from_numpy(named["ids"].astype(np.int64))
        logits = torch.zeros(len(ids), self.num_classes, *ids.shape[1:])
        return logits.scatter_(1, ids[:, None], _SURE).to(images.device)


def load_exported(path: str | Path, device: torch.device) -> ExportedNetwork:
    """Load an exported file.

    Raises:
        ValueError: If it is none of ours, or a package or device for it is missing.
    """
    from prediction.exported import onnx_file, openvino_file, tflite_file, torch_file

    loaders: dict[str, Load] = {
        ".onnx": onnx_file.load, ".xml": openvino_file.load, ".pt2": torch_file.load,
        ".tflite": tflite_file.load,
    }  # fmt: skip
    return ExportedNetwork(*loaders[Path(path).suffix.lower()](Path(path), device))
