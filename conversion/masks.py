"""Masks to write: their classes, and checks before anything is written."""

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from conversion.parallel import run_each
from utils.config.errors import suggest
from utils.drawing.palette import save_mask, voc_palette
from utils.files.data_file import DataError
from utils.files.paths import Root
from utils.samples.pairing import few, read_lines

BACKGROUND = "background"


@dataclasses.dataclass(frozen=True)
class Legend:
    """The classes of a set of masks."""

    names: tuple[str, ...]  # a name for each class, K of them
    # (r, g, b) for each class; None: the VOC colours.
    palette: tuple[tuple[int, int, int], ...] | None = None

    @property
    def ignore_index(self) -> int:
        """The id of ignored pixels: 255, or 65535 where 255 is a class."""
        return 255 if len(self.names) <= 255 else 65535

    @property
    def colours(self) -> Sequence[tuple[int, int, int]]:
        """A colour for each class."""
        return self.palette or voc_palette(len(self.names))

    @property
    def file_colours(self) -> Sequence[tuple[int, int, int]]:
        """Enough colours that `save_mask` chooses a file that can hold the ignored id."""
        return self.colours if self.ignore_index == 255 else voc_palette(self.ignore_index + 1)

    def config_lines(self, masks: Path, images: str | None = None) -> str:
        """Return the arguments of `Folder` for these masks, as lines of a config."""
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
    """One mask to write."""

    source: str  # the input's name in messages
    output: Path  # the file to write
    draw: Callable[[], np.ndarray]  # returns the ids (H, W); pickled for another process


def to_json(value: object) -> str:
    """Return a value as JSON; letters are escaped only if the output cannot show them."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def read_names(values: Sequence[str]) -> list[str]:
    """Return class names: the values, or the lines of the one text file that they name.

    Raises:
        DataError: If the file cannot be used.
        ValueError: If there is a duplicate name.
    """
    is_file = len(values) == 1 and (values[0].endswith(".txt") or Path(values[0]).is_file())
    names = read_lines(Path(values[0])) if is_file else list(values)
    refuse_duplicates("--classes", names)
    return names


def refuse_duplicates(what: str, names: Sequence[str]) -> None:
    """Refuse a list with a duplicate name.

    Raises:
        ValueError: If there is one.
    """
    duplicates = [name for i, name in enumerate(names) if name in names[:i]]
    if duplicates:
        raise ValueError(f"{what}: duplicate {duplicates[0]!r}")


def refuse_unknown(what: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Refuse unknown names, all of them at once.

    Raises:
        ValueError: If there are any.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"{what}: {few(unknown)} {'is' if len(unknown) == 1 else 'are'} unknown"
            f"{suggest(unknown[0], known)}; known are: {few(list(known), 20)}"
        )


def mask_path(output: Root, name: str) -> Path:
    """Return the path of an image's mask: its name below `output`, with the extension `.png`.

    Args:
        output: The folder of the masks.
        name: The image, relative to its folder; a backslash is read as a slash.

    Raises:
        DataError: If the name is not a file name, or leads out of the folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(
            f"the image's name {name!r} leads out of the folder of the masks; make it relative to "
            "the folder of the images"
        )
    return output.inside(path.with_name(path.stem + ".png"))


def free_output(output: str, source: Path | None, *, below: bool = True) -> Path:
    """Return the folder to write to, unless it would mix the output with the input.

    Raises:
        ValueError: If they would be mixed, or `output` is not a folder.
    """
    path = Path(output)
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise ValueError(f"--output: {existing} is a file, not a folder")
    if source is not None:
        own, inner = source.resolve(), path.resolve()
        if own == inner or (not below and own in inner.parents):
            verb = "is" if own == inner else "lies in"
            raise ValueError(f"--output: {path} {verb} the folder of the input; choose another")
    return path


def check_outputs(jobs: Sequence[MaskJob], overwrite: bool) -> None:
    """Check the outputs before anything is written.

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
    """Refuse to replace files: nobody would see that half of them are old and half new.

    Raises:
        DataError: If one of the files exists and `overwrite` is off.
    """
    there = [] if overwrite else [str(path) for path in paths if os.path.lexists(path)]
    if there:
        raise DataError(
            f"{len(there)} of the files to write already exist: {few(there, 3)}; --overwrite "
            "replaces them, another --output keeps them"
        )


def write_masks(
    jobs: Sequence[MaskJob], legend: Legend, *, overwrite: bool, processes: int | None = None
) -> int:
    """Draw and write masks; name and skip broken inputs, and return how many were skipped.

    Raises:
        DataError: If an output cannot be written; see `check_outputs`.
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
