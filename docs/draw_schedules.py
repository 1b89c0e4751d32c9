"""Draws every schedule as a small chart: `python -m docs.draw_schedules docs/schedules.png`."""

import argparse
import math
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn, optim

from utils.config.sections import ScheduleSection, TrainerSection
from utils.optim.schedule_from_config import schedule_of

EPOCHS, STEPS = 30, 20
COLUMNS = 4
RATE = 0.1


class Panel(NamedTuple):
    """One chart: what stands above it, and the section of the config that it shows."""

    title: str
    section: ScheduleSection


def panel(title: str, kind: str, args: dict[str, Any] | None = None, **keys: Any) -> Panel:
    """Return a chart of `{"type": kind, "args": args, **keys}`."""
    return Panel(title, ScheduleSection(kind, args or {}, **keys))


PANELS = (
    panel("Poly", "Poly"),
    panel("OneCycle", "OneCycle"),
    panel("Step", "Step", {"milestones": [15, 25]}),
    panel("Cosine", "Cosine"),
    panel("Cosine, restarts", "Cosine", {"period_epochs": 2, "period_factor": 2}),
    panel("Poly, linear warm-up", "Poly", warmup_epochs=4),
    panel("Cosine, constant warm-up", "Cosine", warmup_epochs=3, warmup_mode="constant",
          warmup_factor=0.1),
    panel("StepLR, linear warm-up", "StepLR", {"step_size": 10, "gamma": 0.3}, warmup_epochs=3),
    panel("ExponentialLR", "ExponentialLR", {"gamma": 0.9}),
    panel("OneCycleLR", "OneCycleLR", {"three_phase": True}),
    panel("CyclicLR", "CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 100,
                                   "mode": "triangular2"}),
    panel("ReduceLROnPlateau", "ReduceLROnPlateau", {"patience": 3, "factor": 0.3}),
)  # fmt: skip


def rates_of(section: ScheduleSection) -> list[float]:
    """Return the rate of each step of a run whose monitored metric rises for twelve epochs."""
    optimizer = optim.SGD([nn.Parameter()], lr=RATE, momentum=0.9)
    schedule = schedule_of(section, TrainerSection(EPOCHS), optimizer, STEPS)
    rates = []
    for epoch in range(EPOCHS):
        for _ in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        schedule.epoch_end(float(min(epoch, 12)))
    return rates


def draw(path: Path) -> None:
    """Draw `PANELS` into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = math.ceil(len(PANELS) / COLUMNS)
    figure = Figure(figsize=(2.6 * COLUMNS, 1.9 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True)
    for axes, shown in zip(grid.flat, PANELS, strict=False):
        epochs = [step / STEPS for step in range(EPOCHS * STEPS)]
        axes.plot(epochs, rates_of(shown.section), color="#1f5fa8", linewidth=1.8)
        axes.set_title(shown.title, fontsize=10)
        axes.grid(True, color="#e3e8ee")
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(f"epoch of {EPOCHS}", fontsize=10)
    figure.supylabel("learning rate", fontsize=10)
    figure.savefig(path)


def main(argv: list[str] | None = None) -> None:
    """Draw into the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="of the PNG file")
    draw(parser.parse_args(argv).path)


if __name__ == "__main__":
    main()
