"""A model's prediction for one image: whole, sliding, multi-scale."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from math import inf

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prediction.predictor.tiles import TileLayout, tile_layout
from utils.cli.choices import DEFAULT_MODE, MODES
from utils.logits.to_labels import all_channels, predict_labels
from utils.out_of_memory import none_if_out_of_memory, with_cpu_fallback
from utils.samples.normalize import normalize

logger = logging.getLogger(__name__)

SCALES = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0)

# A sum of logits above this many bytes is kept in the host's memory, not in the accelerator's,
# where the model's features need the room (21 classes of 3500 x 3500 pixels are 1 GiB).
_MAX_BYTES_ON_DEVICE = 2**30

# Smaller tiles show too little of an image to be of use.
_SMALLEST_TILE = 128

# What a predictor notes, each at most once.
SLOWER = (
    "memory is short: from now on the model takes fewer images or tiles at once, or the sums are "
    "kept in the host's memory; that is slower, with the same result"
)
IN_TILES = (
    "memory is too small for some images as a whole: they are predicted in overlapping tiles, as "
    "in mode sliding, which gives a somewhat different result"
)


# Called after each forward pass of an image: how many are done, how many it needs as far as is
# known, and the fraction of their pixels that is done, from 0 to 1.
Watcher = Callable[[int, int, float], None]


@dataclasses.dataclass
class _Passes:
    """The forward passes of one image, or of one batch of images."""

    total: int  # how many there will be; more if a view is cut into tiles for want of memory
    pixels: int  # how many pixels they see together, which is what they cost
    done: int = 0  # how many are done
    seen: int = 0  # the pixels of those


@dataclasses.dataclass
class _Limits:
    """The sizes in pixels at which memory ran out; infinite where it did not."""

    # The most pixels that go through the model at once, if in more than one view.
    together: float = inf
    view: float = inf  # a view of this many pixels or more is cut into tiles
    # An image of this many pixels or more, and its sums, stay in the host's memory.
    image: float = inf


class Predictor:
    """Predicts the classes of an image of any size.

    Where a pixel is seen several times (scales, tiles, mirrored), the **logits** are averaged and
    the class with the largest mean is predicted, as in pytorch-segmentation. This weighs the views
    like the geometric mean of their probabilities.

    If memory runs out, prediction continues with less, and begins with that the next time:

    - fewer views (mirrored ones, images of a batch) at once, half as many and half again; and
      images and sums in the host's memory instead of the accelerator's. Neither changes the result,
      but for rounding.
    - a view that does not fit by itself is predicted in overlapping tiles like those of
      `"sliding"`, not mirrored; so is a tile, again and again, down to 128 pixels a side. A model
      predicts a tile differently from the whole: `notes` then has `IN_TILES`.

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
        flip: Average with the mirrored image too, which takes twice the time. None leaves it to
            the mode: on for `"sliding"`, off for the others.
        threshold: For two classes, predict class 1 where its probability is at least this; None
            predicts the more probable class.

    Attributes:
        notes: The warnings so far, each given once: about memory, and about files.

    Raises:
        ValueError: If `mode` is unknown, a scale is not positive, or a standard deviation is zero.
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
        flip: bool | None = None,
        threshold: float | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"there is no mode {mode!r}; choose from {', '.join(MODES)}")
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales are one or more positive numbers, got {list(scales)}")
        if min(std, default=0) <= 0:
            raise ValueError(f"each standard deviation must be positive, got {list(std)}")
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.mean = torch.tensor(mean, dtype=torch.float32, device=self.device)
        self.std = torch.tensor(std, dtype=torch.float32, device=self.device)
        self.mode = mode
        self.scales = tuple(scales)
        self.flip = mode == "sliding" if flip is None else flip
        self.threshold = threshold
        self.min_size: int = getattr(model, "min_size", 1)
        self.notes: list[str] = []
        self._watcher: Watcher | None = None
        self._limits = _Limits()
        self._passes = _Passes(0, 0)

    def note(self, text: str) -> None:
        """Log a warning, once."""
        if text not in self.notes:
            self.notes.append(text)
            logger.warning(text)

    @contextlib.contextmanager
    def watched_by(self, watcher: Watcher) -> Iterator[None]:
        """Call `watcher` after every forward pass in this context; the result is the same."""
        self._watcher = watcher
        try:
            yield
        finally:
            self._watcher = None

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Predict the class of each pixel of an image (H, W, C), see `predict_logits()`.

        Returns:
            (H, W) ids, uint8, or uint16 if there are more than 256 classes.

        Raises:
            ValueError: As `predict_logits()`; or if a logit is not finite.
        """
        logits = self.predict_logits(image)
        check_finite(logits)
        dtype = np.uint8 if logits.shape[0] <= 256 else np.uint16
        ids = with_cpu_fallback(lambda part: predict_labels(part[None], self.threshold)[0], logits)
        return ids.cpu().numpy().astype(dtype)

    @torch.inference_mode()
    def predict_logits(self, image: np.ndarray) -> Tensor:
        """Predict the mean logits of each pixel.

        Args:
            image: (H, W, C), uint8 or in the raw units of the sensor.

        Returns:
            (K, H, W) float32, on the device or, if they are large, in the host's memory; K is 2
            also for a model with one output channel, see `all_channels()`.

        Raises:
            ValueError: If `image` is not (H, W, C), is empty, or has the wrong number of channels.
            RuntimeError: If not even a small tile fits into memory, see `is_out_of_memory()`.
        """
        if image.ndim != 3 or not image.size:
            raise ValueError(f"expected an image (H, W, C), got shape {image.shape}")
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"]))
        ways = {"multiscale": self._multiscale, "sliding": self._sliding, "whole": self._forward}
        views = self._views(*image.shape[:2])
        return self._with_room(pixels.unsqueeze(0), ways[self.mode], views)[0]

    @torch.inference_mode()
    def predict_batch(self, images: Tensor) -> Tensor:
        """Predict the logits of images (B, H, W, C) in one pass at their size, whatever the mode.

        Returns:
            (B, K, H, W) float32, on the device or, if there is no room, in the host's memory.

        Raises:
            RuntimeError: As `predict_logits()`.
        """
        return self._with_room(images, self._forward, [(images.shape[1], images.shape[2])])

    def _views(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return the (height, width) that each forward pass takes, if memory is large enough."""
        if self.mode == "multiscale":
            return [self._scaled(height, width, scale) for scale in self.scales]
        if self.mode == "sliding":
            tile, corners = tile_layout(height, width, self.min_size)
            return [tile] * len(corners)
        return [(height, width)]

    def _scaled(self, height: int, width: int, scale: float) -> tuple[int, int]:
        # round() and align_corners are what scipy.ndimage.zoom(order=1) does.
        return max(self.min_size, round(height * scale)), max(self.min_size, round(width * scale))

    def _with_room(
        self, pixels: Tensor, predict: Callable[[Tensor], Tensor], views: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Return the logits (B, K, H, W) of images (B, H, W, C), wherever there is room."""

        def predict_on(device: torch.device) -> Tensor:
            self._passes = _Passes(len(views), sum(height * width for height, width in views))
            mean, std = self.mean.to(device), self.std.to(device)
            return all_channels(predict(normalize(pixels.to(device), mean, std)))

        size, before = pixels[..., 0].numel(), dataclasses.replace(self._limits)
        if self.device.type != "cpu" and size < self._limits.image:
            logits = none_if_out_of_memory(predict_on, self.device)
            if logits is not None:
                return logits
            self._limits.image = size
            self.note(SLOWER)
        try:
            return predict_on(self.device if size < self._limits.image else torch.device("cpu"))
        except BaseException:
            # If not even the smallest fits, other programs use the memory, perhaps for a moment.
            self._limits = before
            raise

    def _forward(self, images: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, K, H, W), averaged with the mirrored images if `flip` is on."""
        if not self.flip:
            return self._run(images)
        straight, mirrored = self._run(torch.cat([images, images.flip(-1)])).chunk(2)
        return (straight + mirrored.flip(-1)) / 2

    def _run(self, views: Tensor) -> Tensor:
        """Return the logits (N, K, h, w) of views (N, C, h, w), on the device of these.

        As many views as fit go through the model at once; if not even one does, in tiles.
        """
        height, width = views.shape[2:]
        pixels, limits = height * width, self._limits
        tiles = tile_layout(height, width, self.min_size, _SMALLEST_TILE)
        smaller = tiles[0][0] < height or tiles[0][1] < width
        # Tiles are summed on the CPU. While the views are on an accelerator, the out-of-memory
        # error of a single view is passed on: the caller moves them and comes back.
        can_be_cut = smaller and views.device.type == "cpu"

        # As many at once as fit
        at_once = len(views)
        logits: Tensor | None
        if at_once * pixels > limits.together:
            at_once = max(1, int(limits.together / pixels))
        while not can_be_cut or pixels < limits.view:
            if at_once == 1 and not can_be_cut:
                logits = self._pass(views, 1)
            else:
                logits = none_if_out_of_memory(self._pass, views, at_once)
            if logits is not None:
                self._count_pass(pixels)
                return logits
            if at_once > 1:
                at_once //= 2
                limits.together = at_once * pixels
                self.note(SLOWER)
            else:
                limits.view = pixels
                self.note(IN_TILES)

        # Tiles
        (tile_height, tile_width), corners = tiles
        count = len(views) * len(corners)
        self._passes.total += count - 1  # in place of this one
        self._passes.pixels += count * tile_height * tile_width - pixels
        cut = (self._in_tiles(view, tiles, self._run) for view in views.split(1))
        return torch.cat(list(cut))

    def _pass(self, views: Tensor, at_once: int) -> Tensor:
        """Put the views through the model, so many at once."""
        logits = [self.model(v.to(self.device)).to(views.device) for v in views.split(at_once)]
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def _count_pass(self, pixels: int) -> None:
        passes = self._passes
        passes.done += 1
        passes.seen += pixels
        if self._watcher is not None:
            self._watcher(passes.done, passes.total, passes.seen / passes.pixels)

    def _multiscale(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        total: Tensor | None = None
        for scale in self.scales:
            logits = self._forward(_resize(images, self._scaled(height, width, scale)))
            if total is None:
                total = self._new_total(logits, height, width)
            total += _resize(logits.to(total.device), [height, width])
        assert total is not None
        return total.div_(len(self.scales))

    def _sliding(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        return self._in_tiles(images, tile_layout(height, width, self.min_size), self._forward)

    def _in_tiles(
        self, images: Tensor, tiles: TileLayout, predict: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the mean logits (1, K, H, W) over overlapping tiles of an image (1, C, H, W)."""
        height, width = images.shape[2:]
        (tile_height, tile_width), corners = tiles
        total: Tensor | None = None
        counts = torch.zeros(height, width)
        for top, left in corners:
            tile = images[:, :, top : top + tile_height, left : left + tile_width]
            h, w = tile.shape[2:]
            # Zero is the mean colour here, as the image has been normalised.
            padded = F.pad(tile, (0, tile_width - w, 0, tile_height - h))
            logits = predict(padded)[:, :, :h, :w]
            if total is None:
                total = self._new_total(logits, height, width)
            total[:, :, top : top + h, left : left + w] += logits.to(total.device)
            counts[top : top + h, left : left + w] += 1
        assert total is not None
        return total.div_(counts.to(total.device))

    def _new_total(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Return zeros (1, K, H, W) to add logits (1, K, h, w) to."""
        num_classes = logits.shape[1]
        large = num_classes * height * width * 4 > _MAX_BYTES_ON_DEVICE
        return torch.zeros(1, num_classes, height, width, device="cpu" if large else logits.device)


def out_of_memory_advice(device: torch.device) -> str:
    """Describe why an image cannot be predicted that does not fit into memory."""
    advice = "" if device.type == "cpu" else "; try --device cpu"
    return f"does not fit into the memory of {device}, not even in small tiles{advice}"


def check_finite(logits: Tensor) -> None:
    """Raise a ValueError if a logit is not finite: the largest of them would mean nothing."""
    # isfinite() would need several more arrays of this size; a NaN becomes both extremes.
    if not all(extreme.isfinite() for extreme in logits.aminmax()):
        raise ValueError("the model gives logits that are not finite: its weights are broken")


def _resize(images: Tensor, size: Sequence[int]) -> Tensor:
    if list(images.shape[2:]) == list(size):
        return images
    return F.interpolate(images, size=list(size), mode="bilinear", align_corners=True)
