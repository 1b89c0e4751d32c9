"""What fits into memory: whether an image goes through the model at once, or in which windows."""

import dataclasses
import logging
from typing import NoReturn

import torch

from prediction.predictor.network import WINDOW_SIZES, Predictor
from prediction.predictor.windows import WindowRule
from utils.memory import free_memory, keep_little_unused, peak_of, resident_memory, return_unused

logger = logging.getLogger(__name__)

# How what is free is shared out. The rest is for what nobody counts.
_NETWORK = 0.5  # the features of a window
_ASKED = 0.8  # the same, of windows whose size is asked for
_KEPT = 0.1  # what bands of windows share; as much for their products; as much for rows of a file
_LOADED = 0.08  # images that are read at once, all of them together
_ONCE = 0.6  # a file that has to be decoded at once, before the network works

# Images of fewer pixels are not worth a look at the memory unless a budget is given.
_SMALL = 1 << 22
# More than networks take for each pixel of an image, in bytes: no measurement is needed below.
_PESSIMISTIC = 16_000
# What is measured, in pixels, at the largest scale; small images take more for each pixel.
_SIDE, _SMALLEST_SIDE = 256, 16
_MARGIN = 1.2

_RULE = WindowRule(WINDOW_SIZES[0])


class BudgetError(ValueError):
    """A budget that no image, or no window, fits into; the message says what to give."""


@dataclasses.dataclass(frozen=True)
class Shares:
    """What each part of the work may have in memory, in bytes; the rest goes to files."""

    loaded: float  # an image that is read at once and stays in memory
    once: float  # a file that is decoded at once
    rows: float  # the last rows of a file that is read in order
    carry: float  # the scores that bands of windows share
    products: float  # what a band's products are made of


class MemoryBudget:
    """Plans windows so that the process stays within a budget.

    Args:
        predictor: The predictor; its memory for an image is measured the first time it matters.
        channels: C of its images.
        total: The most memory of this process in bytes, everything included; None for what is free
            now.
        rule: How images are cut.
        fixed: Whether the size of windows is given: then all images larger than it are cut;
            otherwise only those that would not fit, into windows of a size that does.
        ahead: How many images are in memory at the same time.
        processes: How many processes like this one share what is free.
        classes: K.
        copies: How many arrays of the size of a window's logits there are beside the network.
    """

    def __init__(
        self,
        predictor: Predictor,
        channels: int,
        *,
        total: int | None = None,
        rule: WindowRule = _RULE,
        fixed: bool = False,
        ahead: int = 1,
        processes: int = 1,
        classes: int = 1,
        copies: int = 3,
    ) -> None:
        self._predictor, self._channels = predictor, channels
        self._given = total is not None
        if self._given:
            keep_little_unused()
        if total is None:
            total = resident_memory() + int(0.8 * free_memory() / processes)
        self._total = total
        self._rule, self._fixed = rule, fixed
        self._ahead = max(1, ahead)
        self._beside = 4 * classes * copies  # bytes a pixel
        # Each pixel of an image is so many in the largest pass.
        views = predictor.views
        largest = max(views.scales) if views.mode == "multiscale" else 1.0
        self._enlarged = max(1.0, largest) ** 2 * views.at_once
        self._side = max(_SMALLEST_SIDE, min(_SIDE, int(_SIDE / max(1.0, largest / 2))))
        self._per_pixel: float | None = None

    def free(self) -> float:
        """Return what is left of the budget.

        Raises:
            BudgetError: If the program alone takes more than it.
        """
        resident = resident_memory()
        left = self._total - resident
        if left < 0.1 * self._total:
            return_unused()
            left = self._total - resident_memory()
        if self._given and left < 0.1 * self._total:
            raise BudgetError(
                f"--memory: the program and the model alone take {resident / 1e6:.0f} MB, and "
                f"{self._total / 1e6:.6g} MB is what they may take; give at least "
                f"{(resident * 1.5 + 2e8) / 1e6:.0f}MB"
            )
        return max(left, 1e8)

    def shares(self) -> Shares:
        """Return what each part of the work may have now."""
        free = self.free()
        kept = _KEPT * free
        return Shares(_LOADED * free / self._ahead, _ONCE * free, kept, kept, kept)

    def rule_for(self, height: int, width: int) -> WindowRule | None:
        """Return how to cut an image; None for not at all.

        Args:
            height: Height of the image, in pixels.
            width: Width of the image, in pixels.

        Raises:
            BudgetError: If a window that the user asks for does not fit into the given budget.
        """
        pixels = height * width
        if self._fixed:
            if self._given and not self.fits(min(pixels, self._rule.size**2)):
                self._refuse(self._rule.size)
            return self._rule
        if self.fits(pixels):
            return None
        # What an image as a whole does not keep for later, its windows do.
        room = self._room() * _NETWORK / (_NETWORK + _KEPT)
        sizes = [size for size in WINDOW_SIZES if size**2 <= room]
        if not sizes and self._given:
            self._refuse(WINDOW_SIZES[-1])
        size = sizes[0] if sizes else WINDOW_SIZES[-1]
        return dataclasses.replace(self._rule, size=size)

    def fits(self, pixels: int) -> bool:
        """Return whether an image, or a batch of images, goes through the model at once.

        Args:
            pixels: How many pixels it has together.
        """
        enlarged = pixels * self._enlarged
        if enlarged < _SMALL and not self._given:
            return True
        if enlarged * _PESSIMISTIC < self._free_for_network():
            return True
        return pixels <= self._room()

    def at_once(self, rule: WindowRule | None, wanted: int) -> int:
        """Return how many windows of a rule go through the model together, at most `wanted`."""
        while wanted > 1 and rule is not None and not self.fits(wanted * rule.size**2):
            wanted //= 2
        return wanted

    def _need(self) -> float:
        """Return about how many bytes each pixel of a window takes."""
        return self.per_pixel() * _MARGIN + self._beside

    def _free_for_network(self) -> float:
        """Return the bytes that a pass may take, with what is made of it."""
        if self._predictor.device.type != "cpu":
            # The features are on the device, where memory that runs out is noticed.
            return 0.8 * torch.cuda.mem_get_info(self._predictor.device)[0]
        # Windows that are asked for leave less for the rest.
        share = _ASKED if self._fixed else _NETWORK + _KEPT
        return share * self.free()

    def _room(self) -> float:
        """Return how many pixels of an image may go through the model at once."""
        return self._free_for_network() / self._need()

    def _refuse(self, size: int) -> NoReturn:
        need, room = size**2 * self._need(), self._free_for_network()
        side = int((room / self._need()) ** 0.5) // 32 * 32
        raise BudgetError(
            f"--memory: a window of {size} pixels takes about {need / 1e6:.0f} MB with this model "
            f"and these options, and {room / 1e6:.0f} MB are left for it; use "
            + (f"--window {side}, or " if side >= 64 and self._fixed else "")
            + "more --memory"
            + (", or smaller --scales" if self._predictor.mode == "multiscale" else "")
        )

    def per_pixel(self) -> float:
        """Return the bytes that the network takes for each pixel of an image, measured once."""
        if self._per_pixel is None:
            self._per_pixel = self._measure()
            logger.info("the network takes %.0f bytes a pixel", self._per_pixel)
        return self._per_pixel

    def _measure(self) -> float:
        side = max(self._side, self._predictor.views.min_size)
        pixels = torch.zeros(1, side, side, self._channels)

        def work() -> None:
            with torch.inference_mode():
                self._predictor.predict_batch(pixels)

        device = self._predictor.device
        if device.type == "cuda":
            work()
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            work()
            return (torch.cuda.max_memory_allocated(device) - before) / side**2
        # The first pass takes more, for what is set up once.
        return max(peak_of(work), peak_of(work)) / side**2
