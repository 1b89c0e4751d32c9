"""Files of a dataset: their bytes, their limits, and the error that names the file."""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

StrPath = str | os.PathLike[str]

# Pillow's own limit, applied to every format before decoding: a file of a few bytes can claim any
# size.
MAX_PIXELS = 178_956_970
MAX_BYTES = 1 << 30  # size of a file that is read at once; MAX_PIXELS of RGB take half of it


class DataError(ValueError):
    """A file of a dataset that cannot be used; the message names it and says what to do."""


def damaged(path: StrPath, what: str) -> DataError:
    """Return the error of a file that only another copy can replace."""
    return DataError(f"{path}: {what}; copy or export it again")


@contextlib.contextmanager
def open_file(path: StrPath) -> Iterator[BinaryIO]:
    """Open a regular file for reading; an `OSError` while it is open becomes a `DataError`.

    Raises:
        DataError: If it is missing, empty, not a regular file or cannot be read.
    """
    if "\0" in os.fspath(path):
        raise DataError(f"{os.fspath(path)!r}: is not a file name: it contains a NUL")
    try:
        # Opening a pipe without a writer would block for ever.
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            kind = "a folder" if os.path.isdir(path) else "not a regular file"
            raise DataError(f"{path}: is {kind}")
        if facts.st_size == 0:
            raise DataError(f"{path}: is empty (0 bytes)")
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        where = " (a link that leads nowhere)" if os.path.islink(path) else ""
        raise DataError(f"{path}: no such file{where}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def read_bytes(path: StrPath) -> bytes:
    """Read a regular file.

    Raises:
        DataError: If it is missing, empty, not a regular file, larger than `MAX_BYTES`, or cannot
            be read.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise DataError(
                f"{path}: has {size / 1e9:.1f} GB, more than the {MAX_BYTES / 1e9:.1f} GB that an "
                "image may have; cut it into tiles"
            )
        return file.read()


def check_pixels(path: StrPath, width: int, height: int) -> None:
    """Refuse a size that no training image has, before memory is allocated.

    Raises:
        DataError: If there are more than `MAX_PIXELS` pixels, or none.
    """
    if width < 1 or height < 1:
        raise DataError(f"{path}: claims a size of {width}x{height}")
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{path}: claims {width}x{height}, more than {MAX_PIXELS / 1e6:.0f} million pixels; "
            "cut it into tiles"
        )


def check_stored(path: StrPath, claimed: float, stored: int, most: int) -> None:
    """Refuse a header that claims more than its bytes can hold, before memory is allocated.

    Args:
        path: For messages.
        claimed: Bytes or pixels of the decoded image.
        stored: Bytes of the file.
        most: The maximum that one byte can hold in the file's format.

    Raises:
        DataError: If the image is larger than that.
    """
    if claimed > stored * most:
        raise damaged(
            path, f"is damaged: its {stored} bytes cannot hold the size that its header claims"
        )
