"""Write files completely or not at all, and replace nothing unasked."""

import contextlib
import logging
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

logger = logging.getLogger(__name__)


class PendingFile:
    """A file that gets its name once it is complete.

    It is written under a random name that must not exist, and then renamed, so that a planted link
    of either name is never followed. Use `new_file` where the file is written in one place.

    Args:
        path: The name that it will have.
        overwrite: Whether to replace a file of this name.

    Raises:
        FileExistsError: If the path exists and `overwrite` is off.
        OSError: If it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        if not overwrite:
            refuse_existing(self.path)
        self._temporary = temporary_path(self.path)
        self.file: BinaryIO = open(self._temporary, "xb")  # noqa: SIM115  closed by its methods

    def finish(self) -> None:
        """Close the file and give it its name.

        Raises:
            FileExistsError: If the path has come to exist and `overwrite` is off.
            OSError: If it cannot be written; nothing is left behind.
        """
        try:
            self.file.close()
            move(self._temporary, self.path, overwrite=self._overwrite)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what has been written, if the file has not got its name; may be called twice."""
        # What is buffered is not worth an error: the disk may be full.
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name at the end of the context; see `PendingFile`.

    Raises:
        FileExistsError: If the path exists and `overwrite` is off.
        OSError: If it cannot be written; nothing is left behind.
    """
    pending = PendingFile(path, overwrite=overwrite)
    try:
        yield pending.file
        pending.finish()
    finally:
        pending.discard()


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


def open_spool(path: Path, in_memory: int) -> IO[bytes]:
    """Open a file without a name for what waits to be written to a path; closing it removes it.

    Args:
        path: The final path; the spool is on the same disk.
        in_memory: Up to so many bytes are kept in memory instead.
    """
    return tempfile.SpooledTemporaryFile(in_memory, dir=str(path.parent))


def temporary_path(path: Path) -> Path:
    """Return a random name beside a path, for what becomes that path when it is complete."""
    # Short, because the final name may have the maximum length of the file system.
    return path.with_name(f".{uuid.uuid4().hex[:12]}.tmp")


def move(source: Path, target: Path, *, overwrite: bool = False) -> None:
    """Give a complete file its name; the old name may remain.

    Raises:
        FileExistsError: If the target exists and `overwrite` is off.
        OSError: If it cannot be renamed.
    """
    if overwrite:
        os.replace(source, target)
        return
    try:
        os.link(source, target)  # `os.replace` would overwrite a file
    except FileExistsError:
        refuse_existing(target)
        raise
    except OSError:  # a file system without links
        refuse_existing(target)
        os.replace(source, target)


def refuse_existing(path: Path) -> None:
    """Refuse a path at which there is something, be it a link that leads nowhere.

    Raises:
        FileExistsError: If there is.
    """
    if os.path.lexists(path):
        raise FileExistsError(f"{path} already exists")
