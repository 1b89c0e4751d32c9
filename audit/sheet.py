"""The contact sheet: which samples to look at, and the files they are shown in."""

from __future__ import annotations

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
PICTURE, PAGE = "contact_sheet.png", "contact_sheet.html"

Choice = tuple[Split, int, list[str]]  # split, place in it, messages


def make_sheet(
    folder: Path, config: Config, splits: Sequence[Split], findings: Sequence[Finding]
) -> list[Path]:
    """Write `contact_sheet.png` and `contact_sheet.html`.

    Args:
        folder: Where to; made if needed.
        config: The checked config.
        splits: Every split, the training first.
        findings: Of the audit.

    Returns:
        The two files.

    Raises:
        OSError: If they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tiles = [
        make_tile(split.dataset, split.indices[place], split.label_map, split.name, messages)
        for split, place, messages in choose(splits, findings)
    ]
    title = f"{config.name}: {len(tiles)} of {sum(len(split.facts) for split in splits)} pictures"
    legend = make_legend(splits[0])
    paths = [folder / PICTURE, folder / PAGE]
    write_png(paths[0], title, tiles, legend)
    write_html(paths[1], title, tiles, legend, findings)
    return paths


def make_legend(train: Split) -> list[Entry]:
    """Every class with its share of the pixels that count, and the ignored label of all pixels."""
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
    """The samples to look at: some of each finding, then as few as show every class, then others.

    Args:
        splits: Every split.
        findings: Of the audit.
    """
    chosen: dict[tuple[str, int], Choice] = {}
    for split in splits:
        for place, messages in _with_findings(split, findings):
            chosen[split.name, place] = (split, place, messages)
    shown = {label for split, place, _ in chosen.values() for label in _labels(split, place)}
    for split in splits:
        for place in _cover(split, shown):
            chosen.setdefault((split.name, place), (split, place, []))
    for split, place in _spread(splits):
        if len(chosen) >= MIN_TILES:
            break
        chosen.setdefault((split.name, place), (split, place, []))
    return list(chosen.values())


def _with_findings(split: Split, findings: Sequence[Finding]) -> Iterable[tuple[int, list[str]]]:
    """The first few samples of every finding that names files, with all that is said of them."""
    places = {}
    for place, facts in enumerate(split.facts):
        places.update(dict.fromkeys((*facts.files[:1], split.mask_key(facts)), place))
    said: dict[int, list[str]] = {}
    first: dict[int, None] = {}
    for finding in findings:
        if finding.split not in ("", split.name):
            continue
        named = [(places[file], what) for file, what in finding.files.items() if file in places]
        first.update(dict.fromkeys(place for place, _ in named[:FOR_EACH_FINDING]))
        for place, what in named:
            said.setdefault(place, []).append(f"{finding.kind}{': ' if what else ''}{what}")
    return [(place, said[place]) for place in first]


def _labels(split: Split, place: int) -> set[int]:
    return _classes_of(split.facts[place], len(split.dataset.classes))


def _classes_of(facts: SampleFacts, num_classes: int) -> set[int]:
    labels = facts.mask.labels if facts.mask is not None else {}
    return {label for label in labels if 0 <= label < num_classes}


def _cover(split: Split, shown: set[int]) -> Iterable[int]:
    """Samples that show the classes that none has shown yet, the fullest first."""
    labels = {
        place: _labels(split, place) for place, facts in enumerate(split.facts) if facts.usable
    }
    missing = set().union(*labels.values()) - shown if labels else set()
    while missing:
        place = max(labels, key=lambda place: len(labels[place] & missing))
        missing -= labels[place]
        shown |= labels[place]
        yield place


def _spread(splits: Sequence[Split]) -> Iterable[tuple[Split, int]]:
    """Samples from all over the splits, in turn."""
    for number in range(MIN_TILES):
        for split in splits:
            if len(split.facts):
                yield split, number * len(split.facts) // MIN_TILES
