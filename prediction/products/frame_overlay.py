"""The classes over a frame of a video, and one legend that is below all frames."""

from collections.abc import Callable, Iterable

import numpy as np

from prediction.products.kinds import Settings
from prediction.products.rows import ImageFacts, Rows
from prediction.products.sheets import names_and_colours
from utils.drawing.legend import Entry
from utils.drawing.legend_strip import draw_legend_strip, legend_size
from utils.drawing.overlay import is_background, lay_over, outline_thickness


class FrameOverlay:
    """An overlay in memory.

    Args:
        facts: The frame.
        settings: How it looks.
        keep: Takes the overlay, (H, W, 3) uint8 RGB.
    """

    needs: Iterable[str] = ("image",)

    def __init__(
        self, facts: ImageFacts, settings: Settings, keep: Callable[[np.ndarray], None]
    ) -> None:
        names, self._palette = names_and_colours(facts)
        self._clear = [number for number, name in enumerate(names) if is_background(name)]
        self._opacity = 0.0 if settings.outlines_only else settings.strength
        self._keep = keep
        self._ids: list[np.ndarray] = []
        self._image: list[np.ndarray] = []

    def write(self, rows: Rows) -> None:
        """Take the next rows."""
        assert rows.image is not None  # `needs` asks for it
        self._ids.append(rows.ids.copy())
        self._image.append(rows.image.copy())

    def finish(self) -> None:
        """Draw it and hand it over."""
        ids = np.concatenate(self._ids)
        drawn = lay_over(
            np.concatenate(self._image), ids, self._palette,
            clear=self._clear, opacity=self._opacity, thickness=outline_thickness(*ids.shape),
        )  # fmt: skip
        self._keep(drawn)

    def discard(self) -> None:
        """Forget the rows."""
        self._ids, self._image = [], []


def legend_of_all(facts: ImageFacts) -> np.ndarray | None:
    """Return a legend of all classes to go below frames, (h, w, 3) uint8 RGB.

    None if it would be larger than the frame itself, as of many classes.
    """
    names, palette = names_and_colours(facts)
    entries = [
        Entry(name, (colour[0], colour[1], colour[2]), 0.0, str(number), not is_background(name))
        for number, (name, colour) in enumerate(zip(names, palette, strict=True))
        if name
    ]
    size = legend_size(facts.height, facts.width)
    strip = draw_legend_strip(entries, facts.width, size, fractions=False)
    return strip if strip.shape[0] <= facts.height and strip.shape[1] <= facts.width else None


def with_legend(frame: np.ndarray, legend: np.ndarray | None) -> np.ndarray:
    """Return a frame with a legend below; the legend may be narrower."""
    if legend is None:
        return frame
    height = len(frame) + len(legend)
    sheet = np.full((height + height % 2, frame.shape[1], 3), 255, np.uint8)  # even, for encoders
    sheet[: len(frame)] = frame
    sheet[len(frame) : height, : legend.shape[1]] = legend
    return sheet
