"""A quick look at a split: the headers of its files, the labels of some of its masks."""

import dataclasses
import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

from base.base_dataloader import BaseDataLoader, LoaderOptions
from base.base_dataset import BaseDataset
from inspection.facts import FORMAT, ImageFacts, MaskFacts, SampleFacts, describe_mask, names_of
from inspection.split import Split
from utils.files.atomic_write import keep
from utils.files.data_file import DataError
from utils.files.image_head import ImageHead, read_head
from utils.progress import track
from utils.samples.pair_cache import CACHE_FOLDER

MAX_HEADS = 5000  # a header takes a tenth of a millisecond
MAX_MASKS = 128
MAX_THREADS = 8
WORTH_KEEPING = 1.0  # seconds; a quicker look is taken again


class _Looked(msgspec.Struct):
    """The facts of a split's files, as they are kept for later runs."""

    heads: list[tuple[ImageHead, ImageHead] | None]
    masks: dict[int, MaskFacts]
    broken: dict[int, str] = {}


@dataclasses.dataclass(frozen=True)
class Survey:
    """The facts of a split before its training."""

    split: Split  # the split; its facts are those of the masks that were read
    indices: Sequence[int]  # the dataset indices of the samples whose headers were read
    # The headers of each sample's image and mask; None for a sample that is not two image files.
    heads: Sequence[tuple[ImageHead, ImageHead] | None]
    total: int  # the number of samples of the split
    # Index of a sample that cannot be read -> why.
    broken: dict[int, str] = dataclasses.field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether the labels of every sample are known."""
        return len(self.split.facts) == self.total

    @property
    def absent(self) -> list[str]:
        """The classes without a valid pixel in the masks that were read."""
        names = self.split.dataset.classes
        totals = self.split.classes
        return [str(name) for name, own in zip(names, totals, strict=True) if not own.pixels]


def look(name: str, section: str, loader: BaseDataLoader, most: int | None = None) -> Survey:
    """Read the headers of a split's files and the labels of `most` masks, always the same ones."""
    indices = loader.batches.indices.tolist()
    split = Split(
        name,
        section,
        loader.source,
        loader.samples.augmentation,
        LoaderOptions(batch_size=loader.batches.batch_size),
        indices,
        ignore_index=loader.samples.ignore_index,
    )
    order = np.random.default_rng(0).permutation(indices).tolist()
    with_head, with_mask = sorted(order[:MAX_HEADS]), sorted(order[: most or MAX_MASKS])
    cache = _cache_file(split, with_head, with_mask)
    found = _from_cache(cache)
    if found is None:
        started = time.monotonic()
        found = _read(split, with_head, with_mask)
        if time.monotonic() - started > WORTH_KEEPING and cache is not None:
            keep(cache, msgspec.msgpack.encode(found), "the next run looks again")
    samples = loader.source.samples
    facts = [
        SampleFacts(image=ImageFacts(), mask=found.masks[index], **names_of(samples[index]))
        for index in with_mask
        if index in found.masks
    ]
    split = dataclasses.replace(split, facts=facts)
    return Survey(split, with_head, found.heads, len(indices), found.broken)


def _read(split: Split, with_head: Sequence[int], with_mask: Sequence[int]) -> _Looked:
    dataset, labels = split.dataset, split.label_map
    plain = reads_files(dataset)
    broken: dict[int, str] = {}

    def heads(index: int) -> tuple[ImageHead, ImageHead] | None:
        sample = dataset.samples[index]
        try:
            if not plain or sample.label is None:
                return None
            return read_head(sample.image), read_head(sample.label)
        except DataError:
            # Drawn by the program, an annotation, or damaged: reading the pixels decides.
            try:
                dataset.load_image(index)
                dataset.load_mask(index)
            except DataError as error:
                broken[index] = str(error)
            return None

    def mask(index: int) -> MaskFacts:
        try:
            return describe_mask(dataset.load_mask(index), None, labels)
        except DataError as error:
            return MaskFacts(error=str(error))

    # The decoders release the GIL.
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        read, found = pool.map(mask, with_mask), pool.map(heads, with_head)
        words = f"looking at the masks of {split.name}"
        shown = track(read, total=len(with_mask), unit="mask", label=words, leave=False)
        masks = dict(zip(with_mask, shown, strict=True))
        return _Looked(list(found), masks, broken)


def reads_files(dataset: BaseDataset) -> bool:
    """Return whether image and mask of a sample are each read from one image file."""
    own = type(dataset)
    return own.load_image is BaseDataset.load_image and own.load_mask is BaseDataset.load_mask


def _cache_file(split: Split, *indices: Sequence[int]) -> Path | None:
    """Return the cache file of a look, named by all that it depends on; None without files.

    Size and time of every file are part of the name, so changed files are read again.
    """
    dataset = split.dataset
    words = [f"{FORMAT} {split.ignore_index} {dataset.reading_rule()} {[*map(len, indices)]}"]
    try:
        for index in sorted(set().union(*indices)):
            for file in dataset.samples[index].files:
                state = os.stat(file)
                words.append(f"{os.path.abspath(file)}|{state.st_size}|{state.st_mtime_ns}")
    except OSError:
        return None
    key = hashlib.sha256(os.fsencode("\n".join(words))).hexdigest()[:32]
    return Path(CACHE_FOLDER, f"survey-{key}.msgpack")


def _from_cache(path: Path | None) -> _Looked | None:
    try:
        return None if path is None else msgspec.msgpack.decode(path.read_bytes(), type=_Looked)
    except (OSError, msgspec.MsgspecError):  # missing, or not ours
        return None
