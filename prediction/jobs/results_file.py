"""The file of `--manifest`: one row an image, as CSV or Parquet."""

import codecs
import csv
import importlib.util
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from utils.files.atomic_write import new_file

EXTENSIONS = (".csv", ".parquet")
# What a text has that is stored, with its quotes, as a JSON string: control characters or bytes
# that are no UTF-8, a quote at its beginning, or what a spreadsheet would take for a formula,
# wherever it ends the cells.
_SPECIAL = re.compile(
    r"^\s*[\"'=+@-]|[;|,]\s*[\"'=+@-]|[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
)
_FORMULA = re.compile(r"(?<![\w/.])[=+@-]")


class Row(NamedTuple):
    """What has become of an image. The fields are the columns of the file."""

    path: str  # the image's name: its path below the folder or list that named it
    image_sha256: str  # digest of its file; "" if it could not be read
    model_sha256: str  # digest of the model's file
    settings_sha256: str  # digest of the settings that change the result
    products: str  # JSON: name -> [path below the output folder, digest]
    seconds: float  # from reading to writing
    error: str  # why there is no result; "" if there is

    def files(self) -> dict[str, tuple[str, str]]:
        """Return path and digest of each product, by its name.

        Where there is an error, they are what an earlier run or the failed one may have left, by
        any name; the digest is "" where it is not known.
        """
        return {name: (str(p), str(d)) for name, (p, d) in json.loads(self.products).items()}


def checked_row(values: Sequence[Any]) -> Row | None:
    """Return the row of values that were read, or None if they are none."""
    try:
        path, image, model, settings, products, seconds, error = values
        if None in values:
            return None
        # Nearly all rows have the same two digests.
        digests = str(image), sys.intern(str(model)), sys.intern(str(settings))
        row = Row(str(path), *digests, str(products), float(seconds), str(error))
        row.files()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return row


def products_text(products: Mapping[str, Sequence[str]]) -> str:
    """Return `Row.products`, in which nothing looks like a formula."""
    return _without_formulas(json.dumps(products))


def _without_formulas(text: str) -> str:
    """Escape in JSON's own way what begins a formula; only strings have such characters."""
    return _FORMULA.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def to_cell(text: str) -> str:
    """Return a text as a cell that is one line of UTF-8 and no formula."""
    return _without_formulas(json.dumps(text)) if _SPECIAL.search(text) else text


def from_cell(cell: Any) -> Any:
    """Return the text of a cell, None for one that `to_cell()` does not make; numbers as such."""
    if not (isinstance(cell, str) and cell.startswith('"')):
        return cell
    try:
        return str(json.loads(cell))
    except ValueError:
        return None


def check_results_file(path: Path) -> None:
    """Refuse a file that cannot be written, or that another program has written.

    Raises:
        ValueError: If so.
    """
    if path.suffix.lower() not in EXTENSIONS:
        raise ValueError(f"--manifest: {path} is neither .csv nor .parquet; choose one of them")
    if path.suffix.lower() == ".parquet":
        _import_parquet()
    if os.path.lexists(path) and not (path.is_file() and _is_ours(path)):
        raise ValueError(
            f"--manifest: {path} exists and is no manifest of this program, so it is not replaced; "
            "choose another file"
        )


def _is_ours(path: Path) -> bool:
    """Return whether a file has the columns of a manifest."""
    try:
        if path.suffix.lower() == ".parquet":
            return tuple(_import_parquet().read_schema(path).names) == Row._fields
        with open(path, "rb") as file:
            start = file.read(200).removeprefix(codecs.BOM_UTF8)  # spreadsheets write one
        return start.splitlines()[:1] == [",".join(Row._fields).encode()]
    except (OSError, ValueError):  # pyarrow's errors are such
        return False


def _import_parquet() -> Any:
    if importlib.util.find_spec("pyarrow") is None:
        raise ValueError(
            "--manifest: a .parquet file takes another package: pip install pyarrow; a .csv file "
            "takes none"
        )
    import pyarrow.parquet

    return pyarrow.parquet


def read_results(path: Path) -> Iterator[Row]:
    """Yield the rows of a manifest.

    Raises:
        ValueError: If it cannot be read, or is no manifest.
    """
    if not (path.is_file() and _is_ours(path)):
        raise ValueError(f"{path} is no manifest, or cannot be read")
    rows = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    for number, cells in enumerate(rows, 1):
        row = checked_row([from_cell(cell) for cell in cells])
        if row is None:
            raise ValueError(
                f"{path}: row {number} is not as this program has written it; restore the file, or "
                "choose another --manifest"
            )
        yield row


def _read_csv(path: Path) -> Iterator[Sequence[Any]]:
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        yield from rows


def _read_parquet(path: Path) -> Iterator[Sequence[Any]]:
    with _import_parquet().ParquetFile(path) as file:
        for batch in file.iter_batches():
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def write_results(path: Path, rows: Iterable[Row]) -> None:
    """Write or replace a manifest; it is on the disk when this returns.

    Raises:
        OSError: If it cannot be written; what was there is as it was.
    """
    is_parquet = path.suffix.lower() == ".parquet"
    with new_file(path, overwrite=True) as file:
        (_write_parquet if is_parquet else _write_csv)(file, map(_cells_of, rows))
        file.flush()
        os.fsync(file.fileno())


def _cells_of(row: Row) -> list[Any]:
    *texts, products, seconds, error = row
    return [*map(to_cell, texts), products, round(seconds, 3), to_cell(error)]


def _write_csv(file: BinaryIO, rows: Iterable[Sequence[Any]]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(rows)
    text.detach()  # else it would close the file


def _write_parquet(file: BinaryIO, rows: Iterable[Sequence[Any]]) -> None:
    parquet = _import_parquet()
    import pyarrow

    types = [pyarrow.float64() if name == "seconds" else pyarrow.string() for name in Row._fields]
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    arrays = [pyarrow.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    parquet.write_table(pyarrow.Table.from_arrays(arrays, Row._fields), file)
