"""Lists of files, including those of other programs."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from utils.cli.extensions import IMAGE_EXTENSIONS
from utils.files.data_file import DataError
from utils.files.paths import Root
from utils.samples.listings import Listings
from utils.samples.pairing import read_lines, read_text_lines

Role = Literal["image", "mask"]

# Names of columns of a table; the first role that matches.
COLUMNS: dict[Role, re.Pattern[str]] = {
    "mask": re.compile(r"mask|label|lbl|annot|segm|ground.?truth|target|^gt|^seg|^y$", re.I),
    "image": re.compile(r"image|img|file|path|photo|picture|^sat|^rgb|^input|^x$", re.I),
}
DELIMITERS = {"\t": "tab", ",": "comma", ";": "semicolon"}
MAX_LINES = 200  # lines that decide how a list is read


@dataclasses.dataclass(frozen=True)
class ListFile:
    """The files that a list names."""

    images: list[Path]  # one path a line
    masks: list[Path] | None = None  # the mask of each image, if the list names them; else None
    in_order: bool = True  # whether every line of the file is a path, without duplicates


def read_list_file(source: Path, root: Path | None = None) -> ListFile:
    r"""Return the files that a list names.

    Usually a line is a path, relative to the list's folder or else to `root`. `images\a.png` is
    read as `images/a.png` if only that exists. If no line is a path, lines are read as
    `image<tab>mask`, or with commas, semicolons or spaces; a header says which columns to take,
    otherwise the columns that name existing files are taken.

    Raises:
        DataError: If the list cannot be used, or a line leaves `root`.
    """
    lines = read_lines(source)
    looked = [*lines[:MAX_LINES], *lines[MAX_LINES :: 1 + len(lines) // MAX_LINES]]
    in_order = len(lines) == len(read_text_lines(source))
    there = Listings()
    inside = Root(source.parent if root is None else root, source)
    folders = [source.parent] if root is None else list(dict.fromkeys([source.parent, root]))
    for folder in folders:
        reader = _Reader(folder, inside, there)
        if any(map(reader.exists, looked)):
            if _role_of(lines[0]) and not reader.exists(lines[0]):
                lines = lines[1:]
            _refuse_lines_of_both_kinds(looked, reader, source)
            return ListFile([reader.path(line) for line in lines], in_order=in_order)
    for folder in folders if any(re.search(r"[\t,; ]", line) for line in lines[:1]) else ():
        reader = _Reader(folder, inside, there)
        for rows in _tables(lines, reader):
            table = _read_table(rows, reader, source)
            if table is not None:
                return dataclasses.replace(table, in_order=in_order)
    reader = _Reader(source.parent, inside, there)
    return ListFile([reader.path(line) for line in lines], in_order=in_order)


def _refuse_lines_of_both_kinds(lines: Sequence[str], reader: _Reader, source: Path) -> None:
    """Refuse a list of images and masks in which some lines lack the mask."""
    alone = next(line for line in lines if reader.exists(line))
    for line in lines:
        if reader.exists(line):
            continue
        cells = [[cell.strip() for cell in line.split(d)] for d in DELIMITERS if d in line]
        if _halves(line, reader) or any(all(map(reader.exists, row[:2])) for row in cells):
            raise DataError(
                f"{source}: names one file in the line {alone!r}, and an image with its mask in "
                f"others such as {line!r}; give the former its mask, or remove it"
            )


@dataclasses.dataclass(frozen=True)
class _Reader:
    """The paths of a list's cells."""

    folder: Path  # the folder that they are relative to
    inside: Root  # the folder that they may not leave
    there: Listings  # the files that exist

    def path(self, text: str) -> Path:
        """Return the file that a text names, or its literal path if there is none.

        Raises:
            DataError: If it leads out of the root.
        """
        path = self.inside.inside(text, self.folder)
        return path if path in self.there else self._other(text, path) or path

    def exists(self, text: str) -> bool:
        """Return whether a text names a file that exists."""
        try:
            return bool(text) and self.path(text) in self.there
        except DataError:
            return False

    def _other(self, text: str, path: Path) -> Path | None:
        for name in (text, text.replace("\\", "/")) if "\\" in text else (text,):
            try:
                found = path if name is text else self.inside.inside(name, self.folder)
                if found in self.there:
                    return found
                other = self.there.other_form(found)
                if other is not None:
                    return self.inside.inside(other, Path())
            except DataError:
                continue
        return None


def _tables(lines: Sequence[str], reader: _Reader) -> Iterator[list[list[str]]]:
    """Yield the lines as rows of cells, in every way to split them."""
    for delimiter in DELIMITERS:
        if delimiter in lines[0]:
            try:
                rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
            except csv.Error:
                continue
            yield [[cell.strip() for cell in row] for row in rows]
    yield [line.split() for line in lines]
    if any(_halves(line, reader) for line in lines[:2]):  # one may be a header
        halves = [_halves(line, reader) for line in lines]
        if all(halves):
            yield [half for half in halves if half]


def _halves(line: str, reader: _Reader) -> list[str] | None:
    """Split a line into two paths with spaces, if at exactly one space both exist."""
    gaps = [match.span() for match in re.finditer(r"\s+", line)]
    found = [
        [line[:begin], line[end:]]
        for begin, end in gaps
        if reader.exists(line[:begin]) and reader.exists(line[end:])
    ]
    return found[0] if len(found) == 1 else None


def _read_table(rows: list[list[str]], reader: _Reader, source: Path) -> ListFile | None:
    """Return the files of a table; None if it names none.

    Raises:
        DataError: If the roles of the columns are not clear, or a cell is empty.
    """
    width = len(rows[0])
    if width < 2 or any(len(row) != width for row in rows):
        return None
    roles = [_role_of(cell) for cell in rows[0]]
    begins = any(map(reader.exists, rows[0]))  # no header
    body = rows if begins or not any(roles) else rows[1:]
    looked = body[:MAX_LINES]
    there = [i for i in range(width) if any(reader.exists(row[i]) for row in looked)]
    if not there:
        return None
    called = [i for i in range(width) if all(_is_called_like_a_file(row[i]) for row in looked)]
    filled = sorted({*there, *called})
    named = {} if begins else {role: roles.index(role) for role in roles if role is not None}
    titled = not begins and not named and not any(Path(rows[0][i]).suffix for i in filled)
    others = [i for i in filled if i not in named.values()]
    if (len(named) < 2 and len(others) + len(named) > 2) or (titled and len(filled) > 1):
        raise DataError(
            f"{source}: it is not clear which column has the images and which the masks; "
            f"write {_header_for(filled, width)} into its first line"
        )
    body = body[1:] if titled else body
    image, mask = named.get("image"), named.get("mask")
    if image is None and others:
        image = others.pop(0)
    if mask is None and others and len(named) < 2:
        mask = others.pop(0)
    columns = [i for i in (image, mask) if i is not None]
    for row in body:
        if not all(row[i] for i in columns):
            raise DataError(f"{source}: the line {' '.join(row)!r} lacks a file; complete it")
    paths = [[reader.path(row[i]) for row in body] for i in columns]
    return ListFile(paths[0], paths[1] if len(paths) == 2 else None)


def _is_called_like_a_file(cell: str) -> bool:
    return cell.lower().endswith((*IMAGE_EXTENSIONS, ".npy"))


def _header_for(filled: Sequence[int], width: int) -> str:
    words = ["-"] * width
    words[filled[0]], words[filled[1]] = "image", "mask"
    return ",".join(words)


def _role_of(cell: str) -> Role | None:
    """Return the role of a header's cell, if it is words and not a file name."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z _-]*", cell):
        return None
    return next((role for role, words in COLUMNS.items() if words.search(cell)), None)


def missing_files(source: Path, files: Iterable[str], shown: Callable[[list[str]], str]) -> str:
    """Return the message about files of a list that do not exist, with a suggestion."""
    absent = list(dict.fromkeys(files))
    text = (
        f"{source}: {len(absent)} of the files that it names do not exist: {shown(absent)}; paths "
        f"are relative to {source.parent}"
    )
    return f"{text}{_way_out(source, absent[0])}"


def _way_out(source: Path, file: str) -> str:
    """Return what would lead to a file that exists instead of the first missing one."""
    name = os.path.relpath(file, source.parent)
    separator = next((s for s in DELIMITERS if s in name), " " if " " in name else None)
    if separator is not None:
        word = DELIMITERS.get(separator, "space")
        return f" (lines of image and mask, separated by a {word}, are read where both exist)"
    if "|" in name:
        return " (image and mask of a line are separated by a tab, comma, semicolon or space)"
    parts = Path(name.replace("\\", "/")).parts
    for i in range(1, len(parts)):
        if Path(source.parent, *parts[i:]).is_file():
            lead = "/".join(parts[:i])
            return f" (they would be found without the leading {lead}/: remove it from the lines)"
    for other in _namesakes(Path(file)):
        return f" ({other} exists: write the name like that)"
    if len(parts) == 1 and not Path(name).suffix:
        return (
            f" (a line is a path with folder and extension: sed 's#.*#images/&.jpg#' {source.name}"
            " > images.txt makes such a list)"
        )
    return ""


def _namesakes(file: Path) -> Iterator[Path]:
    """Yield files of the same folder with nearly the same name."""
    try:
        names = sorted(os.listdir(file.parent))
    except OSError:
        return
    for name in names:
        if name.lower() == file.name.lower():
            yield file.parent / name
    for name in names:
        if not file.suffix and os.path.splitext(name)[0] == file.name:
            yield file.parent / name
