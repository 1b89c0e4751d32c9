"""The metrics of every epoch, one row each, for spreadsheets and data frames."""

import csv
import errno
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from utils.cli.sanitize import one_line

# Where a program takes another character than the comma for the end of a cell, this begins one
# with a formula.
_FORMULA = re.compile(r"(?<=[;|,])(?=\s*[=+@-])")


class MetricsCsv:
    """A CSV file that rows are appended to.

    The first row fixes the columns. A value is written with all its digits, also NaN; None is an
    empty cell.

    Args:
        path: The file; what it contains is kept. It is made with the first row.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns: list[str] | None = None
        self._file: BinaryIO | None = None

    def write(self, values: Mapping[str, float | None]) -> None:
        """Append a row; values without a column in the file are dropped.

        Raises:
            OSError: If the file cannot be read or written.
            ValueError: If the file is no CSV file.
        """
        named = {column_name(name): value for name, value in values.items()}
        if self._file is None:
            self._columns = _take_over(self._path)
            self._file = self._path.open("ab", buffering=0)
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        if self._columns is None:
            self._columns = list(named)
            rows.writerow(self._columns)
        row = [named.get(name) for name in self._columns]
        # The repr of NumPy's numbers has their type in it.
        rows.writerow(float(value) if isinstance(value, float) else value for value in row)
        # In one call, so that a kill leaves whole rows.
        content = text.getvalue().encode()
        size = self._path.stat().st_size
        if self._file.write(content) != len(content):
            os.truncate(self._path, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def flush(self) -> None:
        """Do nothing: a row is in the file as soon as it is written."""

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def count_lines(path: Path) -> int:
    """Return the number of complete lines of a file; 0 if it does not exist."""
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def keep_lines(path: Path, count: int) -> None:
    """Truncate a file after its first lines.

    Raises:
        OSError: If it cannot be written.
    """
    if path.is_file():
        content = path.read_bytes()
        lines = content.split(b"\n")[:count]
        os.truncate(path, min(len(content), sum(len(line) + 1 for line in lines)))


def column_name(name: str) -> str:
    """Return a name that spreadsheets show as text, whatever a class is called."""
    text = _FORMULA.sub("'", one_line(name))
    # Nor may a name that begins with an apostrophe become that of another one.
    return f"'{text}" if text.lstrip(" '").startswith(("=", "+", "-", "@")) else text


def _take_over(path: Path) -> list[str] | None:
    """Return the columns of a file or None; remove an incomplete row at its end."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    header: Sequence[str] = next(csv.reader(content[:whole].decode().splitlines()[:1]), ())
    return list(header) or None
