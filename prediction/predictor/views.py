"""One pass or many: an image's scales, tiles and mirrored copies, merged, as far as memory goes."""

import dataclasses
import itertools
import logging
import math
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prediction.predictor.merge import Flip, Merge, Scores, merge_views, views_of
from prediction.predictor.packed_weights import PackedWeights
from prediction.predictor.tiles import tile_layout
from utils.cli.choices import MODES
from utils.optim.precision import InferencePrecision
from utils.out_of_memory import none_if_out_of_memory
from utils.samples.normalize import normalize

logger = logging.getLogger(__name__)

SCALES = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0)

MAX_SCALE = 32  # more is a slip: each pixel would be a thousand

# A sum of scores above this many bytes is kept in the host's memory, not in the accelerator's,
# where the model's features need the room (21 classes of 3500 x 3500 pixels are 1 GiB).
_MAX_BYTES_ON_DEVICE = 2**30

SLOWER = (
    "memory is short: from now on the model takes fewer images or windows at once, or the sums are "
    "kept in the host's memory; that is slower, with the same result"
)

# Called after each forward pass of an image: how many are done, how many it needs, and the
# fraction of their pixels that is done, from 0 to 1.
Watcher = Callable[[int, int, float], None]


class Member(NamedTuple):
    """One model of an ensemble, with the statistics of its images."""

    model: nn.Module  # from images (B, C, H, W) to logits (B, K, H, W)
    mean: Sequence[float]  # of each channel, as for `normalize()`
    std: Sequence[float]
    weight: float = 1.0  # how much its scores count


@dataclasses.dataclass
class _Passes:
    """The forward passes of one image, or of one batch of images."""

    total: int  # how many there will be
    pixels: int  # how many pixels they see together, which is what they cost
    done: int = 0  # how many are done
    seen: int = 0  # the pixels of those


@dataclasses.dataclass
class Limits:
    """The sizes in pixels at which memory ran out; infinite where it did not."""

    # The most pixels that go through the model at once, if in more than one view.
    together: float = math.inf
    # An image or window of this many pixels or more, and its sums, stay in the host's memory.
    on_device: float = math.inf
    whole: float = math.inf  # an image of this many pixels or more is cut into windows of
    window: int = 0  # so many pixels a side


class Views:
    """Merges the scores of all views of images, each of which is one forward pass.

    Args:
        members: The models, on `device` and in evaluation mode.
        device: Where they run.
        mode: See `Predictor`, as for the next four.
        scales: For `"multiscale"`.
        flip: None leaves it to the mode.
        merge: How views become one.
        amp: The precision of the network.

    Attributes:
        limits: Where memory ran out so far.
        at_once: How many views of an image go through the model as one batch.
        notes: The warnings so far, each given once.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        members: Sequence[Member],
        device: torch.device,
        *,
        mode: str,
        scales: Sequence[float],
        flip: Flip | None,
        merge: Merge,
        amp: str,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"there is no mode {mode!r}; choose from {', '.join(MODES)}")
        if not scales or not all(0 < scale <= MAX_SCALE for scale in scales):
            raise ValueError(
                f"scales are one or more numbers above 0, up to {MAX_SCALE}, got {list(scales)}"
            )
        for member in members:
            if min(member.std, default=0) <= 0:
                raise ValueError(
                    f"each standard deviation must be positive, got {list(member.std)}"
                )
            if member.weight <= 0:
                raise ValueError(f"the weight of a model must be positive, got {member.weight}")
        self.device = device
        self.precision = InferencePrecision(amp, device)
        self.members = [self._on_device(member) for member in members]
        self._packed = [PackedWeights(member.model) for member in self.members]
        self.mode = mode
        self.scales = tuple(scales)
        self.flip: Flip = flip or ("horizontal" if mode == "sliding" else "none")
        self._views = views_of(self.flip)
        self._scores = Scores(merge)
        self.at_once = max(1, len(self._views) // (2 if self.flip == "all8" else 1))
        self.min_size: int = max(getattr(member.model, "min_size", 1) for member in members)
        self.limits = Limits()
        self.notes: list[str] = []
        self._noting = threading.Lock()
        self.watcher: Watcher | None = None
        self._passes = _Passes(0, 0)

    def _on_device(self, member: Member) -> Member:
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=self.device)
            for values in (member.mean, member.std)
        )
        model = member.model.to(self.device).eval()
        if self.device.type == "cuda" and self.precision.dtype is not None:
            # Tensor cores take channels last; images come so already, see `normalize()`.
            model = model.to(memory_format=torch.channels_last)
        return Member(model, mean, std, member.weight)  # type: ignore[arg-type]

    def note(self, text: str, about: str | None = None) -> None:
        """Log a warning, once; threads may call it.

        Args:
            text: The warning.
            about: A part of it: of several warnings with it, only the first one is logged.
        """
        with self._noting:
            if any(text == note or (about and about in note) for note in self.notes):
                return
            self.notes.append(text)
        logger.warning(text)

    def expect(self, images: Sequence[tuple[int, int]]) -> None:
        """Begin to count the passes of images or windows of these (height, width)."""
        passes = [size for image in images for size in self._pass_sizes(*image)]
        self._passes = _Passes(len(passes), sum(h * w for h, w in passes))

    def _pass_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return the (height, width) of each forward pass of an image or window."""
        if self.mode == "multiscale":
            sizes = [self._scaled(height, width, scale) for scale in self.scales]
        elif self.mode == "sliding":
            (tile_height, tile_width), _ = tile_layout(height, width, self.min_size)
            groups = self._tile_groups(height, width)
            sizes = [(tile_height * len(group), tile_width) for group in groups]
        else:
            sizes = [(height, width)]
        turned = [(w, h) for h, w in sizes] if self.flip == "all8" else []
        return (sizes + turned) * len(self.members)

    def _scaled(self, height: int, width: int, scale: float) -> tuple[int, int]:
        # round() and align_corners are what scipy.ndimage.zoom(order=1) does.
        return max(self.min_size, round(height * scale)), max(self.min_size, round(width * scale))

    def logits(self, pixels: Tensor) -> Tensor:
        """Return the logits (B, K, H, W) of pixels (B, H, W, C), wherever there is room.

        Raises:
            RuntimeError: If not even one view fits, see `is_out_of_memory()`.
        """

        def predict_on(device: torch.device) -> Tensor:
            self._passes.done, self._passes.seen = done, seen
            return self._merge_members(pixels.to(device))

        done, seen = self._passes.done, self._passes.seen
        size = pixels[..., 0].numel()
        if self.device.type != "cpu" and size < self.limits.on_device:
            logits = none_if_out_of_memory(predict_on, self.device)
            if logits is not None:
                return logits
            self.limits.on_device = size
            self.note(SLOWER)
        on_device = size < self.limits.on_device
        return predict_on(self.device if on_device else torch.device("cpu"))

    def _merge_members(self, pixels: Tensor) -> Tensor:
        ways = {"multiscale": self._multiscale, "sliding": self._sliding, "whole": self._forward}
        total: Tensor | None = None
        for member, packed in zip(self.members, self._packed, strict=True):
            mean, std = (torch.as_tensor(v).to(pixels.device) for v in (member.mean, member.std))
            with packed.used():
                scores = ways[self.mode](member.model, normalize(pixels, mean, std))
            total = self._scores.add(total, scores, member.weight)
        assert total is not None
        weights = sum(member.weight for member in self.members)
        return self._scores.as_logits(self._scores.merged(total, weights))

    def _forward(self, model: nn.Module, images: Tensor, tiles: int = 1) -> Tensor:
        """Map (B, C, H, W) to scores (B, K, H, W), merged with those of mirrored images.

        Args:
            model: The model.
            images: The images, or so many tiles of each.
            tiles: How many.
        """

        def run(views: Tensor) -> Tensor:
            scores = self._run(model, views)
            self._count_pass(views.shape[2] * views.shape[3] * tiles)
            return scores

        return merge_views(images, self._views, self._scores, run)

    def _run(self, model: nn.Module, views: Tensor) -> Tensor:
        """Return the scores (N, K, h, w) of views (N, C, h, w), on the device of these.

        As many views as fit go through the model at once.
        """
        pixels, limits = views.shape[2] * views.shape[3], self.limits
        at_once = len(views)
        if at_once * pixels > limits.together:
            at_once = max(1, int(limits.together / pixels))
        while at_once > 1:
            scores = none_if_out_of_memory(self._pass, model, views, at_once)
            if scores is not None:
                break
            at_once //= 2
            limits.together = at_once * pixels
            self.note(SLOWER)
        else:
            scores = self._pass(model, views, 1)
        return scores

    def _pass(self, model: nn.Module, views: Tensor, at_once: int) -> Tensor:
        """Put the views through the model, so many at once."""
        scores = []
        for part in views.split(at_once):
            with self.precision.autocast():
                logits = model(part.to(self.device))
            scores.append(self._scores.of_logits(logits).to(views.device))
        return scores[0] if len(scores) == 1 else torch.cat(scores)

    def _count_pass(self, pixels: int) -> None:
        passes = self._passes
        passes.done += 1
        passes.seen += pixels
        if self.watcher is not None:
            self.watcher(passes.done, passes.total, passes.seen / max(1, passes.pixels))

    def _multiscale(self, model: nn.Module, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        total: Tensor | None = None
        for scale in self.scales:
            scores = self._forward(model, _resize(images, self._scaled(height, width, scale)))
            device = self._place_of_sum(scores, height, width) if total is None else total.device
            total = self._scores.add(total, _resize(scores.to(device), [height, width]))
        assert total is not None
        return self._scores.merged(total, len(self.scales))

    def _sliding(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the mean scores (B, K, H, W) over overlapping tiles of images (B, C, H, W)."""
        height, width = images.shape[2:]
        (tile_height, tile_width), _ = tile_layout(height, width, self.min_size)
        total: Tensor | None = None
        counts = torch.zeros(height, width)
        for group in self._tile_groups(height, width):
            tiles = [
                images[:, :, top : top + tile_height, left : left + tile_width]
                for top, left in group
            ]
            # Zero is the mean colour here, as the image has been normalised.
            padded = [
                F.pad(tile, (0, tile_width - tile.shape[3], 0, tile_height - tile.shape[2]))
                for tile in tiles
            ]
            scores = self._forward(model, torch.cat(padded), len(group))
            for (top, left), tile, each in zip(group, tiles, scores.chunk(len(group)), strict=True):
                h, w = tile.shape[2:]
                if total is None:
                    device = self._place_of_sum(each, height, width)
                    size = (*each.shape[:2], height, width)
                    total = torch.empty(size, device=device, memory_format=_layout(each)).zero_()
                total[:, :, top : top + h, left : left + w] += each[:, :, :h, :w].to(total.device)
                counts[top : top + h, left : left + w] += 1
        assert total is not None
        return total.div_(counts.to(total.device))

    def _tile_groups(self, height: int, width: int) -> list[list[tuple[int, int]]]:
        """Return the corners of the tiles that go through the model together.

        A group's views have about as many pixels as the image: a pass costs what one in mode whole
        does.
        """
        tile, corners = tile_layout(height, width, self.min_size)
        at_once = math.ceil(height * width / (tile[0] * tile[1] * self.at_once))
        count = math.ceil(len(corners) / at_once)
        starts = [len(corners) * number // count for number in range(count + 1)]
        return [corners[first:last] for first, last in itertools.pairwise(starts)]

    def _place_of_sum(self, scores: Tensor, height: int, width: int) -> torch.device:
        """Return where to add up scores (B, K, h, w) of an image (height, width)."""
        large = scores.shape[0] * scores.shape[1] * height * width * 4 > _MAX_BYTES_ON_DEVICE
        return torch.device("cpu") if large else scores.device


def _layout(scores: Tensor) -> torch.memory_format:
    is_last = scores.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format


def _resize(images: Tensor, size: Sequence[int]) -> Tensor:
    if list(images.shape[2:]) == list(size):
        return images
    return F.interpolate(images, size=list(size), mode="bilinear", align_corners=True)
