"""Less memory for more time: activations are computed again in the backward pass."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from utils.snapshot import StateSnapshot

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)


def recompute_activations(model: nn.Module) -> int:
    """Let the blocks of a model keep their inputs only, and run again when their gradient is asked.

    A block is a smallest module with two layers that have weights: a residual block, a stage of
    U-Net, a block of a transformer. Losses, gradients, dropout and the statistics of BatchNorm are
    the same to the bit. To be called after all copies of the model have been made.

    Paper: Training Deep Nets with Sublinear Memory Cost, https://arxiv.org/abs/1604.06174

    Returns:
        How many blocks there are.
    """
    blocks = [block for child in model.children() for block in _blocks_of(child)]
    for block in blocks:
        block.forward = _Recomputed(block)
    return len(blocks)


def _blocks_of(module: nn.Module) -> list[nn.Module]:
    inner = [block for child in module.children() for block in _blocks_of(child)]
    if inner:
        return inner
    layers = sum(isinstance(layer, _LAYERS) for layer in module.modules())
    return [module] if layers >= 2 else []


class _Recomputed:
    """The forward pass of a block."""

    def __init__(self, block: nn.Module) -> None:
        self.forward = block.forward
        self.snapshot = StateSnapshot(block, [])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        # DenseNet appends to a list that its layers were given.
        given = [list(arg) if isinstance(arg, list) else arg for arg in args]
        return checkpoint(
            self.forward, *given, use_reentrant=False, context_fn=self._contexts, **kwargs
        )

    def _contexts(self) -> tuple[contextlib.nullcontext[None], Any]:
        return contextlib.nullcontext(), self._again()

    @contextlib.contextmanager
    def _again(self) -> Iterator[None]:
        """Keep the statistics as they are in the second forward pass."""
        self.snapshot.remember()
        try:
            yield
        finally:
            self.snapshot.restore()
