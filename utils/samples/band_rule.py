"""From what a config says of bands to the rule that reads them, and its mean and std."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from utils.files.data_file import DataError
from utils.files.raster_io import (
    BandRule,
    PixelType,
    is_plain_picture,
    pixel_type,
    read_bands,
    read_raster,
)
from utils.samples.pairing import Sample

Clip = Sequence[float | tuple[float, float]]

MEASURED = 32  # pictures that the mean and std in a message come from
_LOOKED_AT = 32  # files, if none before can be read, to learn how the pictures are stored


class StatisticsMissing(ValueError):
    """Mean and std have to be given; the message holds them, measured on some pictures.

    Attributes:
        mean: Of each channel.
        std: Likewise; 1 for a constant channel.
    """

    def __init__(self, message: str, mean: list[float], std: list[float]) -> None:
        super().__init__(message)
        self.mean = mean
        self.std = std


def choose_rule(
    samples: Sequence[Sample],
    *,
    bands: Sequence[int] | None = None,
    suffixes: Sequence[str] | None = None,
    clip: Clip | None = None,
    nodata: float | None = None,
    always: bool = False,
) -> BandRule | None:
    """How the pictures of a dataset are read.

    Type and number of bands are those of the first picture that can be read.

    Args:
        samples: The pictures.
        bands: See `BandRule`.
        suffixes: Likewise.
        clip: [low, high] for all bands, or one such pair a band.
        nodata: See `BandRule`.
        always: Give a rule for plain pictures too.

    Returns:
        None for plain 8-bit pictures, if none of the other arguments is given.

    Raises:
        DataError: If no picture can be read.
        ValueError: If the arguments do not fit the pictures or each other.
    """
    if bands is not None and suffixes:
        raise ValueError("bands: goes with files of several bands, not with band_suffixes")
    if bands is not None and not bands:
        raise ValueError("bands: the list is empty; name bands, counted from 1")
    asked = always or not all(value is None for value in (bands, suffixes, clip, nodata))
    error = None
    for sample in samples[:_LOOKED_AT]:
        files = sample.bands or (sample.image,)
        try:
            if not asked and is_plain_picture(files[0]):
                return None
            kinds = [read_raster(path).pixels[:1, :1] for path in files]
        except DataError as problem:
            error = error or problem  # a broken file shall not decide what the others are
            continue
        in_file = sum(kind.shape[2] for kind in kinds)
        for band in bands or ():
            if band > in_file:
                raise ValueError(f"bands: there is no band {band}; {sample.image} has {in_file}")
        channels = in_file if bands is None else len(bands)
        return BandRule(
            channels,
            _common_type([kind.dtype for kind in kinds]),
            bands=None if bands is None else tuple(bands),
            suffixes=tuple(suffixes or ()),
            clip=None if clip is None else _parse_clip(clip, channels),
            nodata=nodata,
        )
    if error is not None:
        raise error
    return None


def choose_preview(rule: BandRule | None, rgb: Sequence[int] | None = None) -> tuple[int, ...]:
    """The channels that show red, green and blue.

    Args:
        rule: How pictures are read.
        rgb: Three bands, or one to show in grey, counted from 1 in the file (or the list of
            suffixes); None for the first ones.

    Raises:
        ValueError: If they are not one or three of the bands.
    """
    if rule is None:
        return (0, 1, 2)
    bands = list(rule.bands or range(1, rule.channels + 1))
    if rgb is None:
        return (0, 1, 2) if len(bands) >= 3 else (0,)
    if len(rgb) not in (1, 3) or not set(rgb) <= set(bands):
        shown = ", ".join(map(str, bands))
        raise ValueError(f"rgb: expected three of the bands {shown}, or one to show in grey")
    return tuple(bands.index(band) for band in rgb)


def choose_statistics(
    samples: Sequence[Sample],
    rule: BandRule | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    default: tuple[Sequence[float], Sequence[float]],
) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and std of the channels.

    Args:
        samples: The pictures.
        rule: How they are read.
        mean: As given.
        std: Likewise.
        default: Those of RGB pictures.

    Raises:
        StatisticsMissing: If one is not given and the pictures are not RGB of 8 bits.
        ValueError: If there is not one number a channel.
    """
    channels = 3 if rule is None else rule.channels
    if rule is None or (rule.is_8_bit and channels == 3):
        mean = default[0] if mean is None else mean
        std = default[1] if std is None else std
    elif mean is None or std is None:
        raise _missing(samples, rule)
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise ValueError(
                f"{name}: {len(values)} numbers for pictures of {channels} channels; expected "
                f"{channels} numbers, one a channel"
            )
    return mean, std


def measure(
    pictures: Iterable[tuple[np.ndarray, np.ndarray | None]], channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over all pixels that are not missing.

    Args:
        pictures: Pixels (H, W, C), and where they are missing, (H, W) bool or None.
        channels: C.

    Returns:
        Two arrays (C,) float64; in 0..1 for uint8, else in the unit of the pixels. NaN if there
        is no pixel.
    """
    count, mean, squares = 0, np.full(channels, np.nan), np.full(channels, np.nan)
    for pixels, missing in pictures:
        unit = 255 if pixels.dtype == np.uint8 else 1
        values = pixels.reshape(-1, channels) if missing is None else pixels[~missing]
        if not len(values):
            continue
        values = values / np.float64(unit)
        own_mean, own_squares = values.mean(axis=0), values.var(axis=0) * len(values)
        if not count:
            count, mean, squares = len(values), own_mean, own_squares
            continue
        # Chan, Golub, LeVeque 1979: exact where a sum of squares would lose all digits.
        total = count + len(values)
        shift = own_mean - mean
        squares += own_squares + shift**2 * (count * len(values) / total)
        mean = mean + shift * (len(values) / total)
        count = total
    return mean, np.sqrt(squares / max(count, 1))


def _readable(
    samples: Sequence[Sample], rule: BandRule, used: list[Sample]
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """The pictures that can be read; which they were goes to `used`."""
    for sample in samples:
        try:
            yield read_bands(sample.bands or (sample.image,), rule, (0,) * rule.channels)
        except DataError:
            continue
        used.append(sample)


def _common_type(dtypes: Sequence[np.dtype]) -> PixelType:
    """The type that holds all bands of a picture."""
    own = [np.dtype(pixel_type(dtype)) for dtype in dtypes]
    return pixel_type(np.result_type(*own)) or "float32"


def _parse_clip(clip: Clip, channels: int) -> tuple[tuple[float, float], ...]:
    single = [value for value in clip if isinstance(value, (int, float))]
    pairs = [tuple(single)] if single else [tuple(pair) for pair in clip]  # type: ignore[arg-type]
    whole = not single or len(single) == len(clip)
    if not whole or len(pairs) not in (1, channels) or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"clip: expected [low, high], or a list of {channels} such pairs, one a band; got "
            f"{list(clip)}"
        )
    for low, high in pairs:
        if not low < high:
            raise ValueError(f"clip: {low} is not below {high}")
    return tuple((float(low), float(high)) for low, high in pairs)


def _missing(samples: Sequence[Sample], rule: BandRule) -> StatisticsMissing:
    """The lines to paste, from pictures spread evenly over the dataset."""
    step = max(1, -(-len(samples) // MEASURED))
    used: list[Sample] = []
    mean, std = measure(_readable(samples[::step], rule, used), rule.channels)
    constant = [str(i + 1) for i, value in enumerate(std) if not value > 0]
    means = [float(f"{value:.6g}") for value in np.nan_to_num(mean)]
    stds = [float(f"{value:.6g}") if value > 0 else 1.0 for value in std]
    remark = f" (constant, so its std is 1: channel {', '.join(constant)})" if constant else ""
    return StatisticsMissing(
        f"mean and std: required, as ImageNet's do not fit pictures of {rule.channels} bands of "
        f"type {rule.dtype}. On {len(used)} of {len(samples)} pictures they are{remark}:\n"
        f'    "mean": {means},\n    "std": {stds}\n'
        "  python check.py measures all pictures",
        means,
        stds,
    )
