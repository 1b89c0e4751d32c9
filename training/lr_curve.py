"""Draw the curve of a search for a learning rate."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from utils.files.atomic_write import new_file

SIZE, DPI = (8.0, 4.8), 120  # inches, pixels an inch
COLOURS = ("#d9661f", "#2e8b57")


def draw_rate_curve(
    rates: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray,
    marks: Mapping[str, float],
    title: str,
    path: Path,
) -> np.ndarray:
    """Draw the loss over the learning rate into a PNG file.

    Args:
        rates: (N,) learning rates, rising.
        losses: (N,) of single steps.
        smoothed: (N,) without their noise.
        marks: Learning rates to mark, by name; two at most.
        title: The title of the plot.
        path: The PNG file to write.

    Returns:
        The plot (H, W, 3) uint8 RGB.

    Raises:
        OSError: If the file exists or cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log")
    axes.plot(rates, losses, color="#8aa0b8", linewidth=1.2, label="each step")
    axes.plot(rates, smoothed, color="#1f5fa8", linewidth=2.2, label="smoothed")
    for (name, rate), colour in zip(marks.items(), COLOURS, strict=False):
        height = np.interp(np.log(rate), np.log(rates), smoothed)
        axes.axvline(rate, color=colour, linewidth=1.2, linestyle="--")
        axes.plot(rate, height, "o", color=colour, label=f"{name}: {rate:.2g}")
    if len(smoothed):
        # A loss that diverges would press all else into a line.
        low, high = min(smoothed.min(), losses.min()), smoothed.max()
        margin = 0.12 * (high - low) or 0.1
        axes.set_ylim(low - margin, high + 2 * margin)
    axes.set_xlabel("learning rate (optimizer.args.lr)")
    axes.set_ylabel("training loss")
    axes.set_title(title, fontsize=11)
    axes.grid(True, which="major", color="#e3e8ee")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best")
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    with new_file(path) as file:
        figure.savefig(file, format="png")
    return pixels
