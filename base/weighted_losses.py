"""The losses of a config, weighted, over every output of a model."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from utils.config.sections import LossTerm
from utils.distributed.collectives import all_reduce_sum, world_size
from utils.logits.coarse_logits import Logits, heads_of

logger = logging.getLogger(__name__)


class WeightedLosses:
    """The sum of several losses over a model's logits and its auxiliary ones.

    Args:
        losses: Each loss, on its device, with its weight.
        aux_weight: The weight of an auxiliary output.
    """

    def __init__(self, losses: Sequence[tuple[nn.Module, LossTerm]], aux_weight: float) -> None:
        self.losses = list(losses)
        self.aux_weight = aux_weight
        self._ranks_agree = world_size() == 1

    @property
    def modules(self) -> list[nn.Module]:
        """The losses alone."""
        return [loss for loss, _ in self.losses]

    @property
    def take_coarse_logits(self) -> bool:
        """Whether every loss works on logits that are not upsampled yet."""
        return all(getattr(loss, "takes_coarse_logits", False) for loss in self.modules)

    def terms(
        self,
        outputs: Logits | tuple[Logits, ...],
        labels: Tensor,
        foreground: Tensor | None = None,
        *,
        learning: bool = False,
    ) -> dict[str, Tensor]:
        """Return every weighted term of the loss, by name.

        Args:
            outputs: Logits (B, K, H, W) or coarse ones, or a tuple of those and auxiliary ones.
            labels: (B, H, W) int64.
            foreground: (B, H, W) bool, where the objects are, if the dataset has one.
            learning: Whether this is a training step: the state of a loss that has one changes in
                these only, and with the first output only.
        """
        if foreground is not None:
            foreground = foreground.to(labels.device)
        terms = {}
        for head, logits in enumerate(heads_of(outputs)):
            factor = self.aux_weight if head else 1.0
            for index, (loss, term) in enumerate(self.losses):
                name = f"{term.type}{f' {index}' if len(self.losses) > 1 else ''}"
                name += f" (auxiliary {head})" if head else ""
                loss.train(learning and head == 0)
                terms[name] = loss(logits, labels, foreground) * (term.weight * factor)
        return terms

    def check_ranks(self, terms: Mapping[str, Tensor]) -> None:
        """Compare the terms of the first step over the ranks; every rank has to call this.

        A loss that sums over the images of its own rank alone would train with another gradient.

        Raises:
            ValueError: If a term differs from rank to rank.
        """
        if self._ranks_agree:
            return
        values = torch.stack(list(terms.values())).detach()
        means = all_reduce_sum(values.clone()) / world_size()
        for name, value, mean in zip(terms, values.tolist(), means.tolist(), strict=True):
            if abs(value - mean) > 1e-3 * abs(mean) + 1e-6:
                raise ValueError(
                    f"loss: {name} differs from rank to rank; compute its sums with pixel_mean(), "
                    "class_mean() or utils.distributed.collectives.batch_sum()"
                )
        self._ranks_agree = True

    def state_dicts(self) -> list[dict[str, Any]]:
        """Return the state of each loss."""
        return [loss.state_dict() for loss in self.modules]

    def load_state_dicts(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take what `state_dicts()` returned; a loss that it does not fit begins anew."""
        padded = [*states, *({} for _ in self.losses)]
        for (loss, term), state in zip(self.losses, padded, strict=False):
            try:
                loss.load_state_dict(state)
            except RuntimeError:
                if loss.state_dict():
                    logger.warning(
                        "the state of %s begins anew: the checkpoint has other losses", term.type
                    )
