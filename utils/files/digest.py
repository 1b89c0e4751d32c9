"""SHA-256 of files and settings; `sha256sum` prints the same of a file."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from utils.files.data_file import StrPath, open_file

CHUNK = 1 << 20


def digest_file(path: StrPath) -> str:
    """Return the digest of a file's bytes as 64 hexadecimal digits, read a piece at a time.

    Raises:
        DataError: If it is missing, empty, not a regular file or cannot be read.
    """
    digest = hashlib.sha256()
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with open_file(path) as file:
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            digest.update(view[:count])
    return digest.hexdigest()


def digest_files(paths: Sequence[StrPath]) -> str:
    """Return the digest of a file, or of the lines of several files' digests in their order.

    Raises:
        DataError: If one of them cannot be read; see `digest_file()`.
    """
    digests = [digest_file(path) for path in paths]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(f"{one}\n" for one in digests).encode()).hexdigest()


def digest_settings(settings: Mapping[str, Any]) -> str:
    """Return the digest of plain data as JSON; the order of its keys does not matter."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
