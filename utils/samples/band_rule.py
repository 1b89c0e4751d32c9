"""The rule by which a config's bands are read, and their mean and std."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from utils.files.data_file import DataError
from utils.files.raster_io import (
    BandRule,
    PixelType,
    is_plain_image,
    pixel_type,
    read_bands,
    read_raster,
)
from utils.samples.pairing import Sample

Clip = Sequence[float | tuple[float, float]]

MEASURED = 32  # images that the mean and std in a message come from
_MAX_TRIED = 32  # files that are opened to learn how the images are stored


class StatisticsMissing(ValueError):
    """Mean and std are required; the message contains them, measured on some images.

    Attributes:
        mean: The mean of each channel.
        std: Their standard deviations; 1 for a constant channel.
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
    """Choose how the images of a dataset are read.

    Type and number of bands are those of the first image that can be read.

    Args:
        samples: The images.
        bands: See `BandRule`.
        suffixes: See `BandRule`.
        clip: [low, high] for all bands, or one such pair a band.
        nodata: See `BandRule`.
        always: Return a rule for plain images too.

    Returns:
        None for plain 8-bit images, if none of the other arguments is given.

    Raises:
        DataError: If no image can be read.
        ValueError: If the arguments do not fit the images or each other.
    """
    if bands is not None and suffixes:
        raise ValueError(
            "bands: selects from files of several bands, and cannot be combined with band_suffixes"
        )
    if bands is not None and not bands:
        raise ValueError("bands: the list is empty; name bands, counted from 1")
    asked = always or not all(value is None for value in (bands, suffixes, clip, nodata))
    error = None
    for sample in samples[:_MAX_TRIED]:
        files = sample.bands or (sample.image,)
        try:
            if not asked and is_plain_image(files[0]):
                return None
            kinds = [read_raster(path).pixels[:1, :1] for path in files]
        except DataError as problem:
            error = error or problem  # a broken file must not decide what the others are
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
    """Choose the channels that show red, green and blue.

    Args:
        rule: How images are read.
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
    """Choose mean and std of the channels.

    Raises:
        StatisticsMissing: If one is not given and the images are not RGB of 8 bits.
        ValueError: If there is not one number for each channel.
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
                f"{name}: {len(values)} numbers for images of {channels} channels; expected "
                f"{channels}, one for each channel"
            )
    return mean, std


def measure(
    images: Iterable[tuple[np.ndarray, np.ndarray | None]], channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Measure mean and standard deviation of each channel over all pixels with data.

    Args:
        images: Pixels (H, W, C), and where they are missing, (H, W) bool or None.
        channels: C.

    Returns:
        Two arrays (C,) float64; in 0..1 for uint8, else in the unit of the pixels. NaN if there
        is no pixel.
    """
    count, mean, squares = 0, np.full(channels, np.nan), np.full(channels, np.nan)
    for pixels, missing in images:
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
    """Yield the images that can be read, and append their samples to `used`."""
    for sample in samples:
        try:
            yield read_bands(sample.bands or (sample.image,), rule, (0,) * rule.channels)
        except DataError:
            continue
        used.append(sample)


def _common_type(dtypes: Sequence[np.dtype]) -> PixelType:
    """Return the type that holds all bands of an image."""
    own = [np.dtype(pixel_type(dtype)) for dtype in dtypes]
    return pixel_type(np.result_type(*own)) or "float32"


def _parse_clip(clip: Clip, channels: int) -> tuple[tuple[float, float], ...]:
    single = [value for value in clip if isinstance(value, (int, float))]
    pairs = [tuple(single)] if single else [tuple(pair) for pair in clip]  # type: ignore[arg-type]
    whole = not single or len(single) == len(clip)
    if not whole or len(pairs) not in (1, channels) or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"clip: expected [low, high], or a list of {channels} such pairs, one for each "
            f"band; got {list(clip)}"
        )
    for low, high in pairs:
        if not low < high:
            raise ValueError(f"clip: {low} is not below {high}")
    return tuple((float(low), float(high)) for low, high in pairs)


def _missing(samples: Sequence[Sample], rule: BandRule) -> StatisticsMissing:
    """Return the error with the lines to paste, measured on images all over the dataset."""
    step = max(1, -(-len(samples) // MEASURED))
    used: list[Sample] = []
    mean, std = measure(_readable(samples[::step], rule, used), rule.channels)
    constant = [str(i + 1) for i, value in enumerate(std) if not value > 0]
    means = [float(f"{value:.6g}") for value in np.nan_to_num(mean)]
    stds = [float(f"{value:.6g}") if value > 0 else 1.0 for value in std]
    remark = f" (constant, so its std is 1: channel {', '.join(constant)})" if constant else ""
    return StatisticsMissing(
        f"mean and std: required, as ImageNet's do not fit images of {rule.channels} bands of "
        f"type {rule.dtype}. On {len(used)} of {len(samples)} images they are{remark}:\n"
        f'    "mean": {means},\n    "std": {stds}\n'
        "  python check.py measures all images",
        means,
        stds,
    )
