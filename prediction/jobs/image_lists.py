"""Images from a list: a text file with one path a line, or a column of a table."""

import csv
import importlib.util
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from prediction.jobs.addresses import check_address, name_of_address
from prediction.jobs.image_file import ImageFile, is_address, posix
from prediction.jobs.source_kinds import TABLE_EXTENSIONS
from utils.cli.extensions import IMAGE_EXTENSIONS
from utils.cli.sanitize import first_line

COLUMNS = ("image", "path", "file", "filename")  # what a table calls the images, in any case
LOOKED_AT = 10  # files of a list, of which one has to exist


def read_image_list(
    path: Path, column: str | None = None, *, allow_download: bool = False
) -> list[ImageFile]:
    """Return the images that a list names, in its order, each once.

    Paths are relative to the list's folder; see `read_entries()`.

    An image is named by its path below the deepest folder that contains all files of the list, an
    address by its host and path. So names, and with them the shards, depend on the list's files
    alone, not on their order or how the paths are written.

    Args:
        path: The list.
        column: The column of a table that has the images; None for the one that is called image,
            path, file or filename, or the only one.
        allow_download: Whether it may name http(s) addresses.

    Raises:
        ValueError: If the list cannot be read, or names no image.
    """
    return _named(read_entries(path, column), path, allow_download)


def read_entries(path: Path, column: str | None = None) -> list[str]:
    """Return what is written in a list, in its order.

    A `.csv`, `.tsv` or `.parquet` file is a table with a header. Of any other file each line is a
    path; blank lines and lines that begin with `#` are skipped. Bytes that are not UTF-8 stay as
    they are, as in the names of files.

    Args:
        path: The list.
        column: As in `read_image_list()`.

    Raises:
        ValueError: If the list cannot be read, or names no image.
    """
    try:
        entries = (
            _parquet(path, column) if path.suffix.lower() == ".parquet" else _text(path, column)
        )
    except OSError as error:
        raise ValueError(f"--images: {path} cannot be read ({error.strerror or error})") from None
    if not entries:
        raise ValueError(f"--images: {path} names no image")
    return entries


def _text(path: Path, column: str | None) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            is_table = path.suffix.lower() in TABLE_EXTENSIONS
            entries = list(_cells(file, path, column) if is_table else _lines(file))
    except csv.Error as error:
        raise ValueError(f"--images: {path} is no table: {error}") from None
    if any("\0" in entry for entry in entries):
        raise ValueError(f"--images: {path} contains NUL characters; save it as UTF-8 text")
    return entries


def _parquet(path: Path, column: str | None) -> list[str]:
    if importlib.util.find_spec("pyarrow") is None:
        raise ValueError(f"--images: {path} takes another package: pip install pyarrow")
    import pyarrow
    from pyarrow import parquet

    try:
        names = parquet.read_schema(path).names
        index = _column(names, path, column)
        cells = parquet.read_table(path, columns=[names[index]]).column(0).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"--images: {path} is no table: {first_line(error)}") from None
    for number, cell in enumerate(cells, 1):
        if not (isinstance(cell, str) and cell and "\0" not in cell):
            raise ValueError(
                f"--images: row {number} of {path} has no {names[index]}, but {cell!r}"
            )
    return cells


def _lines(file: TextIO) -> Iterator[str]:
    for line in file:
        text = line.strip()
        if text and not text.startswith("#"):
            yield text


def _cells(file: TextIO, path: Path, column: str | None) -> Iterator[str]:
    header = file.readline()
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _comma_of(header)
    rows = csv.reader(itertools.chain([header], file), delimiter=delimiter, strict=True)
    names = [name.strip() for name in next(rows, [])]
    index = _column(names, path, column)
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        cell = row[index].strip() if index < len(row) else ""
        if not cell:
            raise ValueError(
                f"--images: line {rows.line_num} of {path} has no {names[index]}; complete or "
                "remove it"
            )
        yield cell


def _comma_of(header: str) -> str:
    """Return the delimiter of a table: a semicolon where spreadsheets have a decimal comma."""
    return ";" if ";" in header and "," not in header else ","


def _column(names: Sequence[str], path: Path, column: str | None) -> int:
    """Return the index of the images' column."""
    shown = ", ".join(names)
    if column is not None:
        if names.count(column) != 1:
            raise ValueError(f"--column: {path} has not one column {column}, but {shown}")
        return names.index(column)
    found = [index for index, name in enumerate(names) if name.lower() in COLUMNS]
    if len(found) == 1:
        return found[0]
    if len(names) == 1:
        if os.path.splitext(names[0])[1].lower() in IMAGE_EXTENSIONS:
            raise ValueError(
                f"--images: {path} has no header: its first line is {names[0]}; write image above "
                "it, or call the file .txt"
            )
        return 0
    raise ValueError(
        f"--images: it is not clear which column of {path} has the images; choose with --column "
        f"from {shown}"
    )


def _named(entries: Sequence[str], path: Path, allow_download: bool) -> list[ImageFile]:
    files: dict[str, None] = {}
    addresses: dict[str, str] = {}
    for entry in entries:
        if is_address(entry):
            check_address(entry, allow_download=allow_download)
            addresses[entry] = name_of_address(entry)
        else:
            files[os.path.normpath(os.path.join(path.parent, entry))] = None
    _check_some(list(itertools.islice(files, LOOKED_AT)), path)
    found = [ImageFile(*item) for item in addresses.items()]
    if files:
        whole = [os.path.abspath(file) for file in files]
        common = os.path.commonpath({os.path.dirname(file) for file in whole})
        start = len(os.path.join(common, ""))
        names = (posix(file[start:]) for file in whole)
        found += [ImageFile(*item) for item in zip(files, names, strict=True)]
    return found


def _check_some(files: Sequence[str], path: Path) -> None:
    """Refuse a list whose paths are meant from another folder; a single file may be missing."""
    if files and not any(map(os.path.isfile, files)):
        raise ValueError(
            f"--images: {path} names {files[0]}, which does not exist, nor do the next; paths are "
            f"relative to the list's folder, {path.parent}"
        )
