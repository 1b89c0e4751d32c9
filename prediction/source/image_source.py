"""An image that is open for the reading of windows, whatever its file and its size."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from utils.files.data_file import DataError
from utils.files.image_head import SWAPPING, ExifRule, read_head, turn_upright
from utils.files.image_io import read_image
from utils.files.raster_io import BandRule, Raster, apply_rule, band_siblings, read_bands
from utils.files.raster_window import ArrayWindows, GdalMask, RasterWindows, RowsInOrder
from utils.files.tiff_io import read_tiff, tiff_nodata


@dataclasses.dataclass(frozen=True)
class PixelRule:
    """How the pixels of a model's images are read: the same as in its training."""

    mean: Sequence[float]  # of each channel; what missing values become
    band_rule: BandRule | None = None  # None: 8-bit RGB
    exif: ExifRule | None = None  # whether the EXIF orientation is applied; None: it is not

    def paths(self, path: Path) -> tuple[Path, ...]:
        """Return the files of an image: several if each band is a file of its own.

        Raises:
            DataError: If one is missing.
        """
        suffixes = () if self.band_rule is None else self.band_rule.suffixes
        return tuple(Path(each) for each in band_siblings(path, suffixes))


# Makes RGB (h, w, 3) uint8 of the values (h, w, bands) of a file.
ToRgb = Callable[[np.ndarray], np.ndarray]


class ImageSource(Protocol):
    """An image that is open. Windows are read in bands from the top down."""

    height: int
    width: int
    may_miss: bool  # whether pixels can be missing

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return the pixels (height, width, C) of a window, as a model takes them."""

    def missing(self, top: int, left: int, height: int, width: int) -> np.ndarray | None:
        """Return where a window has no data, (height, width) bool; None: nowhere in the image."""

    def keep(self, rows: int) -> None:
        """Prepare for windows that go back so many rows at most."""

    def close(self) -> None:
        """Close the file."""


class LoadedImage:
    """An image in memory.

    Args:
        pixels: (H, W, C).
        hole: Where it has no data, (H, W) bool; None: nowhere.
    """

    def __init__(self, pixels: np.ndarray, hole: np.ndarray | None = None) -> None:
        self.pixels, self.hole = pixels, hole
        self.may_miss = hole is not None
        self.height, self.width = pixels.shape[:2]

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a view (height, width, C) of the pixels."""
        return self.pixels[top : top + height, left : left + width]

    def missing(self, top: int, left: int, height: int, width: int) -> np.ndarray | None:
        """Return where a window has no data."""
        return None if self.hole is None else self.hole[top : top + height, left : left + width]

    def keep(self, rows: int) -> None:
        """Do nothing: everything is kept."""

    def close(self) -> None:
        """Do nothing: no file is open."""


class WindowedImage:
    """An image of which only windows are in memory.

    Args:
        rasters: Its file, or one for each band.
        rule: How its pixels are read.
        to_rgb: Makes RGB (h, w, 3) of what a file has, where the model takes that.
    """

    def __init__(self, rasters: Sequence[RasterWindows], rule: PixelRule, to_rgb: ToRgb) -> None:
        self._rasters, self._rule, self._to_rgb = rasters, rule, to_rgb
        self.height, self.width = rasters[0].height, rasters[0].width
        own = rule.band_rule
        self.may_miss = any(raster.nodata is not None for raster in rasters) or (
            own is not None and (own.nodata is not None or own.dtype == "float32")
        )
        for other in rasters[1:]:
            if (other.height, other.width) != (self.height, self.width):
                raise DataError(
                    f"{other.path}: is {other.width}x{other.height} and {rasters[0].path} is "
                    f"{self.width}x{self.height}; the bands of an image must have one size"
                )

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return the pixels (height, width, C) of a window."""
        return self._prepared(top, left, height, width)[0]

    def missing(self, top: int, left: int, height: int, width: int) -> np.ndarray | None:
        """Return where a window has no data, (height, width) bool."""
        if not self.may_miss:
            return None
        hole = self._prepared(top, left, height, width)[1]
        return np.zeros((height, width), bool) if hole is None else hole

    def _prepared(
        self, top: int, left: int, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        stored = [raster.read(top, left, height, width) for raster in self._rasters]
        rule = self._rule.band_rule
        if rule is None:
            return self._to_rgb(stored[0]), all_nodata(stored[0], self._rasters[0].nodata)
        paths = [raster.path for raster in self._rasters]
        values = [
            Raster(pixels, raster.nodata)
            for pixels, raster in zip(stored, self._rasters, strict=True)
        ]
        return apply_rule(paths, values, rule, self._rule.mean)

    def keep(self, rows: int) -> None:
        """Prepare for windows that go back so many rows at most."""
        for raster in self._rasters:
            keep = getattr(raster, "keep", None)
            if keep is not None:
                keep(rows)

    def close(self) -> None:
        """Close the files."""
        for raster in self._rasters:
            raster.close()


class SpooledImage:
    """An image that was decoded at once, and is now in a temporary file.

    Args:
        path: For messages.
        loaded: The image; it may be freed afterwards.
        folder: Where the temporary file goes; None for the system's folder.
    """

    def __init__(self, path: Path, loaded: LoadedImage, folder: Path | None) -> None:
        self.height, self.width = loaded.height, loaded.width
        self.may_miss = loaded.may_miss
        self._pixels = _spool(path, loaded.pixels, folder)
        hole = loaded.hole
        self._hole = None if hole is None else _spool(path, hole[..., None], folder)

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return the pixels (height, width, C) of a window."""
        return self._pixels.read(top, left, height, width)

    def missing(self, top: int, left: int, height: int, width: int) -> np.ndarray | None:
        """Return where a window has no data, (height, width) bool."""
        return None if self._hole is None else self._hole.read(top, left, height, width)[..., 0]

    def keep(self, rows: int) -> None:
        """Do nothing: everything is kept."""

    def close(self) -> None:
        """Remove the temporary files."""
        self._pixels.close()
        if self._hole is not None:
            self._hole.close()


def _spool(path: Path, array: np.ndarray, folder: Path | None) -> RowsInOrder:
    rows = RowsInOrder(lambda: ArrayWindows(path, array), 0, folder)
    rows.spool()
    return rows


class MaskedImage:
    """Another image, with what its file says of missing pixels beside their values.

    Args:
        source: The image.
        mask: Where its file says that it has data.
    """

    def __init__(self, source: ImageSource, mask: GdalMask) -> None:
        self._source, self._mask = source, mask
        self.height, self.width, self.may_miss = source.height, source.width, True

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return the pixels (height, width, C) of a window."""
        return self._source.read(top, left, height, width)

    def missing(self, top: int, left: int, height: int, width: int) -> np.ndarray | None:
        """Return where a window has no data, (height, width) bool."""
        hole = self._mask.missing(top, left, height, width)
        other = self._source.missing(top, left, height, width)
        return hole if other is None else hole | other

    def keep(self, rows: int) -> None:
        """Prepare for windows that go back so many rows at most."""
        self._source.keep(rows)

    def close(self) -> None:
        """Close the file."""
        self._source.close()
        self._mask.close()


class UprightImage:
    """Another image as its EXIF orientation says; the other one reads windows in any order.

    Args:
        stored: The image as it is stored.
        orientation: The EXIF orientation, 2 to 8.
    """

    def __init__(self, stored: ImageSource, orientation: int) -> None:
        self._stored, self._orientation = stored, orientation
        self.height, self.width = stored.height, stored.width
        self.may_miss = stored.may_miss
        if orientation in SWAPPING:
            self.height, self.width = self.width, self.height

    def _place(self, top: int, left: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the stored window of one of the upright image."""
        if self._orientation in (3, 4, 7, 8):  # rows of the result run backwards
            top = self.height - top - height
        if self._orientation in (2, 3, 6, 7):
            left = self.width - left - width
        if self._orientation in SWAPPING:
            return left, top, width, height
        return top, left, height, width

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return the pixels (height, width, C) of a window."""
        return turn_upright(
            self._stored.read(*self._place(top, left, height, width)), self._orientation
        )

    def missing(self, top: int, left: int, height: int, width: int) -> np.ndarray | None:
        """Return where a window has no data, (height, width) bool."""
        hole = self._stored.missing(*self._place(top, left, height, width))
        return None if hole is None else turn_upright(hole, self._orientation)

    def keep(self, rows: int) -> None:
        """Keep everything: windows may come from anywhere in the file."""
        self._stored.keep(max(self._stored.height, self._stored.width))

    def close(self) -> None:
        """Close the file."""
        self._stored.close()


def load_image(path: Path, rule: PixelRule) -> LoadedImage:
    """Read an image as a whole.

    Raises:
        DataError: If it cannot be read.
    """
    hole = None
    if rule.band_rule is None:
        pixels = read_image(path)
        if (nodata := tiff_nodata(path)) is not None:
            # Stored values: those of a palette are no colours.
            hole = all_nodata(read_tiff(path)[0], nodata)
    else:
        pixels, hole = read_bands(rule.paths(path), rule.band_rule, rule.mean)
    if rule.exif == "apply":
        orientation = read_head(path).orientation
        pixels = turn_upright(pixels, orientation)
        hole = None if hole is None else turn_upright(hole, orientation)
    return LoadedImage(pixels, hole)


def all_nodata(stored: np.ndarray, nodata: float | None) -> np.ndarray | None:
    """Return where all colours of (h, w, bands) have the value of missing pixels.

    Alpha, the second or fourth band, is none.
    """
    if nodata is None:
        return None
    colours = 3 if stored.shape[2] >= 3 else 1
    return np.all(stored[..., :colours] == nodata, axis=2)
