"""Batch normalisation over the batch of all processes, on GPUs and on the CPU."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from utils.distributed.collectives import sum_of_all, world_size
from utils.logits.coarse_logits import CoarseLogits, Logits, heads_of

_is_dummy = False


@contextlib.contextmanager
def dummy_forward(enabled: bool) -> Iterator[None]:
    """Keep the image of `forward_dummy()` out of the statistics of batch normalisation.

    In the backward pass, too, where activations may be computed again.

    Args:
        enabled: Whether the rank has no image; else the context does nothing.
    """
    global _is_dummy
    former, _is_dummy = _is_dummy, enabled
    try:
        yield
    finally:
        _is_dummy = former


def forward_dummy(network: nn.Module, images: Tensor) -> tuple[Logits, ...]:
    """Forward a dummy image, so that a rank without images still joins the collectives.

    Not every model takes a batch of nothing (attention of libraries does not).

    Args:
        network: In `dummy_forward(True)`.
        images: (0, C, H, W).

    Returns:
        Logits (0, K, H, W), and auxiliary ones.
    """
    return tuple(
        logits._replace(values=logits.values[:0])
        if isinstance(logits, CoarseLogits)
        else logits[:0]
        for logits in heads_of(network(images.new_zeros(1, *images.shape[1:])))
    )


class _Replacement(_BatchNorm):
    """A layer that replaces another.

    Args:
        norm: The layer to replace. Its parameters, buffers and, as timm has some with an
            activation inside, its children become this layer's, under the same names.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        for name, parameter in norm.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in norm.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        for name, child in norm.named_children():
            self.add_module(name, child)
        self.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        """Return normalised maps (B, C, ...) of the same shape.

        Raises:
            ValueError: If there is one value for each channel in all processes together.
        """
        if _is_dummy:
            # Zeros, which stay finite from one layer to the next whatever the weights are.
            output = torch.cat([self.normalised(input[:0]), torch.zeros_like(input)])
        else:
            output = self.normalised(input)
        for child in self.children():
            output = child(output)
        return output

    def normalised(self, input: Tensor) -> Tensor:
        """Return `forward()` without the children behind it."""
        return super().forward(input)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected maps (B, C, ...), got {tuple(input.shape)}")


class GpuSyncBatchNorm(_Replacement, nn.SyncBatchNorm):
    """torch's `SyncBatchNorm`."""


class CpuSyncBatchNorm(_Replacement):
    """The same numbers for tensors on the CPU, which torch's refuses.

    A rank without an image takes part with nothing.
    """

    def normalised(self, input: Tensor) -> Tensor:
        """Normalise by the statistics of the images of all ranks together."""
        if not self.training or world_size() == 1:
            return super().normalised(input)
        values = input if input.dtype == torch.float64 else input.float()
        axes = [0, *range(2, input.ndim)]
        shape = [1, -1] + [1] * (input.ndim - 2)
        own = values.new_full((1,), input.numel() / input.shape[1])
        *sums, count = sum_of_all(torch.cat([values.sum(axes), own])).split([input.shape[1], 1])
        if count <= 1:
            raise ValueError(
                "Expected more than 1 value per channel when training, got one in all processes"
            )
        mean = sums[0] / count
        centred = values - mean.view(shape)
        variance = sum_of_all(centred.square().sum(axes)) / count
        self._move_statistics(mean.detach(), variance.detach() * count / (count - 1))
        output = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            output = output * self.weight.view(shape) + self.bias.view(shape)
        return output.to(input.dtype)

    @torch.no_grad()
    def _move_statistics(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


def synchronise(model: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch normalisation of a model by one over all ranks, in place."""
    if isinstance(model, _BatchNorm):
        if isinstance(model, (_Replacement, nn.SyncBatchNorm)):
            return model
        return GpuSyncBatchNorm(model) if device.type == "cuda" else CpuSyncBatchNorm(model)
    for name, child in model.named_children():
        setattr(model, name, synchronise(child, device))
    return model


def is_synchronised(model: nn.Module) -> bool:
    """Return whether a model's batch normalisation, if any, sees the batch of all ranks."""
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    return all(isinstance(layer, (_Replacement, nn.SyncBatchNorm)) for layer in norms)
