"""What two datasets, or a model and a dataset, must have in common."""

from collections.abc import Sequence
from typing import Protocol

from utils.config.errors import suggest
from utils.files.raster_io import BandRule


class Described(Protocol):
    """What a dataset and the meta data of a checkpoint have in common."""

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes."""

    @property
    def mean(self) -> Sequence[float]:
        """The mean of each channel."""

    @property
    def std(self) -> Sequence[float]:
        """The standard deviation of each channel."""

    @property
    def band_rule(self) -> BandRule | None:
        """How images are read; None: as 8-bit RGB."""


def check_same(
    known: Described, found: Described, names: tuple[str, str] = ("train_loader", "val_loader")
) -> None:
    """Refuse data of other classes, or of another kind of images.

    Raises:
        ValueError: If they differ.
    """
    _check_classes(list(known.classes), list(found.classes), *names)
    expected, given = describe_images(known.band_rule), describe_images(found.band_rule)
    if expected != given:
        raise ValueError(
            f"{names[0]} has images of {expected} and {names[1]} has {given}; both must be the same"
        )


def _check_classes(known: list[str], found: list[str], name: str, other: str) -> None:
    if known == found:
        return
    if len(known) != len(found):
        only = [c for c in found if c not in known] or [c for c in known if c not in found]
        shown = ", ".join(map(repr, only[:3])) + ", ..." * (len(only) > 3)
        difference = f"{name} has {len(known)} classes and {other} has {len(found)}"
        difference += f": only one of them has {shown}" if only else ""
    else:
        index = next(i for i, pair in enumerate(zip(known, found, strict=True)) if len({*pair}) > 1)
        difference = (
            f"class {index} is {known[index]!r} in {name} and {found[index]!r} in {other}"
            f"{suggest(found[index], known)}"
        )
    raise ValueError(f"{difference}; names and order of the classes must be the same")


def describe_images(rule: BandRule | None) -> str:
    """Describe the images that a rule reads, as far as a model is concerned."""
    if rule is None:
        return "8-bit RGB"
    words = [f"{rule.channels} bands of type {rule.dtype}"]
    words += [f"bands {list(rule.bands)}"] if rule.bands else []
    words += [f"clipped to {[list(pair) for pair in rule.clip]}"] if rule.clip else []
    return ", ".join(words)


def statistics_warning(known: Described, found: Described, section: str) -> str | None:
    """Return a warning if a section's own mean and std are not those that images are scaled by."""
    if all(map(_equal, (known.mean, known.std), (found.mean, found.std))):
        return None
    return f"{section}: its images are normalised as in training, not by its own mean and std"


def _equal(one: Sequence[float], other: Sequence[float]) -> bool:
    return list(one) == list(other)


def ignored_class(classes: Sequence[str], ignore_index: int) -> str | None:
    """Return a warning if the ignored label is a class of the dataset."""
    if not 0 <= ignore_index < len(classes):
        return None
    name = classes[ignore_index]
    return f"ignore_index: {ignore_index} is the class {name!r}, whose pixels are ignored"
