"""What happens after a step whose loss is not finite."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from base.base_trainer import TrainingError
from utils.checkpoint.content import ResumePoint
from utils.checkpoint.last import load_last

logger = logging.getLogger(__name__)

MAX_CONSECUTIVE = 10


class BadLossPolicy:
    """Decides whether and how training continues after a step whose loss is not finite.

    Args:
        action: `trainer.on_bad_loss`: end the training, skip the step, or go back to the weights of
            the last checkpoint.
        last_checkpoint: The file to go back to.
    """

    def __init__(self, action: Literal["raise", "skip", "rollback"], last_checkpoint: Path) -> None:
        self.action = action
        self.last_checkpoint = last_checkpoint
        self.consecutive = 0  # such steps in a row

    def respond(self, message: str) -> ResumePoint | None:
        """Count a step whose loss is not finite.

        Returns:
            The checkpoint whose weights are to be loaded; None to keep the weights as they are.

        Raises:
            TrainingError: If the training is to end.
        """
        self.consecutive += 1
        if self.action == "raise":
            raise TrainingError(f"{message}. Use a smaller optimizer.args.lr")
        if self.consecutive == MAX_CONSECUTIVE:
            raise TrainingError(f"{message}; {MAX_CONSECUTIVE} losses in a row are not finite")
        if self.action == "skip":
            logger.warning("%s; the step is skipped", message)
            return None
        checkpoint = load_last(self.last_checkpoint)
        logger.warning("%s; restoring the weights of step %d", message, checkpoint.step or 0)
        return checkpoint


def describe_bad_loss(
    loss: Tensor, terms: Sequence[Mapping[str, Tensor]], names: Iterable[str], where: str
) -> str:
    """Return the message for a loss that is not finite: its images and its terms."""
    values = ", ".join(
        f"{name} = {value.item():g}"
        for micro_batch in terms
        for name, value in micro_batch.items()
        if not value.isfinite()
    )
    return f"the loss is {loss.item():g} in {where} (images: {', '.join(names)}; terms: {values})"
