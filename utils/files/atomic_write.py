"""Write files completely or not at all, and replace nothing unasked."""

import contextlib
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name once it is complete.

    It is written under a random name that must not exist, and then renamed, so that a planted link
    of either name is never followed.

    Raises:
        FileExistsError: If the path exists and `overwrite` is off.
        OSError: If it cannot be written; nothing is left behind.
    """
    path = Path(path)
    if not overwrite:
        _refuse(path)
    # Short, because the final name may have the maximum length of the file system.
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.tmp")
    with open(temporary, "xb") as file:
        try:
            yield file
            file.close()
            if overwrite:
                os.replace(temporary, path)
            else:
                _move(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str, *, overwrite: bool = False) -> None:
    """Write a text file as UTF-8; see `new_file`.

    Raises:
        FileExistsError: If the path exists and `overwrite` is off.
        OSError: If it cannot be written; nothing is left behind.
    """
    with new_file(path, overwrite=overwrite) as file:
        file.write(text.encode(errors="surrogateescape"))


def keep(path: Path, data: bytes, otherwise: str) -> None:
    """Write a file of a cache and its folder; if it cannot be written, log what happens then."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, overwrite=True) as file:
            file.write(data)
    except OSError as error:
        logger.info("%s cannot be written (%s); %s", path, error.strerror, otherwise)


def _move(source: Path, target: Path) -> None:
    """Rename to a path that must not exist; `os.replace` would overwrite it."""
    try:
        os.link(source, target)
    except FileExistsError:
        _refuse(target)
        raise
    except OSError:  # a file system without links
        _refuse(target)
        os.replace(source, target)


def _refuse(path: Path) -> None:
    if os.path.lexists(path):
        raise FileExistsError(f"{path} already exists")
