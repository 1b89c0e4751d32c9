"""A quick look at the data before a training: the heads of the files, the labels of a sample."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from audit.set_findings import crop_within, one_size, output_sizes, why_sizes_differ
from base.base_dataloader import BaseDataLoader, LoaderOptions
from base.base_dataset import BaseDataset, DataError, fits
from base.label_counts import absent_classes
from inspection import label_findings
from inspection.facts import FORMAT, ImageFacts, MaskFacts, SampleFacts, describe_mask, names_of
from inspection.finding import Finding
from inspection.label_maps import BINARY, propose
from inspection.split import Split
from utils.config.signatures import signature_of
from utils.distributed.collectives import run_on_main_and_broadcast, world_size
from utils.files.atomic_write import new_file
from utils.files.image_head import ImageHead, read_head
from utils.files.image_io import read_mask
from utils.progress import track
from utils.samples.pair_cache import CACHE_FOLDER
from utils.samples.pairing import few

logger = logging.getLogger(__name__)

MAX_HEADS = 5000  # a head takes a tenth of a millisecond
MAX_MASKS = 128
MAX_THREADS = 8
FEW_VALUES = 8  # of a mask; a photo has more
WORTH_KEEPING = 1.0  # seconds; a quicker look is taken again
SHOWN = 8  # names


class _Looked(msgspec.Struct):
    """What was found in the files of a split, as it is kept for later runs."""

    heads: list[tuple[ImageHead, ImageHead] | None]
    masks: dict[int, MaskFacts]
    broken: dict[int, str] = {}


@dataclasses.dataclass(frozen=True)
class Survey:
    """What is known of a split before its training.

    Args:
        split: The split; its facts are those of the masks that were looked at.
        indices: The indices of the samples whose heads were read, in the dataset.
        heads: For each of these the head of the image and of the mask; None where a sample is not
            made of two image files.
        total: How many samples the split has.
        broken: For the index of a sample whose image or mask has no head and cannot be read, why.
    """

    split: Split
    indices: Sequence[int]
    heads: Sequence[tuple[ImageHead, ImageHead] | None]
    total: int
    broken: dict[int, str] = dataclasses.field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether the labels of every sample are known."""
        return len(self.split.facts) == self.total

    @property
    def absent(self) -> list[str]:
        """The classes without a valid pixel in the masks that were looked at."""
        names = self.split.dataset.classes
        totals = self.split.classes
        return [str(name) for name, own in zip(names, totals, strict=True) if not own.pixels]


def survey(
    train_loader: BaseDataLoader, val_loader: BaseDataLoader | None, *, held_out: bool
) -> list[str]:
    """Look at the data of a training, refuse what cannot go well, and warn of what is odd.

    The head of every image and mask is read (of thousands where there are more), and the labels of
    up to `MAX_MASKS` samples a split. What took longer than a second is kept in `saved/cache`, and
    forgotten when a file changes. Of several ranks the main one looks.

    Args:
        train_loader: The training batches.
        val_loader: The validation batches, or None.
        held_out: Whether the validation is what `val_split` holds back.

    Returns:
        The splits whose labels are all known now, "train" or "val".

    Raises:
        DataError: If sizes or labels are wrong, with the first file and the lines to write.
    """
    loaders = {"train": ("train_loader", train_loader)}
    if val_loader is not None:
        loaders["val"] = ("train_loader" if held_out else "val_loader", val_loader)
    return run_on_main_and_broadcast(lambda: _survey(loaders), DataError)


def _survey(loaders: dict[str, tuple[str, BaseDataLoader]]) -> list[str]:
    surveys = {name: look(name, section, loader) for name, (section, loader) in loaders.items()}
    for name, (_, loader) in loaders.items():
        if not loader.skips:
            _check_files(surveys[name])
            _check_sizes(surveys[name])
    _warn_of_orientation(list(surveys.values()))
    _check_batches(surveys["train"], loaders["train"][1])
    surveys = {n: _read_all_if_binary(s, loaders[n][1]) for n, s in surveys.items()}
    strict = {name: one for name, one in surveys.items() if not loaders[name][1].skips}
    _check_transparency(strict.values())
    for finding in label_findings.find_undecided_white([s.split for s in surveys.values()]):
        raise DataError(_text(finding, surveys[finding.split]))
    _check_labels(surveys, strict)
    _warn_of_absent_classes(surveys)
    return [name for name, found in surveys.items() if found.is_complete]


# --------------------------------------------------------------------------------------------------
# Reading


def look(name: str, section: str, loader: BaseDataLoader, most: int | None = None) -> Survey:
    """Read the heads of the files of a split and the labels of a sample of it.

    Args:
        name: `"train"` or `"val"`.
        section: Where the config names it.
        loader: Its loader.
        most: How many masks to read, the same ones every time; None for `MAX_MASKS`.
    """
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
            _keep(cache, found)
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
    plain = _reads_files(dataset)
    broken: dict[int, str] = {}

    def heads(index: int) -> tuple[ImageHead, ImageHead] | None:
        sample = dataset.samples[index]
        try:
            if not plain or sample.label is None:
                return None
            return read_head(sample.image), read_head(sample.label)
        except DataError:
            # Drawn by the program, an annotation, or damage: the reader of the pixels decides.
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

    # The decoders run without the lock of the interpreter.
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        read, found = pool.map(mask, with_mask), pool.map(heads, with_head)
        words = f"looking at the masks of {split.name}"
        shown = track(read, total=len(with_mask), unit="mask", label=words, leave=False)
        masks = dict(zip(with_mask, shown, strict=True))
        return _Looked(list(found), masks, broken)


def _reads_files(dataset: BaseDataset) -> bool:
    """Whether image and mask of a sample come straight from one file each."""
    own = type(dataset)
    return own.load_image is BaseDataset.load_image and own.load_mask is BaseDataset.load_mask


def _cache_file(split: Split, *indices: Sequence[int]) -> Path | None:
    """The file that keeps a look, named by all that it depends on; None where there are no files.

    The stamp of every file is a part of the name, so a file that changed is looked at again.
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
    except (OSError, msgspec.MsgspecError):  # not there, or not ours
        return None


def _keep(path: Path, found: _Looked) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, overwrite=True) as file:
            file.write(msgspec.msgpack.encode(found))
    except OSError as error:
        logger.info("%s cannot be written (%s); the next run looks again", path, error.strerror)


# --------------------------------------------------------------------------------------------------
# Sizes and orientation


def _check_files(found: Survey) -> None:
    """Refuse files that are empty, or end within their header."""
    if found.broken:
        more = len(found.broken) - 1
        others = f"; {more} more cannot be read: python check.py names them" if more else ""
        raise DataError(f"{found.split.section}: {found.broken[min(found.broken)]}{others}")


def _check_sizes(found: Survey) -> None:
    """Refuse masks whose size is not that of their image."""
    dataset = found.split.dataset
    rule = "shown_size" if dataset.exif == "apply" else "stored_size"
    pairs = zip(found.indices, found.heads, strict=True)
    odd = [
        (i, pair) for i, pair in pairs if pair and getattr(pair[0], rule) != getattr(pair[1], rule)
    ]
    if not odd:
        return
    index, (image, mask) = odd[0]
    sample = dataset.samples[index]
    sizes = ("{}x{}".format(*getattr(head, rule)) for head in (mask, image))
    raise DataError(
        f"{found.split.section}: {len(odd)} of {len(found.indices)} masks have another size than "
        f"their image; {sample.label} is {next(sizes)} and its image {sample.image} is "
        f"{next(sizes)}; {_mixed_rules(found) or dataset.size_advice(index)}"
    )


def _mixed_rules(found: Survey) -> str:
    """What to do where some masks fit the stored image alone, and others the turned one alone."""
    dataset = found.split.dataset
    pairs = [(i, *pair) for i, pair in zip(found.indices, found.heads, strict=True) if pair]
    stored = [i for i, a, b in pairs if fits(a, b, "ignore") and not fits(a, b, "apply")]
    shown = [i for i, a, b in pairs if fits(a, b, "apply") and not fits(a, b, "ignore")]
    if not (stored and shown):
        return ""
    names = [dataset.samples[indices[0]].image for indices in (shown, stored)]
    rule = ' and set "exif": "ignore"' if "exif" in signature_of(type(dataset)) else ""
    return (
        f"{len(shown)} masks fit the image as its EXIF orientation shows it (the first: {names[0]})"
        f", and {len(stored)} as it is stored ({names[1]}), so no rule fits all: turn the pixels "
        f"of the former, mogrify -auto-orient on copies{rule}"
    )


def _warn_of_orientation(surveys: Sequence[Survey]) -> None:
    """Name an image whose EXIF orientation may turn it away from its mask.

    Where a quarter turn changes the size, the size of the mask tells which rule is right.
    """
    doubtful = [
        (found.split, index, pair[0].orientation)
        for found in surveys
        for index, pair in zip(found.indices, found.heads, strict=True)
        if found.split.dataset.exif is None and pair
        if pair[0].orientation != pair[1].orientation
        if fits(*pair, "apply") and fits(*pair, "ignore")
    ]
    if not doubtful:
        return
    split, index, orientation = doubtful[0]
    sections = " and ".join(dict.fromkeys(f"{one.section}.args" for one, *_ in doubtful))
    cure = "where the masks fit the turned images, turn the pixels: mogrify -auto-orient, on copies"
    if "exif" in signature_of(type(split.dataset)):
        cure = (
            f'write "exif": "apply" into {sections} where the masks were drawn on images as a '
            'person sees them, "exif": "ignore" where they were drawn on the stored pixels'
        )
    logger.warning(
        "%d of %d images carry an EXIF orientation, which is not applied, and their sizes do not "
        "tell whether the masks fit the stored or the turned image; the first: %s (orientation "
        "%d); %s",
        len(doubtful), sum(len(found.indices) for found in surveys),
        split.dataset.samples[index].image, orientation, cure,
    )  # fmt: skip


def _check_batches(found: Survey, loader: BaseDataLoader) -> None:
    """Refuse images that come out of the augmentation in several sizes, which no batch can hold."""
    split, batch = found.split, loader.batches.batch_size
    if batch // world_size() < 2 or len(found.indices) < 2:
        return
    rule = "shown_size" if split.dataset.exif == "apply" else "stored_size"
    first: dict[tuple[int, int], int] = {}
    for index, pair in zip(found.indices, found.heads, strict=True):
        if pair:
            first.setdefault(getattr(pair[0], rule), index)
    outputs = output_sizes(split.augmentation, list(first))
    if len(set().union(*outputs)) < 2:
        return
    shown = list(first)[:2]
    files = " and ".join(
        f"{split.dataset.samples[first[size]].image} is {size[0]}x{size[1]}" for size in shown
    )
    crop = crop_within(min(min(size) for size in first))
    raise DataError(
        f"{split.section}: images have several sizes{why_sizes_differ(split.augmentation)}, which "
        f"cannot be stacked to a batch of {batch} ({files}); {one_size(split.augmentation, crop)}, "
        'or set "batch_size": 1'
    )


# --------------------------------------------------------------------------------------------------
# Labels


def _read_all_if_binary(found: Survey, loader: BaseDataLoader) -> Survey:
    """Look at every mask where a sample holds nothing but 0 and 255: one more value settles it."""
    if found.is_complete or not label_findings.holds_black_and_white_only(found.split):
        return found
    split = found.split
    return look(split.name, split.section, loader, most=found.total)


def _check_transparency(surveys: Iterable[Survey]) -> None:
    """Refuse masks of one colour whose alpha channel, which is dropped, draws the objects."""
    for found in surveys:
        facts = [one for one in found.split.facts if one.mask and not one.mask.error]
        if not _reads_files(found.split.dataset) or len(found.split.values) != 1:
            continue
        for one in facts:
            if _alpha_varies(one.label):
                raise DataError(
                    f"{found.split.section}: the masks have one colour everywhere, and their "
                    f"transparency, which is not read, varies (the first: {one.label}). Make it "
                    "the mask, on copies: mogrify -alpha extract *.png gives 0 where an image is "
                    f'transparent and 255 elsewhere, with "label_map": {json.dumps(BINARY)}'
                )


def _alpha_varies(path: str) -> bool:
    try:
        with Image.open(path, formats=("PNG", "WEBP", "TIFF", "GIF")) as image:
            if "A" not in image.getbands():
                return False
            low, high = image.getchannel("A").getextrema()
            return bool(low != high)
    except Exception:  # nothing that can be looked at
        return False


def _check_labels(surveys: dict[str, Survey], strict: dict[str, Survey]) -> None:
    """Refuse values that mean nothing, with the map that gives them a meaning where it is clear."""
    proposals = propose(found.split for found in surveys.values())
    for name, found in surveys.items():
        masks = [facts for facts in found.split.facts if facts.mask and facts.mask.error]
        if masks and name in strict:
            error = masks[0].mask.error if masks[0].mask else ""
            raise DataError(f"{error}{_exchanged(found)}")
        for finding in label_findings.find(found.split, proposals[name]):
            if finding.kind == "all-ignored" and not found.is_complete:
                continue
            text = _text(finding, found)
            if finding.severity == "warning":
                logger.warning(text)
            elif name in strict:
                raise DataError(f"{text}{_exchanged(found)}")


def _exchanged(found: Survey) -> str:
    """Ask whether images and masks are exchanged, where the first image looks like a mask."""
    dataset = found.split.dataset
    if not _reads_files(dataset) or dataset.band_rule is not None:
        return ""
    image = dataset.samples[found.indices[0]].image
    try:
        values = np.unique(read_mask(image).reshape(-1))
    except DataError:  # a JPEG, as a rule
        return ""
    if len(values) > max(len(dataset.classes) + 1, FEW_VALUES):
        return ""
    return (
        f". Are images and masks exchanged? {image} holds {len(values)} values only, as a mask does"
    )


def _text(finding: Finding, found: Survey) -> str:
    """A finding with its fix; the section says where, not the split and the word for programs."""
    where = found.split.section
    return f"{where}: {str(finding).partition('] ')[2].partition(': ')[2]}; {finding.fix}"


def _warn_of_absent_classes(surveys: dict[str, Survey]) -> None:
    """Name the classes that training or validation has no labelled pixel of."""
    for found in surveys.values():
        if found.is_complete:
            text = absent_classes(found.absent, len(found.split.dataset.classes), found.split.name)
            if text:
                logger.warning(text)
        elif len(found.absent) >= len(found.split.dataset.classes) - 1:
            logger.warning(
                "%s: of %d classes only %s has labelled pixels in the %d of %d masks looked at",
                found.split.section,
                len(found.split.dataset.classes),
                few([n for n in found.split.dataset.classes if n not in found.absent]) or "none",
                len(found.split.facts),
                found.total,
            )
