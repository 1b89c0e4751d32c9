"""A model's prediction for one picture: whole, sliding, multi-scale."""

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.decision import all_channels, decide
from utils.normalize import normalize

MODES = ("multiscale", "sliding", "whole")
SCALES = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0)

# A sum of logits above this many bytes lies in the machine's memory, not in the accelerator's:
# there the model's own features need the room (21 classes of 3500 x 3500 pixels are 1 GiB).
_MAX_BYTES_ON_DEVICE = 2**30


class Predictor:
    """Predicts the classes of a picture of any size.

    Where a pixel is seen several times (scales, tiles, mirrored), the **logits** are averaged and
    the class is the largest mean. This is the ancestor's way; it weighs the views like the
    geometric mean of their probabilities.

    Args:
        model: From images (B, C, H, W) to logits (B, K, H, W). It is moved to `device` and
            switched to evaluation.
        mean: Of each channel, as for `normalize()`.
        std: Likewise.
        device: Where the model runs.
        mode: `"whole"` is one pass at the picture's own size. `"multiscale"` averages the passes
            over the picture resized by each of `scales`. `"sliding"` averages overlapping tiles of
            2/5 of the height and width, so that the model never sees more at once.
        scales: For `"multiscale"`; Cityscapes is usually given a 2.25 as well.
        flip: Average with the mirrored picture too, which costs twice the time. None leaves it to
            the mode: on for `"sliding"`, off for the others.
        threshold: Of two classes, take the second where its probability is at least this; None
            takes the more probable one.

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
        mode: str = "multiscale",
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

    def predict(self, image: np.ndarray) -> np.ndarray:
        """The class of each pixel.

        Args:
            image: (H, W, C), see `predict_logits()`.

        Returns:
            (H, W) ids, uint8, or uint16 if there are more than 256 classes.

        Raises:
            ValueError: As `predict_logits()`; or if a logit is not finite, for then the largest of
                them means nothing.
        """
        logits = self.predict_logits(image)
        check_finite(logits)
        dtype = np.uint8 if logits.shape[0] <= 256 else np.uint16
        return decide(logits.unsqueeze(0), self.threshold)[0].cpu().numpy().astype(dtype)

    @torch.inference_mode()
    def predict_logits(self, image: np.ndarray) -> Tensor:
        """The mean logits of each pixel.

        Args:
            image: (H, W, C), uint8 or in the raw units of the sensor.

        Returns:
            (K, H, W) float32, on the device or, if they are large, in the machine's memory; K is 2
            also for a model with one output channel, see `all_channels()`.

        Raises:
            ValueError: If `image` is not (H, W, C), is empty, or has the wrong number of channels.
        """
        if image.ndim != 3 or not image.size:
            raise ValueError(f"expected a picture (H, W, C), got shape {image.shape}")
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).to(self.device)
        images = normalize(pixels.unsqueeze(0), self.mean, self.std)  # (1, C, H, W)
        ways = {"multiscale": self._multiscale, "sliding": self._sliding, "whole": self._whole}
        return all_channels(ways[self.mode](images).unsqueeze(0))[0]

    def _whole(self, images: Tensor) -> Tensor:
        return self._forward(images)[0]

    @torch.inference_mode()
    def predict_batch(self, images: Tensor) -> Tensor:
        """The logits of several pictures in one pass at their own size, whatever the mode.

        Args:
            images: (B, H, W, C), as `predict_logits()` takes one.

        Returns:
            (B, K, H, W) float32, on the device.
        """
        images = normalize(images.to(self.device), self.mean, self.std)
        return all_channels(self._forward(images))

    def _forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, H, W), averaged with the mirrored images if `flip` is on."""
        if not self.flip:
            return self.model(images)
        straight, mirrored = self.model(torch.cat([images, images.flip(-1)])).chunk(2)
        return (straight + mirrored.flip(-1)) / 2

    def _multiscale(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        total: Tensor | None = None
        for scale in self.scales:
            # round() and align_corners are what scipy.ndimage.zoom(order=1) does.
            size = [max(self.min_size, round(side * scale)) for side in (height, width)]
            logits = self._forward(_resize(images, size))
            if total is None:
                total = self._new_total(logits, height, width)
            total += _resize(logits.to(total.device), [height, width])[0]
        assert total is not None
        return total.div_(len(self.scales))

    def _sliding(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        (tile_height, tile_width), corners = tile_layout(height, width, self.min_size)
        total: Tensor | None = None
        counts = torch.zeros(height, width)
        for top, left in corners:
            tile = images[:, :, top : top + tile_height, left : left + tile_width]
            h, w = tile.shape[2:]
            # Zero is the mean colour here, as the image has been normalised.
            padded = F.pad(tile, (0, tile_width - w, 0, tile_height - h))
            logits = self._forward(padded)[0, :, :h, :w]
            if total is None:
                total = self._new_total(logits, height, width)
            total[:, top : top + h, left : left + w] += logits.to(total.device)
            counts[top : top + h, left : left + w] += 1
        assert total is not None
        return total.div_(counts.to(total.device))

    def _new_total(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Zeros (K, H, W) to add logits (..., K, h, w) to."""
        num_classes = logits.shape[-3]
        large = num_classes * height * width * 4 > _MAX_BYTES_ON_DEVICE
        return torch.zeros(num_classes, height, width, device="cpu" if large else logits.device)


def check_finite(logits: Tensor) -> None:
    """Refuse logits of which the largest means nothing.

    Raises:
        ValueError: If one is not finite.
    """
    # isfinite() would need several more arrays of this size; a NaN becomes both extremes.
    if not all(extreme.isfinite() for extreme in logits.aminmax()):
        raise ValueError("the model gives logits that are not finite: its weights are broken")


def tile_layout(
    height: int, width: int, min_size: int = 1
) -> tuple[tuple[int, int], Iterator[tuple[int, int]]]:
    """How a picture is cut into overlapping tiles that cover it.

    A tile is 2/5 of the picture and the next begins 2/3 of a tile further. The ancestor took the
    step along the height for both axes, and it is kept wherever it leaves no gap: the figures of
    landscape pictures stay what they were. On tall pictures, where it is wider than a tile, the
    width gets its own step.

    Args:
        height: Of the picture, in pixels.
        width: Likewise.
        min_size: The smallest side that a tile may have.

    Returns:
        The size (height, width) of every tile, and the corners (top, left) of the tiles. The last
        tile of a row or column may reach over the picture's edge.
    """
    # Of two pixels, 2/5 is none: such a side stays whole.
    tile_height, tile_width = (max(int(side // 2.5) or side, min_size) for side in (height, width))
    # Not 2 / 3, which is a different float: the ceiling of a multiple of 3 depends on it.
    row_step = ceil(tile_height * (1 - 1 / 3))
    column_step = row_step if row_step <= tile_width else ceil(tile_width * (1 - 1 / 3))
    rows = max(ceil((height - tile_height) / row_step), 0) + 1
    columns = max(ceil((width - tile_width) / column_step), 0) + 1
    corners = ((r * row_step, c * column_step) for r in range(rows) for c in range(columns))
    return (tile_height, tile_width), corners


def _resize(images: Tensor, size: Sequence[int]) -> Tensor:
    if list(images.shape[2:]) == list(size):
        return images
    return F.interpolate(images, size=list(size), mode="bilinear", align_corners=True)
