"""What the converters share: classes, and outputs that are checked before anything is written."""

from __future__ import annotations

import codecs
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np

from conversion.parallel import run_each
from utils.config.errors import suggest
from utils.drawing.palette import save_mask, voc_palette
from utils.files.data_file import DataError, read_bytes
from utils.files.paths import Root
from utils.samples.pairing import few, read_lines

BACKGROUND = "background"
MAX_COORDINATE = 1_000_000  # rasterisers take time and memory in proportion to a line's length


@dataclasses.dataclass(frozen=True)
class Legend:
    """The classes of a set of masks.

    Args:
        names: A name for each class, K of them.
        palette: (r, g, b) for each class; None: the VOC colours.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...] | None = None

    @property
    def ignore_index(self) -> int:
        """The id of pixels that do not count: 255, or 65535 where 255 is a class."""
        return 255 if len(self.names) <= 255 else 65535

    @property
    def colours(self) -> Sequence[tuple[int, int, int]]:
        """A colour for each class."""
        return self.palette or voc_palette(len(self.names))

    @property
    def file_colours(self) -> Sequence[tuple[int, int, int]]:
        """As many colours as make `save_mask` choose a file that can hold the ignored id."""
        return self.colours if self.ignore_index == 255 else voc_palette(self.ignore_index + 1)

    def config_lines(self, masks: Path, images: str | None = None) -> str:
        """The arguments that `Folder` takes for these masks, as lines of a config."""
        arguments: dict[str, object] = {} if images is None else {"images": images}
        arguments |= {
            "masks": str(masks),
            "classes": self.names,
            "palette": self.colours,
            "ignore_index": self.ignore_index,
        }
        return ",\n".join(f'    "{key}": {to_json(v)}' for key, v in arguments.items())


@dataclasses.dataclass(frozen=True)
class MaskJob:
    """One mask to write.

    Args:
        source: What messages call its input.
        output: The file to write.
        draw: Gives the ids (H, W); pickled on its way to another process.
    """

    source: str
    output: Path
    draw: Callable[[], np.ndarray]


def to_json(value: object) -> str:
    """A value as a config has it; letters are escaped only if the output cannot show them."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def read_json(path: str | Path, kind: Any, expected: str, *, strict: bool = True) -> Any:
    """Read a JSON file; a byte order mark does not count.

    Args:
        path: The file.
        kind: The type to read it as.
        expected: What to say of a file that is of another kind.
        strict: Whether `80.0` and `"80"` are no whole numbers.

    Raises:
        DataError: If it cannot be read, or is of another kind.
    """
    data = read_bytes(path).removeprefix(codecs.BOM_UTF8)
    try:
        return msgspec.json.decode(data, type=kind, strict=strict)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: {expected} ({error})") from None


def read_names(values: Sequence[str]) -> list[str]:
    """Class names: as they are, or the lines of the one text file that is named.

    Raises:
        DataError: If the file cannot be used.
        ValueError: If a name stands twice.
    """
    is_file = len(values) == 1 and (values[0].endswith(".txt") or Path(values[0]).is_file())
    names = read_lines(Path(values[0])) if is_file else list(values)
    refuse_twice("--classes", names)
    return names


def refuse_twice(what: str, names: Sequence[str]) -> None:
    """Refuse a list with a name that stands twice.

    Raises:
        ValueError: If one does.
    """
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(f"{what}: {twice[0]!r} stands twice")


def refuse_unknown(what: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Refuse names that are not known, all of them at once.

    Raises:
        ValueError: If there are any.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"{what}: {few(unknown)} {'is' if len(unknown) == 1 else 'are'} unknown"
            f"{suggest(unknown[0], known)}; there is: {few(list(known), 20)}"
        )


def mask_path(output: Root, name: str) -> Path:
    """Where the mask of a picture goes: its name below `output`, with `.png` for the extension.

    Args:
        output: The folder of the masks.
        name: The picture, relative to its folder; a backslash counts as a slash.

    Raises:
        DataError: If the name leads out of the folder, or is none.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(
            f"the picture's name {name!r} leads out of the folder of the masks; make it relative "
            "to the folder of the pictures"
        )
    return output.inside(path.with_name(path.stem + ".png"))


def free_output(output: str, source: Path | None, *, below: bool = True) -> Path:
    """The folder to write to, if it is not where the input is.

    Args:
        output: The folder.
        source: The folder of the input.
        below: Whether it may lie below `source`.

    Raises:
        ValueError: If what is written would be mixed with the input, or `output` is no folder.
    """
    path = Path(output)
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise ValueError(f"--output: {existing} is a file, not a folder")
    if source is not None:
        own, inner = source.resolve(), path.resolve()
        if own == inner or (not below and own in inner.parents):
            place = "is" if own == inner else "lies in"
            raise ValueError(f"--output: {path} {place} the folder of the input; choose another")
    return path


def check_outputs(jobs: Sequence[MaskJob], overwrite: bool) -> None:
    """Find clashes before anything is written.

    Raises:
        DataError: If two inputs would become one mask, or masks exist and `overwrite` is off.
    """
    owners: dict[Path, str] = {}
    for job in jobs:
        if job.output in owners:
            raise DataError(
                f"{owners[job.output]} and {job.source} would both become {job.output}; rename "
                "one, or convert them into two folders"
            )
        owners[job.output] = job.source
    refuse_existing(owners, overwrite)


def refuse_existing(paths: Iterable[Path], overwrite: bool) -> None:
    """Keep what exists: half old and half new files would not be seen to differ.

    Raises:
        DataError: If one of the files exists and `overwrite` is off.
    """
    there = [] if overwrite else [str(path) for path in paths if os.path.lexists(path)]
    if there:
        raise DataError(
            f"{len(there)} of the files to write exist already: {few(there, 3)}; --overwrite "
            "replaces them, another --output keeps them"
        )


def write_masks(
    jobs: Sequence[MaskJob], legend: Legend, *, overwrite: bool, processes: int | None = None
) -> int:
    """Draw and write masks; an input that is broken is named and skipped.

    Args:
        jobs: What to write.
        legend: The classes and their colours.
        overwrite: Replace masks that exist.
        processes: How many; None: all cores, where that pays.

    Returns:
        How many inputs were skipped.

    Raises:
        DataError: If nothing may be written; see `check_outputs`.
    """
    check_outputs(jobs, overwrite)
    write = functools.partial(_write, colours=legend.file_colours, overwrite=overwrite)
    done = run_each(write, {job.source: job for job in jobs}, processes=processes)
    return len(jobs) - len(done)


def _write(job: MaskJob, colours: Sequence[Sequence[int]], overwrite: bool) -> Path:
    ids = job.draw()
    job.output.parent.mkdir(parents=True, exist_ok=True)
    save_mask(job.output, ids, colours, overwrite=overwrite)
    return job.output
