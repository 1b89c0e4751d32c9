"""Findings about files: partners, damage, sizes, encodings."""

import collections
from collections.abc import Callable, Iterable, Iterator

from inspection.facts import ImageFacts, SampleFacts
from inspection.finding import Finding, count
from inspection.split import Split
from utils.config.signatures import signature_of
from utils.files.image_head import SWAPPING
from utils.files.jpeg_end import mending_command


def find(split: Split) -> Iterator[Finding]:
    """Yield everything that is wrong with the files of a split."""
    yield from _partners(split)
    yield from _unreadable(split)
    yield from _odd_ends(split)
    yield from _sizes(split)
    yield from _orientation(split)
    yield from _image_encodings(split)
    yield from _mask_encodings(split)
    yield from _values(split)


def _partners(split: Split) -> Iterator[Finding]:
    if split.held_out:  # the training has the same dataset
        return
    for problem in split.dataset.problems:
        yield Finding(
            "error", "missing-partner", split.name, problem,
            'correct the files or the list; "on_bad_sample": "skip" trains with the rest',
        )  # fmt: skip
    for note in split.dataset.notes:
        guessed = note in split.dataset.guesses
        yield Finding(
            "warning", "names-differ" if guessed else "extra-partner", split.name, note,
            "look at the pair that is shown; if it is wrong, rename the files" if guessed
            else "find out whether something is missing; if not, remove the extra files",
        )  # fmt: skip


def _unreadable(split: Split) -> Iterator[Finding]:
    found: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for facts in split.facts:
        if facts.image.error:
            error = facts.image.error.removeprefix(f"{facts.files[0]}: ")
            found[_kind(facts.image.error)][facts.files[0]] = error
        if facts.mask is not None and facts.mask.error:
            file = facts.mask.file
            lossy = file is not None and file.format == "JPEG"
            kind = "jpeg-mask" if lossy else _kind(facts.mask.error)
            error = facts.mask.error.removeprefix(f"{facts.label}: ")
            found[kind][split.mask_key(facts)] = error
    fixes = {
        "jpeg-mask": "JPEG changes label values: export the masks as PNG",
        "empty-file": "copy or export them again, or remove image and mask",
        "unreadable": "copy or export them again, write a damaged JPEG anew (its message says "
        "how), or remove image and mask; "
        '"on_bad_sample": "skip" trains without them',
    }
    texts = {
        "jpeg-mask": "{} lossily compressed",
        "empty-file": "{} empty",
        "unreadable": "{} unusable",
    }
    for kind, files in found.items():
        verb = "file is" if len(files) == 1 else "files are"
        message = texts[kind].format(f"{len(files)} {verb}")
        yield Finding("error", kind, split.name, message, fixes[kind], files)


def _odd_ends(split: Split) -> Iterator[Finding]:
    files = {path: what for f in split.facts for path, what in f.image.notes.items()}
    if files:
        yield Finding(
            "warning", "jpeg-end", split.name,
            f"{count(len(files), 'JPEG')} complete except for the end, and read",
            "other programs may refuse them: copy them again if the originals are complete, or "
            f"write them anew, with an editor or {mending_command(next(iter(files)))}",
            files,
        )  # fmt: skip


def _kind(error: str) -> str:
    return "empty-file" if "is empty (0 bytes)" in error else "unreadable"


def _sizes(split: Split) -> Iterator[Finding]:
    odd = [facts for facts in split.facts if facts.mask is not None and facts.sizes_differ]
    fix = "export the masks at the size of the images, scaled with nearest neighbour"
    if odd and all(_fits_turned(facts) for facts in odd):
        fix = _apply_exif(split)
    if odd:
        yield Finding(
            "error", "size-mismatch", split.name,
            f"{count(len(odd), 'mask')} of another size than the image",
            fix,
            {
                split.mask_key(f): f"{f.mask.width}x{f.mask.height}, its image "
                f"{f.image.width}x{f.image.height}"
                for f in odd
                if f.mask is not None
            },
        )  # fmt: skip


def _orientation(split: Split) -> Iterator[Finding]:
    if split.dataset.exif is not None:  # the config decides
        return
    files = {}
    for facts in split.facts:
        turn = _turn(facts)
        mask = facts.mask.file if facts.mask is not None else None
        if turn == 1 or (mask is not None and (mask.exif_orientation or 1) == turn):
            continue  # nothing to turn, or both turn alike
        told = facts.mask is not None and not facts.sizes_differ
        if turn in SWAPPING and facts.image.width != facts.image.height and told:
            continue  # the mask has the size of the stored image, so it was drawn on it
        files[facts.files[0]] = f"EXIF orientation {turn}{_mask_fits(facts)}"
    can_apply = "exif" in signature_of(type(split.dataset))
    stored = '; if they fit the stored ones, "ignore"' if can_apply else ""
    if files:
        yield Finding(
            "warning", "exif-orientation", split.name,
            f"{count(len(files), 'image')} with an EXIF rotation, which is not applied",
            "look at them in the contact sheet (--sheet); if the masks fit the rotated "
            f"images, {_apply_exif(split)}{stored}",
            files,
        )  # fmt: skip


def _turn(facts: SampleFacts) -> int:
    """Return the EXIF orientation of the image."""
    return next((f.exif_orientation for f in facts.image.files if f.exif_orientation), 1)


def _apply_exif(split: Split) -> str:
    if "exif" in signature_of(type(split.dataset)):
        return 'set "exif": "apply" in the loader\'s args'
    return "rotate the pixels and drop the tag: mogrify -auto-orient"


def _fits_turned(facts: SampleFacts) -> bool:
    """Return whether a mask has the size of the turned image, but not of the stored one."""
    size = (0, 0) if facts.mask is None else (facts.mask.width, facts.mask.height)
    return _turn(facts) in SWAPPING and size == (facts.image.height, facts.image.width)


def _mask_fits(facts: SampleFacts) -> str:
    if facts.mask is None or facts.mask.error or facts.image.error:
        return ""
    if not facts.sizes_differ:
        return ", the mask has the size of the stored image"
    fits = _fits_turned(facts)
    return ", the mask fits the rotated image" if fits else ", the mask fits neither way"


def _mixed(
    facts: Iterable[SampleFacts],
    mode_of: Callable[[SampleFacts], str],
    key_of: Callable[[SampleFacts], str],
) -> tuple[str, dict[str, str]]:
    """Return the encodings with their counts, and the files of all but the most frequent."""
    modes = {key_of(f): mode_of(f) for f in facts if mode_of(f)}
    counts = collections.Counter(modes.values())
    if len(counts) < 2:
        return "", {}
    usual = counts.most_common(1)[0][0]
    shown = ", ".join(f"{number} {mode}" for mode, number in counts.most_common())
    return shown, {file: mode for file, mode in modes.items() if mode != usual}


def _image_encodings(split: Split) -> Iterator[Finding]:
    shown, files = _mixed(
        split.facts, lambda f: "/".join(i.mode for i in f.image.files), lambda f: f.files[0]
    )
    if files:
        yield Finding(
            "warning", "mixed-pictures", split.name,
            f"images are encoded in several ways ({shown})",
            "make sure that all mean the same; alpha is dropped, grey becomes RGB",
            files,
        )  # fmt: skip
    channels = collections.Counter(f.image.channels for f in split.facts if f.image.channels)
    if len(channels) > 1 or set(channels) - {split.dataset.channels}:
        usual = split.dataset.channels
        odd = [f for f in split.facts if f.image.channels not in (0, usual)]
        yield Finding(
            "error", "different-bands", split.name,
            f"{count(len(odd), 'image')} with another number of bands than {usual}",
            "export them with the same bands, or choose the bands in the config",
            {f.files[0]: count(f.image.channels, "band") for f in odd},
        )  # fmt: skip


def _mask_encodings(split: Split) -> Iterator[Finding]:
    facts = [f for f in split.facts if f.mask is not None and not f.mask.error]
    shown, files = _mixed(
        facts, lambda f: f.mask.file.mode if f.mask and f.mask.file else "", split.mask_key
    )
    if files:
        yield Finding(
            "warning", "mixed-masks", split.name,
            f"masks are encoded in several ways ({shown})",
            "make sure that a value means the same class in all; best write all with one program",
            files,
        )  # fmt: skip


def _values(split: Split) -> Iterator[Finding]:
    files = {f.files[0]: _not_finite(f.image) for f in split.facts if f.image.not_finite}
    if files:
        yield Finding(
            "error", "not-finite", split.name,
            f"{count(len(files), 'image')} with NaN or infinite values",
            "name the value of missing pixels (nodata) in the file or the config",
            files,
        )  # fmt: skip


def _not_finite(image: ImageFacts) -> str:
    return count(image.not_finite, "pixel")
