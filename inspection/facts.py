"""Facts about the files of one sample: everything that the audit knows, without the pixels."""

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np

from base.base_dataset import BaseDataset, Picture
from inspection.counts import BandTotals, band_totals, count_values, indices_of, label_values
from utils.files.data_file import DataError
from utils.files.file_facts import FileFacts, file_facts
from utils.files.file_notes import collect_notes
from utils.samples.labels import LabelMap
from utils.samples.pairing import Sample

T = TypeVar("T")

FORMAT = 3  # version of these structures in a cache: increment when one of them changes

MAX_VALUES = 1024  # values kept of a mask: a photograph has many more


class ImageFacts(msgspec.Struct, frozen=True):
    """An image."""

    files: list[FileFacts] = []  # the facts of each image file that it is read from
    error: str = ""  # why it cannot be used; then the rest is empty
    width: int = 0  # in pixels
    height: int = 0  # in pixels
    channels: int = 0  # channels that the model sees
    dtype: str = ""  # the type of its values
    sha256: str = ""  # hash of the decoded pixels, which finds copies in other files
    bands: list[BandTotals] = []  # sums of each channel
    missing: int = 0  # pixels without data
    not_finite: int = 0  # pixels that are NaN or infinite and not marked as missing
    notes: dict[str, str] = {}  # oddities of files that were read nevertheless, by file


class MaskFacts(msgspec.Struct, frozen=True):
    """A mask."""

    file: FileFacts | None = None  # the facts of its file, if that is an image file
    error: str = ""  # why it cannot be used; then the rest is empty
    width: int = 0  # in pixels
    height: int = 0  # in pixels
    # Id ("7") or colour ("128,0,64") -> pixels, of the most frequent `MAX_VALUES`.
    values: dict[str, int] = {}
    num_values: int = 0  # the number of unique ids or colours
    unknown: list[str] = []  # those of `values` that are neither class nor ignored
    # Class or the ignored label -> pixels, without the unknown values; pixels without data in the
    # image are ignored.
    labels: dict[int, int] = {}


class SampleFacts(msgspec.Struct, frozen=True):
    """One sample of a dataset."""

    name: str  # its name in messages
    files: list[str]  # every file that it is read from; those of the image first
    image: ImageFacts  # the image
    mask: MaskFacts | None = None  # the mask; None for a sample without labels
    label: str = ""  # the file that the mask is read from

    @property
    def usable(self) -> bool:
        """Whether training can load it."""
        mask = self.mask
        return not self.image.error and not (
            mask and (mask.error or mask.unknown or self.sizes_differ)
        )

    @property
    def sizes_differ(self) -> bool:
        """Whether image and mask can be read and have different sizes."""
        image, mask = self.image, self.mask
        if mask is None or mask.error or image.error:
            return False
        return (image.width, image.height) != (mask.width, mask.height)


def examine(dataset: BaseDataset, index: int, labels: LabelMap) -> SampleFacts:
    """Read one sample and return its facts."""
    sample = dataset.samples[index]
    with collect_notes() as notes:
        loaded, error = _attempt(lambda: dataset.load_image(index))
    image = ImageFacts(files=_facts_of(sample.bands or (sample.image,)), error=error)
    if loaded is not None:
        image = _describe_image(loaded, image.files)
        image = msgspec.structs.replace(image, notes={n.path: n.what for n in notes})
    mask = None
    if sample.label is not None:
        stored, error = _attempt(lambda: dataset.load_mask(index))
        file = next(iter(_facts_of([sample.label])), None)
        mask = MaskFacts(file=file, error=error)
        if stored is not None:
            mask = describe_mask(stored, None if loaded is None else loaded.missing, labels, file)
    return SampleFacts(image=image, mask=mask, **names_of(sample))


def names_of(sample: Sample) -> dict[str, Any]:
    """Return the facts of a sample that are known without reading it."""
    return {"name": sample.name, "files": list(sample.files), "label": sample.label or ""}


def _attempt(load: Callable[[], T]) -> tuple[T | None, str]:
    """Return the result of `load`, or the reason for none."""
    try:
        return load(), ""
    except DataError as error:
        return None, str(error)


def _facts_of(paths: Sequence[str]) -> list[FileFacts]:
    """Return the facts of the image files among the paths; drawn scenes have none."""
    found = []
    for path in paths:
        if os.path.isfile(path):
            facts, _ = _attempt(functools.partial(file_facts, path))
            found += [] if facts is None else [facts]
    return found


def _describe_image(image: Picture, files: list[FileFacts]) -> ImageFacts:
    pixels, missing = np.ascontiguousarray(image.pixels), image.missing
    height, width, channels = pixels.shape
    finite = np.ones((height, width), bool)
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels).all(axis=2)
    present = finite if missing is None else finite & ~missing
    digest = hashlib.sha256(repr((pixels.shape, pixels.dtype.str)).encode())
    digest.update(pixels.data)
    return ImageFacts(
        files=files,
        width=width,
        height=height,
        channels=channels,
        dtype=str(pixels.dtype),
        sha256=digest.hexdigest(),
        bands=band_totals(pixels, None if present.all() else present),
        missing=0 if missing is None else int(missing.sum()),
        not_finite=int((~finite if missing is None else ~finite & ~missing).sum()),
    )


def describe_mask(
    mask: np.ndarray, missing: np.ndarray | None, labels: LabelMap, file: FileFacts | None = None
) -> MaskFacts:
    """Count the values and labels of a mask, ids (H, W) or colours (H, W, 3)."""
    height, width = mask.shape[:2]
    values, counts = count_values(mask)
    ids, unknown = label_values(values, labels)
    counted = counts
    if missing is not None and missing.shape == mask.shape[:2] and missing.any():
        there, rest = count_values(mask[~missing][None])
        counted = np.zeros_like(counts)
        counted[indices_of(there, values)] = rest
    totals: dict[int, int] = {}
    for label, count in zip(ids[~unknown].tolist(), counted[~unknown].tolist(), strict=True):
        totals[label] = totals.get(label, 0) + count
    without = int(counts.sum() - counted.sum())
    if without:
        totals[labels.ignore_index] = totals.get(labels.ignore_index, 0) + without
    order = np.argsort(-counts, kind="stable")[:MAX_VALUES].tolist()
    names = {i: ",".join(map(str, np.atleast_1d(values[i]).tolist())) for i in order}
    return MaskFacts(
        file=file,
        width=width,
        height=height,
        values={names[i]: int(counts[i]) for i in order},
        num_values=len(values),
        unknown=[names[i] for i in order if unknown[i]],
        labels={label: count for label, count in sorted(totals.items()) if count},
    )
