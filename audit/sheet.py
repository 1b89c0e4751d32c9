"""The contact sheet: which samples to look at, and the files that show them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from audit.sheet_html import write_html
from audit.sheet_png import write_png
from audit.tiles import IGNORED, make_tile
from inspection.facts import SampleFacts
from inspection.finding import Finding
from inspection.split import Split
from utils.config.sections import Config
from utils.drawing.legend import Entry
from utils.drawing.palette import IGNORED_COLOUR

FOR_EACH_FINDING = 3
MIN_TILES = 12
SHEET, PAGE = "contact_sheet.png", "contact_sheet.html"

Choice = tuple[Split, int, list[str]]  # split, index in it, messages


def make_sheet(
    folder: Path, config: Config, splits: Sequence[Split], findings: Sequence[Finding]
) -> list[Path]:
    """Write `contact_sheet.png` and `contact_sheet.html`; return the two files.

    Raises:
        OSError: If they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tiles = [
        make_tile(split.dataset, split.indices[index], split.label_map, split.name, messages)
        for split, index, messages in choose(splits, findings)
    ]
    title = f"{config.name}: {len(tiles)} of {sum(len(split.facts) for split in splits)} images"
    legend = make_legend(splits[0])
    paths = [folder / SHEET, folder / PAGE]
    write_png(paths[0], title, tiles, legend)
    write_html(paths[1], title, tiles, legend, findings)
    return paths


def make_legend(train: Split) -> list[Entry]:
    """Return the classes with their fraction of valid pixels; ignored with that of all pixels."""
    entries = [
        Entry(name, (colour[0], colour[1], colour[2]), totals.share, str(number))
        for number, (name, colour, totals) in enumerate(
            zip(train.dataset.classes, train.dataset.palette, train.classes, strict=False)
        )
    ]
    pixels = sum(train.labels.values())
    counted = sum(totals.pixels for totals in train.classes)
    return [*entries, Entry(IGNORED, IGNORED_COLOUR, 1 - counted / pixels if pixels else 0.0)]


def choose(splits: Sequence[Split], findings: Sequence[Finding]) -> list[Choice]:
    """Choose samples: some of each finding, then as few as show every class, then others."""
    chosen: dict[tuple[str, int], Choice] = {}
    for split in splits:
        for index, messages in _with_findings(split, findings):
            chosen[split.name, index] = (split, index, messages)
    shown = {label for split, index, _ in chosen.values() for label in _labels(split, index)}
    for split in splits:
        for index in _cover(split, shown):
            chosen.setdefault((split.name, index), (split, index, []))
    for split, index in _spread(splits):
        if len(chosen) >= MIN_TILES:
            break
        chosen.setdefault((split.name, index), (split, index, []))
    return list(chosen.values())


def _with_findings(split: Split, findings: Sequence[Finding]) -> Iterable[tuple[int, list[str]]]:
    """Return the first samples of every finding that names files, with all their messages."""
    indices = {}
    for index, facts in enumerate(split.facts):
        indices.update(dict.fromkeys((*facts.files[:1], split.mask_key(facts)), index))
    said: dict[int, list[str]] = {}
    first: dict[int, None] = {}
    for finding in findings:
        if finding.split not in ("", split.name):
            continue
        named = [(indices[file], what) for file, what in finding.files.items() if file in indices]
        first.update(dict.fromkeys(index for index, _ in named[:FOR_EACH_FINDING]))
        for index, what in named:
            said.setdefault(index, []).append(f"{finding.kind}{': ' if what else ''}{what}")
    return [(index, said[index]) for index in first]


def _labels(split: Split, index: int) -> set[int]:
    return _classes_of(split.facts[index], len(split.dataset.classes))


def _classes_of(facts: SampleFacts, num_classes: int) -> set[int]:
    labels = facts.mask.labels if facts.mask is not None else {}
    return {label for label in labels if 0 <= label < num_classes}


def _cover(split: Split, shown: set[int]) -> Iterable[int]:
    """Yield samples that show further classes, those with the most of them first."""
    labels = {
        index: _labels(split, index) for index, facts in enumerate(split.facts) if facts.usable
    }
    missing = set().union(*labels.values()) - shown if labels else set()
    while missing:
        index = max(labels, key=lambda index: len(labels[index] & missing))
        missing -= labels[index]
        shown |= labels[index]
        yield index


def _spread(splits: Sequence[Split]) -> Iterable[tuple[Split, int]]:
    """Yield samples spread over the splits, in turn."""
    for number in range(MIN_TILES):
        for split in splits:
            if len(split.facts):
                yield split, number * len(split.facts) // MIN_TILES
