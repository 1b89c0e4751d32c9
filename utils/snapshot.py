"""A snapshot of what a forward pass changes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class StateSnapshot:
    """Remembers what a forward pass changes beside gradients, and puts it back.

    That is the statistics of BatchNorm and whatever else is a buffer of the model, and the state of
    the losses. Buffers have to be changed in place, as torch's own modules do.

    Args:
        model: The model whose buffers are kept.
        losses: The losses whose state is kept.
    """

    def __init__(self, model: nn.Module, losses: Sequence[nn.Module]) -> None:
        self._losses = losses
        # One call for all buffers of a type: on a GPU each call counts, not what it copies.
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for buffer in model.buffers():
            by_type.setdefault(buffer.dtype, []).append(buffer)
        self._groups = [(own, [b.clone() for b in own]) for own in by_type.values()]
        self._states: list[dict[str, Tensor]] = []
        self.remember()

    @torch.no_grad()
    def remember(self) -> None:
        """Take the snapshot."""
        for own, kept in self._groups:
            torch._foreach_copy_(kept, own)
        self._states = [
            {name: value.clone() for name, value in loss.state_dict().items()}
            for loss in self._losses
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back as it was in the snapshot."""
        for own, kept in self._groups:
            torch._foreach_copy_(own, kept)
        for loss, state in zip(self._losses, self._states, strict=True):
            loss.load_state_dict(state)
