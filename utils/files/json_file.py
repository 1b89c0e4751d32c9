"""JSON files that other programs write, read as a type."""

import codecs
from pathlib import Path
from typing import Any

import msgspec

from utils.files.data_file import DataError, read_bytes


def read_json(path: str | Path, kind: Any, expected: str, *, strict: bool = True) -> Any:
    """Read a JSON file, a byte order mark or not; `strict` refuses `80.0` for a whole number.

    Raises:
        DataError: If the file cannot be read, or is of another kind.
    """
    data = read_bytes(path).removeprefix(codecs.BOM_UTF8)
    try:
        return msgspec.json.decode(data, type=kind, strict=strict)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: {expected} ({error})") from None
