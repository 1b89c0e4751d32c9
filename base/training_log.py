"""What a training writes down: each step's loss, curves, a row of metrics per epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from base.epoch_stats import Speed
from utils.metrics.confusion import SCALAR_METRICS
from utils.runs.logger import RunLog


class TrainingLog:
    """Names and orders what goes into a run's log.

    Args:
        log: Where it goes.
        classes: The names of the K classes.
    """

    def __init__(self, log: RunLog, classes: Sequence[str]) -> None:
        self.log = log
        self.classes = classes
        self._pending: list[tuple[int, Tensor]] = []

    def add_step(self, step: int, loss: Tensor) -> None:
        """Keep the loss of a step on the device until `write_steps()`."""
        self._pending.append((step, loss))

    def write_steps(self, epoch: int) -> None:
        """Write the losses since the last call, in one read from the device."""
        if self._pending:
            values = torch.stack([loss for _, loss in self._pending]).tolist()
            self.log.steps(epoch, zip([step for step, _ in self._pending], values, strict=True))
            self._pending.clear()

    def write_curves(
        self,
        step: int,
        loss: Tensor,
        speed: Speed,
        learning_rates: Sequence[float],
        gradient_norm: Tensor | None,
    ) -> None:
        """Add a point to the curves of the training."""
        scalars = {
            "train/loss": loss.item(),
            "train/images_per_second": speed.images_per_second,
            "train/data_wait": speed.data_wait,
        }
        if gradient_norm is not None:
            scalars["train/gradient_norm"] = gradient_norm.item()
        rates = rates_by_name(learning_rates)
        self.log.scalars(scalars | {f"train/{name}": rates[name] for name in rates}, step)

    def write_epoch(
        self,
        epoch: int,
        step: int,
        training: Mapping[str, Any],
        validation: Mapping[str, Any],
        learning_rates: Sequence[float],
    ) -> None:
        """Add the metrics of an epoch to the curves, and its row to the table."""
        row = {"epoch": epoch, "step": step, **self._row(training, validation)}
        # None if the epoch had ended when the run was resumed.
        measured = training if training["images_per_second"] else {}
        speed = {name: measured.get(name) for name in (*Speed._fields, "seconds")}
        # Last what no second run repeats, as it depends on the machine.
        self.log.metrics({**row, **rates_by_name(learning_rates), **speed})
        for phase, metrics in (("train", training), ("val", validation)):
            if metrics:
                self.log.scalars(
                    {
                        f"{phase}/loss": metrics.get("val_loss"),  # of training after each step
                        f"{phase}/Pixel_Accuracy": metrics["Pixel_Accuracy"],
                        f"{phase}/Mean_IoU": metrics["Mean_IoU"],
                        **self._by_class(f"{phase}_Class_IoU", metrics["Class_IoU"]),
                    },
                    step,
                )

    def _row(
        self, training: Mapping[str, Any], validation: Mapping[str, Any]
    ) -> dict[str, float | None]:
        """Return every metric of an epoch by the name of its column.

        The columns are the same in every epoch, with None where nothing was measured.
        """
        no_ious = [None] * len(self.classes)
        return {
            "loss": training["loss"],
            "val_loss": validation.get("val_loss"),
            **{name: validation.get(name) for name in SCALAR_METRICS},
            **{f"train/{name}": training[name] for name in SCALAR_METRICS},
            **self._by_class("IoU", validation.get("Class_IoU", no_ious)),
            **self._by_class("train/IoU", training["Class_IoU"]),
        }

    def _by_class(self, prefix: str, values: Sequence[float | None]) -> dict[str, float | None]:
        pairs = zip(self.classes, values, strict=True)
        return {f"{prefix}/{name}": value for name, value in pairs}


def rates_by_name(learning_rates: Sequence[float]) -> dict[str, float]:
    """Return the learning rate of each parameter group by the name of its curve."""
    return {f"Learning_rate_{index}": rate for index, rate in enumerate(learning_rates)}
