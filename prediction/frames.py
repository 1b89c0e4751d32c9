"""The frames of a video or camera that are in work, and what is made of each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from prediction.jobs.image_file import ImageFile
from prediction.outputs import Outputs, RunProduct
from prediction.products.frame_overlay import FrameOverlay
from prediction.products.kinds import Kind
from prediction.products.rows import ImageFacts, Product
from prediction.source.frame import Frame
from prediction.source.image_source import LoadedImage

DIGITS = 6  # of a frame's number in the name of its files


class Frames:
    """The frames that wait for the network, are in it, or wait to be shown.

    Args:
        source: What messages call the video or camera.
        folder: The name of the folder of their files.
    """

    def __init__(self, source: str = "", folder: str = "") -> None:
        self._source, self._folder = source, folder
        self._frames: dict[str, Frame] = {}
        self._overlays: dict[str, np.ndarray] = {}

    def name(self, frame: Frame) -> ImageFile:
        """Return what a frame is called."""
        name = f"{self._folder}/{frame.number:0{DIGITS}d}"
        return ImageFile(f"{self._source} frame {frame.number}", name)

    def add(self, frame: Frame) -> ImageFile:
        """Keep a frame until it is taken; return what it is called."""
        image = self.name(frame)
        self._frames[image.name] = frame
        return image

    def open(self, image: ImageFile) -> LoadedImage:
        """Return the pixels of a frame."""
        return LoadedImage(self._frames[image.name].pixels)

    def keep_overlay(self, name: str, overlay: np.ndarray) -> None:
        """Keep the overlay of a frame until the frame is taken."""
        self._overlays[name] = overlay

    def take(self, image: ImageFile) -> tuple[Frame, np.ndarray]:
        """Return a frame and its overlay, and forget both; the overlay of one that failed is it."""
        frame = self._frames.pop(image.name)
        return frame, self._overlays.pop(image.name, frame.pixels)


@dataclasses.dataclass(frozen=True)
class FrameOutputs(Outputs):
    """What is written of each frame; overlays are kept, for one video of all of them.

    Args:
        folder: The output folder.
        kinds: The products.
        settings: How they look.
        frames: Keeps the overlays.
        shows: Whether overlays are made although none is among the products.
    """

    frames: Frames = dataclasses.field(default_factory=Frames)
    shows: bool = False

    @property
    def has_video(self) -> bool:
        """Whether a video is among the products."""
        return any(_is_video(kind) for kind in self.kinds)

    @property
    def needs(self) -> frozenset[str]:
        """The fields of `Rows` that the products take."""
        return super().needs | (frozenset(FrameOverlay.needs) if self.shows else frozenset())

    @property
    def per_image(self) -> tuple[Kind, ...]:
        """The products that are files of a frame."""
        return tuple(kind for kind in super().per_image if not _is_video(kind))

    def open(
        self, image: ImageFile, facts: ImageFacts, of_run: Sequence[RunProduct], *, replace: bool
    ) -> list[Product]:
        """Open the products of a frame that are missing, or all of them if `replace` is on.

        Raises:
            ValueError: If one cannot be made.
            OSError: If one cannot be written.
        """
        opened = super().open(image, facts, of_run, replace=replace)
        if self.shows:
            keep = functools.partial(self.frames.keep_overlay, image.name)
            opened.append(FrameOverlay(facts, self.settings, keep))
        return opened


def _is_video(kind: Kind) -> bool:
    """Return whether a product is one video; an overlay with a named format is images."""
    return kind.name == "overlay" and kind.format is None
