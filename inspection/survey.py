"""A survey of the data before a training: refuse what cannot work, warn of what is odd."""

import json
import logging
from collections.abc import Iterable

import numpy as np
from PIL import Image

from base.base_dataloader import BaseDataLoader
from base.label_counts import absent_classes
from inspection import label_findings
from inspection.finding import Finding
from inspection.label_maps import BINARY, propose
from inspection.look import Survey, look, reads_files
from inspection.sizes import check_batches, check_files, check_sizes, warn_of_orientation
from utils.distributed.collectives import run_on_main_and_broadcast
from utils.files.data_file import DataError
from utils.files.image_io import read_mask
from utils.samples.pairing import few

logger = logging.getLogger(__name__)

FEW_VALUES = 8  # a mask may have so few values; a photo has more


def survey(
    train_loader: BaseDataLoader, val_loader: BaseDataLoader | None, *, held_out: bool
) -> list[str]:
    """Look at the data of a training, refuse what cannot work, and warn of what is odd.

    The header of every image and mask is read (of `MAX_HEADS` at most), and the labels of up to
    `MAX_MASKS` samples a split. Facts that took longer than a second are kept in `saved/cache`
    until a file changes. Only the main rank looks.

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
            check_files(surveys[name])
            check_sizes(surveys[name])
    warn_of_orientation(list(surveys.values()))
    check_batches(surveys["train"], loaders["train"][1])
    surveys = {n: _read_all_if_binary(s, loaders[n][1]) for n, s in surveys.items()}
    strict = {name: one for name, one in surveys.items() if not loaders[name][1].skips}
    _check_transparency(strict.values())
    for finding in label_findings.find_undecided_white([s.split for s in surveys.values()]):
        raise DataError(_text(finding, surveys[finding.split]))
    _check_labels(surveys, strict)
    _warn_of_absent_classes(surveys)
    return [name for name, found in surveys.items() if found.is_complete]


def _read_all_if_binary(found: Survey, loader: BaseDataLoader) -> Survey:
    """Read every mask if the first ones hold only 0 and 255: one more value decides."""
    if found.is_complete or not label_findings.holds_black_and_white_only(found.split):
        return found
    split = found.split
    return look(split.name, split.section, loader, most=found.total)


def _check_transparency(surveys: Iterable[Survey]) -> None:
    """Refuse masks of one colour whose alpha channel, which is dropped, shows the objects."""
    for found in surveys:
        facts = [one for one in found.split.facts if one.mask and not one.mask.error]
        if not reads_files(found.split.dataset) or len(found.split.values) != 1:
            continue
        for one in facts:
            if _alpha_varies(one.label):
                raise DataError(
                    f"{found.split.section}: the masks have one colour everywhere, but their "
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
    except Exception:  # not an image that Pillow can open
        return False


def _check_labels(surveys: dict[str, Survey], strict: dict[str, Survey]) -> None:
    """Refuse values without a meaning, with the map that gives them one if it is clear."""
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
    """Ask whether images and masks are exchanged if the first image looks like a mask."""
    dataset = found.split.dataset
    if not reads_files(dataset) or dataset.band_rule is not None:
        return ""
    image = dataset.samples[found.indices[0]].image
    try:
        values = np.unique(read_mask(image).reshape(-1))
    except DataError:  # usually a JPEG
        return ""
    if len(values) > max(len(dataset.classes) + 1, FEW_VALUES):
        return ""
    return (
        f". Are images and masks exchanged? {image} holds {len(values)} values only, as a mask does"
    )


def _text(finding: Finding, found: Survey) -> str:
    """Return a finding with its fix and the section, without split and kind."""
    where = found.split.section
    return f"{where}: {str(finding).partition('] ')[2].partition(': ')[2]}; {finding.fix}"


def _warn_of_absent_classes(surveys: dict[str, Survey]) -> None:
    """Warn of classes without a labelled pixel in training or validation."""
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
