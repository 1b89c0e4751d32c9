"""Images from standard input while they are named, and the masks' paths to standard output."""

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from prediction.jobs.addresses import check_address, name_of_address
from prediction.jobs.image_file import ImageFile, is_address, posix
from utils.cli.launcher import refuse_several


def images_of_lines(lines: Iterable[bytes], *, allow_download: bool = False) -> Iterator[ImageFile]:
    """Yield an image for each line as it arrives, such as those of `sys.stdin.buffer`.

    An image is named by the path as it is written, without the root and without `..`, since no
    folder is known that contains all of them; an address, by its host and path. Blank lines are
    skipped; a file that does not exist is handed on, to fail alone.

    Raises:
        ValueError: If several processes share the work, or a line is an address and that is not
            allowed, or lines are separated by NULs.
    """
    refuse_several()
    for line in lines:
        if b"\0" in line:
            raise ValueError("--images: -: expected a path a line, got NULs (find without -print0)")
        text = os.fsdecode(line).strip("\r\n")
        if is_address(text):
            check_address(text, allow_download=allow_download)
            yield ImageFile(text, name_of_address(text))
        elif text.strip():
            yield ImageFile(str(Path(text)), _name(text))


def _name(path: str) -> str:
    path = os.path.splitdrive(os.path.normpath(path))[1]
    parts = posix(path).split("/")
    return "/".join(part for part in parts if part not in ("", "..")) or "image"


class PathOutput:
    """Standard output for the paths of finished files alone, while the context lasts.

    What else is printed meanwhile goes to standard error, so that another program can read the
    paths.
    """

    def __init__(self) -> None:
        self._out = sys.stdout
        self._redirection = contextlib.redirect_stdout(sys.stderr)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Print the path of a finished file at once, with the bytes of its name.

        Raises:
            BrokenPipeError: If nobody reads any more.
        """
        line = os.fsencode(path) + b"\n"
        if isinstance(self._out, io.TextIOWrapper):
            self._out.buffer.write(line)
        else:  # without bytes below, as in a notebook
            self._out.write(line.decode(errors="replace"))
        self._out.flush()

    def __enter__(self) -> "PathOutput":
        self._redirection.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._redirection.__exit__(kind, error, trace)
