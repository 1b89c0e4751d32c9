"""Masks of ids from masks of colours."""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from conversion.masks import Legend, MaskJob, mask_path, refuse_duplicates
from inspection.counts import count_values
from utils.cli.extensions import MASK_EXTENSIONS
from utils.files.data_file import DataError
from utils.files.image_io import list_images
from utils.files.json_file import read_json
from utils.files.paths import Root
from utils.samples.labels import LabelMap
from utils.samples.mask_colours import read_colours
from utils.samples.pairing import by_stem, few

IGNORED_NAME = "__ignore__"
# Masks as well, or images beside masks of the same stem; `read_mask` refuses lossy files.
MAYBE_IMAGES: tuple[str, ...] = (".jpg", ".jpeg", ".gif", ".webp")
ROWS = 256  # rows of a table of colours
MIN_SMOOTHED = 8  # unknown colours in one mask; a forgotten class or two are fewer

Channel = Annotated[int, msgspec.Meta(ge=0, le=255)]
Colour = tuple[Channel, Channel, Channel]
Palette = dict[str, Colour]


def read_palette(values: Sequence[str]) -> Palette:
    """Return name -> colour of each class, in the order of their ids.

    Args:
        values: A JSON file (`{"road": [128, 64, 128]}`, or a list of colours), or one
            `"road=128,64,128"` a class. The name `__ignore__` is for ignored pixels.

    Raises:
        DataError: If the file cannot be used.
        ValueError: If a colour is malformed, or there is a duplicate name or colour.
    """
    if len(values) == 1 and "=" not in values[0]:
        palette = _read_file(Path(values[0]))
    else:
        names = [value.rpartition("=")[0] for value in values]
        refuse_duplicates("--palette", names)
        palette = {name: _parse_colour(value) for name, value in zip(names, values, strict=True)}
    refuse_duplicates("--palette", [str(colour) for colour in palette.values()])
    if not set(palette) - {IGNORED_NAME}:
        raise ValueError("--palette: names no class")
    return palette


def _read_file(path: Path) -> Palette:
    expected = 'expected names and colours, as in {"road": [128, 64, 128]}'
    found: Palette | list[Colour] = read_json(path, Palette | list[Colour], expected)
    if isinstance(found, list):
        return {f"class {i}": colour for i, colour in enumerate(found)}
    return found


def _parse_colour(value: str) -> Colour:
    name, _, text = value.rpartition("=")
    try:
        return msgspec.convert([int(word) for word in text.split(",")], Colour)
    except ValueError:
        name = name or "road"
        raise ValueError(
            f"--palette: expected a name and a colour, as in {name}=128,64,128, not {value!r}"
        ) from None


def legend_of(palette: Mapping[str, Colour]) -> Legend:
    """Return the classes of a palette."""
    classes = {name: colour for name, colour in palette.items() if name != IGNORED_NAME}
    return Legend(tuple(classes), tuple(classes.values()))


def find_masks(source: Path, suffix: str = "") -> dict[str, Path]:
    """Find the masks of a folder or list, by stem below it.

    Args:
        source: A folder, searched with its sub-folders, or a list.
        suffix: The end of the stems, which is cut off; files of other stems are left out.

    Raises:
        DataError: If there is no mask, or two share a stem.
    """
    every = (*MASK_EXTENSIONS, *MAYBE_IMAGES)
    # Of two kinds with one stem the mask wins.
    kinds = [kind for kind in (MAYBE_IMAGES, MASK_EXTENSIONS) if list_images(source, kind)]
    found: dict[str, Path] = {}
    for kind in kinds or (every,):
        found |= by_stem(source, kind, suffix=suffix)
    if not found:
        names = [path.name for path in list_images(source, every)]
        raise DataError(
            f"{source}: no mask has a stem that ends with '{suffix}'; there are: {few(names)}"
        )
    return dict(sorted(found.items()))


def plan_colours(
    masks: Mapping[str, Path], palette: Mapping[str, Colour], output: Path
) -> list[MaskJob]:
    """Plan a mask of ids for each mask of colours."""
    named, root = tuple(palette.items()), Root(output, "--output")
    return [
        # `mask_path` replaces the extension, and a stem may contain a dot.
        MaskJob(str(path), mask_path(root, f"{name}.png"), functools.partial(ids_of, path, named))
        for name, path in masks.items()
    ]


def count_colours(path: Path) -> dict[Colour, int]:
    """Count the pixels of each colour of a mask, the most frequent first.

    Raises:
        DataError: If it cannot be read.
    """
    return _count(read_colours(path))


def colour_table(found: Iterable[Mapping[Colour, int]]) -> tuple[list[list[str]], int]:
    """Return the rows of a table of colours, the most frequent first.

    Returns:
        Rows of colour, pixels, fraction of all pixels and files; and the number of further colours.
    """
    pixels: Counter[Colour] = Counter()
    files: Counter[Colour] = Counter()
    for counts in found:
        pixels.update(counts)
        files.update(counts.keys())
    rows = [
        [
            ",".join(map(str, colour)),
            str(count),
            f"{100 * count / pixels.total():.3f} %",
            str(files[colour]),
        ]
        for colour, count in sorted(pixels.items(), key=lambda item: (-item[1], item[0]))[:ROWS]
    ]
    return rows, len(pixels) - len(rows)


def _count(colours: np.ndarray) -> dict[Colour, int]:
    values, counts = count_values(colours)
    order = np.argsort(-counts, kind="stable")
    pairs = zip(values[order].tolist(), counts[order].tolist(), strict=True)
    return {(red, green, blue): count for (red, green, blue), count in pairs}


def ids_of(path: Path, palette: tuple[tuple[str, Colour], ...]) -> np.ndarray:
    """Return the ids (H, W) of a mask of colours; the palette is in the order of the ids.

    Raises:
        DataError: If it cannot be read, or has a colour that the palette lacks.
    """
    colours = read_colours(path)
    try:
        return _label_map(palette)(colours, str(path))
    except DataError:
        raise DataError(f"{path}: {explain_unknown(_count(colours), dict(palette))}") from None


@functools.lru_cache(maxsize=1)
def _label_map(palette: tuple[tuple[str, Colour], ...]) -> LabelMap:
    legend = legend_of(dict(palette))
    colours = {
        colour: -1 if name == IGNORED_NAME else legend.names.index(name) for name, colour in palette
    }
    return LabelMap(len(legend.names), legend.ignore_index, colours=colours)


def explain_unknown(counts: Mapping[Colour, int], palette: Mapping[str, Colour]) -> str:
    """Describe the problem of a mask with colours outside the palette."""
    known = set(palette.values())
    unknown = {colour: count for colour, count in counts.items() if colour not in known}
    shown = ", ".join(
        f"{colour} on {count} pixels (nearest: {_nearest(colour, palette)})"
        for colour, count in list(unknown.items())[:3]
    )
    percent = 100 * sum(unknown.values()) / sum(counts.values())
    text = f"{len(unknown)} colours that --palette lacks, on {percent:.2g} % of the pixels: {shown}"
    if len(unknown) == 1:
        text = f"a colour that --palette lacks: {shown}"
    if len(unknown) < MIN_SMOOTHED:
        return f"{text}; add it to --palette ({IGNORED_NAME}=r,g,b ignores it)"
    return (
        f"{text}, ...; so many come from smoothed edges: draw or export without anti-aliasing, "
        "resize with nearest neighbour, and avoid JPEG"
    )


def _nearest(colour: Colour, palette: Mapping[str, Colour]) -> str:
    def distance(name: str) -> int:
        return sum((a - b) ** 2 for a, b in zip(colour, palette[name], strict=True))

    name = min(palette, key=distance)
    return f"{name} {palette[name]}"
