"""Reports that programs write: found out before the work that nothing foreign is replaced."""

import contextlib
import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from utils.files.atomic_write import write_text


class FullDiskError(ValueError):
    """A disk without room: no fault of the file that did not fit any more."""


def refuse_full_disk(error: OSError) -> None:
    """Explain an error that is no fault of an image: the disk is full.

    Raises:
        FullDiskError: If it is.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise FullDiskError(
            f"the disk of the output folder is full ({error.strerror or error}); what is written "
            "is complete. Free some space, and run the same command again: it continues"
        )


def check_page(option: str, files: Sequence[Path], mark: str) -> None:
    """Refuse a folder that cannot take a page and its images, or has foreign files of these names.

    Raises:
        ValueError: If the folder cannot be written to, or one of the files is foreign.
    """
    folder = files[0].parent
    with refusing(f"{option} {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        there = [file for file in files if os.path.lexists(file)]
        ours = not there or _contains(files[0], mark)
    if not ours:
        raise ValueError(
            f"{option}: {there[0]} exists and is not a report of this program, so it is not "
            "replaced; choose another folder"
        )


def check_json(json_file: str | None, program: str) -> None:
    """Refuse a file of `--json` that cannot be written, or is foreign.

    Raises:
        ValueError: If it cannot be written, or another program has written it.
    """
    if json_file in (None, "-"):
        return
    path = Path(json_file)
    with refusing(f"--json {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
        ours = not os.path.lexists(path) or _is_json_of(path, program)
    if not ours:
        raise ValueError(
            f"--json: {path} exists and was not written by {program}, so it is not replaced; "
            "choose another file"
        )


def _is_json_of(path: Path, program: str) -> bool:
    """Return whether a program wrote a file, or it is empty."""
    if not _is_regular(path):
        return False
    text = path.read_bytes()
    try:
        tree = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return False
    return not text or (isinstance(tree, dict) and tree.get("program") == program)


def _contains(path: Path, text: str) -> bool:
    """Return whether a file contains a text."""
    return _is_regular(path) and text in path.read_text("utf-8", errors="replace")


def _is_regular(path: Path) -> bool:
    """Return False for a pipe, which would block the reader, and a device, never to be replaced."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return path.is_file()


@contextlib.contextmanager
def refusing(option: str) -> Iterator[None]:
    """Turn an OSError of the context into a ValueError that names an option."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{option}: cannot be written ({error.strerror})") from None


def write_json(json_file: str, text: str) -> None:
    """Write the text of `--json`, to standard output for `-`.

    Raises:
        ValueError: If it cannot be written; an existing file stays as it was.
    """
    if json_file == "-":
        assert sys.__stdout__ is not None
        sys.__stdout__.write(f"{text}\n")
        return
    with refusing(f"--json {json_file}"):
        write_text(json_file, f"{text}\n", overwrite=True)  # `check_json` has seen what exists
