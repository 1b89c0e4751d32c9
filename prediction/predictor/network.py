"""A model's prediction for one image of any size, at once or in windows."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from prediction.predictor.merge import Flip, Merge
from prediction.predictor.mosaic import Block, blend
from prediction.predictor.views import SCALES, Member, Views, Watcher
from prediction.predictor.windows import Grid, Window, WindowRule, same_size_runs
from utils.cli.choices import DEFAULT_MODE
from utils.files.spill import Spill
from utils.logits.to_labels import predict_labels
from utils.out_of_memory import none_if_out_of_memory, with_cpu_fallback

T = TypeVar("T")

# The sizes of windows that are chosen where memory runs out. Smaller ones show too little of an
# image to be of use.
WINDOW_SIZES = (1024, 512, 256, 128)

# Followed by the size.
IN_WINDOWS = (
    "memory is too small for some images as a whole: they are predicted in overlapping windows, "
    "with a somewhat different result, which is that of --window"
)

# Returns the pixels (h, w, C) of a window.
Reader = Callable[[Window], np.ndarray]


class Predictor:
    """Predicts the classes of an image of any size.

    Where a pixel is seen several times (scales, tiles, mirrored, several models, windows), the
    **logits** are averaged by default and the class with the largest mean is predicted, as in
    pytorch-segmentation; `merge` has other ways.

    A large image is predicted in overlapping windows if a `WindowRule` says so: each window like an
    image of its own in the same mode, blended by `blend()`. If memory runs out, prediction
    continues with less, and begins with that the next time:

    - fewer views (mirrored ones, images of a batch) at once, half as many and half again; and
      images and sums in the host's memory instead of the accelerator's. Neither changes the result,
      but for rounding.
    - windows of half the size, from the start of the image, down to 128 pixels a side: the result
      is that of `WindowRule(size)`, and `notes` then has `IN_WINDOWS`.

    Args:
        model: From images (B, C, H, W) to logits (B, K, H, W). It is moved to `device` and
            switched to evaluation.
        mean: The mean of each channel, as for `normalize()`.
        std: The standard deviation of each channel.
        device: The device that the model runs on.
        mode: `"whole"` is one pass at the image's own size. `"multiscale"` averages the passes
            over the image resized by each of `scales`. `"sliding"` averages overlapping tiles of
            2/5 of the height and width, so that the model never sees more at once.
        scales: For `"multiscale"`; for Cityscapes 2.25 is usually added.
        flip: Average with the mirrored image too (`"horizontal"`), which takes twice the time;
            `"both"` with the four mirror images, `"all8"` with those of the transposed image too.
            None leaves it to the mode: horizontal for `"sliding"`, none for the others.
        threshold: For two classes, predict class 1 where its probability is at least this; None
            predicts the more probable class.
        merge: How views become one: `"mean-logits"`, `"mean-probabilities"` or `"max"`.
        others: More models of the same classes, whose scores are merged with those of `model`.
        weight: How much `model` counts beside `others`.
        amp: The precision of the network: `"off"` for 32 bits, `"bf16"`, `"fp16"`, or `"auto"`.
        window: How images in memory are cut; None for not at all, as long as they fit.

    Raises:
        ValueError: If `mode`, `flip` or `merge` is unknown, a scale or weight is not positive, a
            standard deviation is zero, or the device cannot do `amp`.
    """

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str,
        *,
        mode: str = DEFAULT_MODE,
        scales: Sequence[float] = SCALES,
        flip: Flip | None = None,
        threshold: float | None = None,
        merge: Merge = "mean-logits",
        others: Sequence[Member] = (),
        weight: float = 1.0,
        amp: str = "off",
        window: WindowRule | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.views = Views(
            (Member(model, mean, std, weight), *others),
            self.device,
            mode=mode,
            scales=scales,
            flip=flip,
            merge=merge,
            amp=amp,
        )
        self.mode = mode
        self.threshold = threshold
        self.window = window

    @property
    def model(self) -> nn.Module:
        """The first model."""
        return self.views.members[0].model

    @property
    def notes(self) -> list[str]:
        """The warnings so far, each given once: about memory, and about files."""
        return self.views.notes

    def note(self, text: str, about: str | None = None) -> None:
        """Log a warning, once, see `Views.note()`."""
        self.views.note(text, about)

    @contextlib.contextmanager
    def watched_by(self, watcher: Watcher) -> Iterator[None]:
        """Call `watcher` after every forward pass in this context; the result is the same."""
        self.views.watcher = watcher
        try:
            yield
        finally:
            self.views.watcher = None

    # One image in memory

    def predict(self, image: np.ndarray, rule: WindowRule | None = None) -> np.ndarray:
        """Predict the class of each pixel of an image (H, W, C), see `predict_logits()`.

        Returns:
            (H, W) ids, uint8, or uint16 if there are more than 256 classes.

        Raises:
            ValueError: As `predict_logits()`; or if a logit is not finite.
        """
        logits = self.predict_logits(image, rule)
        check_finite(logits)
        dtype = np.uint8 if logits.shape[0] <= 256 else np.uint16
        ids = with_cpu_fallback(lambda part: predict_labels(part[None], self.threshold)[0], logits)
        return ids.cpu().numpy().astype(dtype)

    @torch.inference_mode()
    def predict_logits(self, image: np.ndarray, rule: WindowRule | None = None) -> Tensor:
        """Predict the mean logits of each pixel.

        Args:
            image: (H, W, C), uint8 or in the raw units of the sensor.
            rule: How to cut the image into windows; None for `window`.

        Returns:
            (K, H, W) float32, on the device or, if they are large, in the host's memory; K is 2
            also for a model with one output channel, see `all_channels()`.

        Raises:
            ValueError: If `image` is not (H, W, C), is empty, or has the wrong number of channels.
            RuntimeError: If not even a small window fits into memory, see `is_out_of_memory()`.
        """
        if image.ndim != 3 or not image.size:
            raise ValueError(f"expected an image (H, W, C), got shape {image.shape}")
        height, width = image.shape[:2]

        def read(window: Window) -> np.ndarray:
            top, left, h, w = window
            return image[top : top + h, left : left + w]

        def assemble(chosen: WindowRule | None) -> Tensor:
            total: Tensor | None = None
            with Spill(inf) as spill:
                for top, left, scores in self.blocks(read, height, width, chosen, spill):
                    h, w = scores.shape[1:]
                    if (h, w) == (height, width):
                        return scores
                    if total is None:
                        total = torch.empty(len(scores), height, width)
                    total[:, top : top + h, left : left + w] = scores.to(total.device)
            assert total is not None
            return total

        return self.with_room(height, width, rule or self.window, assemble)

    @torch.inference_mode()
    def predict_batch(self, images: Tensor) -> Tensor:
        """Predict the logits of images (B, H, W, C) of one size, each as a whole.

        Returns:
            (B, K, H, W) float32, on the device or, if there is no room, in the host's memory.

        Raises:
            RuntimeError: As `predict_logits()`.
        """
        height, width = images.shape[1:3]
        self.views.expect([(height, width)])
        return self.views.logits(images)

    # Windows

    @torch.inference_mode()
    def blocks(
        self,
        read: Reader,
        height: int,
        width: int,
        rule: WindowRule | None,
        spill: Spill,
        at_once: int = 1,
    ) -> Iterator[Block]:
        """Yield the logits of an image block by block, from the top down, each pixel once.

        Args:
            read: Returns the pixels (h, w, C) of a window; called from another thread, for
                windows in the order of `Grid.windows()`.
            height: Height of the image, in pixels.
            width: Width of the image, in pixels.
            rule: How the image is cut; None for one block that is the whole image.
            spill: Keeps what bands of windows share.
            at_once: How many windows of one size go through the model together.

        Raises:
            RuntimeError: If a window does not fit into memory, see `with_room()`.
        """
        grid = Grid(height, width, rule)
        self.views.expect([(window.height, window.width) for window in grid.windows()])
        batches = (
            batch
            for row in range(len(grid.rows))
            for batch in same_size_runs(grid.band(row), at_once)
        )
        yield from blend(grid, self._predicted(batches, read), spill)

    def _predicted(
        self, batches: Iterable[list[Window]], read: Reader
    ) -> Iterator[tuple[Window, Tensor]]:
        """Yield each window and its logits (K, h, w); the next windows are read meanwhile."""

        def pixels(batch: list[Window]) -> tuple[list[Window], np.ndarray]:
            return batch, np.stack([read(window) for window in batch])

        for batch, stacked in _one_ahead(batches, pixels):
            logits = self.views.logits(torch.from_numpy(stacked))
            yield from zip(batch, logits, strict=True)

    def with_room(
        self,
        height: int,
        width: int,
        rule: WindowRule | None,
        work: Callable[[WindowRule | None], T],
    ) -> T:
        """Return `work(rule)`; with windows half as large, again and again, if memory runs out.

        `work` begins anew each time, so that its result is that of the last rule alone.

        Args:
            height: Height of the image, in pixels.
            width: Width of the image, in pixels.
            rule: How the image is cut at first; None for not at all.
            work: Predicts the image by a rule.

        Raises:
            RuntimeError: If memory is too small for the smallest windows.
        """
        limits = self.views.limits
        before = dataclasses.replace(limits)
        if height * width >= limits.whole and _span(rule, inf) > limits.window:
            rule = _with_size(rule, limits.window)
        try:
            while (smaller := self._smaller(height, width, rule)) is not None:
                made = none_if_out_of_memory(work, rule)
                if made is not None:
                    return made
                limits.whole = min(limits.whole, height * width)
                limits.window = smaller.size
                rule = smaller
                self.note(f"{IN_WINDOWS} {rule.size}")
            return work(rule)
        except BaseException:
            # If not even the smallest fits, other programs use the memory, perhaps for a moment.
            self.views.limits = before
            raise

    def _smaller(self, height: int, width: int, rule: WindowRule | None) -> WindowRule | None:
        """Return the next smaller windows; None if there are none."""
        side = min(_span(rule, inf), max(height, width))
        sizes = [size for size in WINDOW_SIZES if size < side and size >= self.views.min_size]
        return _with_size(rule, sizes[0]) if sizes else None


def _one_ahead(
    items: Iterable[T], work: Callable[[T], tuple[T, np.ndarray]]
) -> Iterator[tuple[T, np.ndarray]]:
    """Yield `work(item)` of each item in order; the next is worked on in a thread meanwhile."""
    source = iter(items)
    first = next(source, None)
    if first is None:
        return
    made = work(first)
    with ThreadPoolExecutor(1) as pool:
        for item in source:
            ahead = pool.submit(work, item)
            yield made
            made = ahead.result()
    yield made


def _span(rule: WindowRule | None, whole: float) -> float:
    return whole if rule is None else rule.size


def _with_size(rule: WindowRule | None, size: int) -> WindowRule:
    return WindowRule(size) if rule is None else dataclasses.replace(rule, size=size)


def out_of_memory_advice(device: torch.device) -> str:
    """Describe why an image cannot be predicted that does not fit into memory."""
    advice = "" if device.type == "cpu" else "; try --device cpu"
    return f"does not fit into the memory of {device}, not even in small windows{advice}"


def check_finite(logits: Tensor) -> None:
    """Raise a ValueError if a logit is not finite: the largest of them would mean nothing."""
    # isfinite() would need several more arrays of this size; a NaN becomes both extremes. In the
    # order of memory, if that is channels last, it takes a tenth of the time.
    last = logits.movedim(-3, -1)
    extremes = (last if last.is_contiguous() else logits).aminmax()
    if not all(extreme.isfinite() for extreme in extremes):
        raise ValueError("the model gives logits that are not finite: its weights are broken")
