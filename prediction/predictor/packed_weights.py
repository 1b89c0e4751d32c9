"""The weights of convolutions, laid out for the processor once instead of in each forward pass."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch
from torch import Tensor, nn

# Below this many values the layout costs nothing worth the memory of a second copy.
_MIN_VALUES = 1 << 11


class PackedWeights:
    """Copies of a model's convolution weights in the blocked layout of oneDNN.

    torch brings the weights into that layout anew in every forward pass, which takes a tenth of a
    small image's time on a processor. The values stay the same; the results differ by rounding.

    Args:
        model: The model, whose modules stay as they are but inside of `used()`.
    """

    def __init__(self, model: nn.Module) -> None:
        # A compiled model has its own way, and subclasses of Conv2d may do anything.
        usable = is_available() and not hasattr(model, "_orig_mod")
        convolutions = [m for m in model.modules() if type(m) is nn.Conv2d] if usable else []
        self._packed = [_PackedConv2d(each) for each in convolutions if _can_be_packed(each)]
        self._users = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Let the model's convolutions use the packed weights in this context."""
        self._change_users(1)
        try:
            yield
        finally:
            self._change_users(-1)

    def _change_users(self, change: int) -> None:
        with self._lock:  # several threads may predict with one model
            before, self._users = self._users, self._users + change
            for packed in self._packed if 0 in (before, self._users) else ():
                if self._users:
                    packed.module.forward = packed.forward  # type: ignore
                else:
                    del packed.module.forward


def is_available() -> bool:
    """Return whether this build of torch has oneDNN and its packed convolutions."""
    names = ("_convolution_pointwise", "_reorder_convolution_weight")
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in names
    )


def _can_be_packed(module: nn.Conv2d) -> bool:
    weight = module.weight
    return (
        isinstance(weight, nn.Parameter)
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.numel() >= _MIN_VALUES
        and not weight.is_inference()
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and "forward" not in vars(module)
    )


class _PackedConv2d:
    """The forward pass of a convolution with packed weights.

    Args:
        module: The convolution. If its weights change, they are packed again.
    """

    def __init__(self, module: nn.Conv2d) -> None:
        self.module = module
        self._made_of: tuple[int, int, torch.dtype] | None = None
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, K, h, w), in bfloat16 where autocast says so."""
        module = self.module
        if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16:
            images = images.to(torch.bfloat16)
        elif torch.is_autocast_enabled("cpu") or images.dtype != torch.float32:
            return nn.Conv2d.forward(module, images)
        if torch.is_grad_enabled() or images.dim() != 4 or not images.numel():
            return nn.Conv2d.forward(module, images)
        made_of = (module.weight.data_ptr(), module.weight._version, images.dtype)
        if self._made_of != made_of:
            self._pack(images)
            self._made_of = made_of
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(
            images, self._weight, self._bias, module.padding, module.stride, module.dilation,
            module.groups, "none", [], "",
        )  # fmt: skip
        return made

    def _pack(self, images: Tensor) -> None:
        module = self.module
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            module.weight.detach().to(images.dtype), module.padding, module.stride,
            module.dilation, module.groups, list(images.shape),
        )  # fmt: skip
        bias = module.bias
        self._bias = None if bias is None else bias.detach().to(images.dtype)
