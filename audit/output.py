"""Output files of an audit: checked before the work, written after it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from audit.report import PROGRAM
from audit.sheet import PAGE, SHEET, make_sheet
from audit.sheet_html import MARK
from inspection.finding import Finding
from inspection.split import Split
from utils.config.sections import Config
from utils.files import atomic_write as new_file


def check_outputs(json_file: str | None, sheet: Path | None) -> None:
    """Check before the work that its results can be written and replace nothing foreign.

    Raises:
        ValueError: If they cannot, or would.
    """
    check_json(json_file, PROGRAM)
    if sheet is not None:
        check_page("--sheet", [sheet / PAGE, sheet / SHEET], MARK)


def check_page(option: str, files: Sequence[Path], mark: str) -> None:
    """Check that a page can be written to an option's folder and replaces nothing foreign.

    Args:
        option: For messages.
        files: The page, and the files beside it in the same folder.
        mark: A text in every page of this program.

    Raises:
        ValueError: If it cannot, or would.
    """
    folder = files[0].parent
    with refusing(f"{option} {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        there = [file for file in files if os.path.lexists(file)]
        ours = not there or _holds_text(files[0], mark)
    if not ours:
        raise ValueError(
            f"{option}: {there[0]} exists and is not a report of this program, so it is not "
            "replaced; choose another folder"
        )


def check_json(json_file: str | None, program: str) -> None:
    """Check that the file of `--json` can be written and replaces nothing foreign.

    Args:
        json_file: Its value.
        program: The program that writes it, as the file itself says.

    Raises:
        ValueError: If it cannot, or would.
    """
    if json_file in (None, "-"):
        return
    path = Path(json_file)
    with refusing(f"--json {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
        ours = not os.path.lexists(path) or _holds_json_of(path, program)
    if not ours:
        raise ValueError(
            f"--json: {path} exists and was not written by {program}, so it is not replaced; "
            "choose another file"
        )


def _holds_json_of(path: Path, program: str) -> bool:
    """Return whether a file was written by a program, or is empty.

    Raises:
        OSError: If it is a folder or cannot be read.
    """
    if not _is_file(path):
        return False
    text = path.read_bytes()
    try:
        tree = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return False
    return not text or (isinstance(tree, dict) and tree.get("program") == program)


def _holds_text(path: Path, text: str) -> bool:
    """Return whether a file contains a text.

    Raises:
        OSError: If it is a folder or cannot be read.
    """
    return _is_file(path) and text in path.read_text("utf-8", errors="replace")


def _is_file(path: Path) -> bool:
    """Return whether it is a regular file: a pipe would block, a device would be replaced."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return path.is_file()


@contextlib.contextmanager
def refusing(flag: str) -> Iterator[None]:
    """Turn an `OSError` into one message.

    Raises:
        ValueError: If a file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(f"{flag}: cannot be written ({error.strerror})") from None


def write_json(path: str, tree: object) -> None:
    """Write the report for programs; `-` is the standard output.

    Raises:
        ValueError: If it cannot be written.
    """
    text = json.dumps(tree, indent=2) + "\n"
    if path == "-":
        assert sys.__stdout__ is not None
        sys.__stdout__.write(text)
        return
    with refusing(f"--json {path}"):
        new_file.write_text(path, text, overwrite=True)  # `check_outputs` has seen what is there


def write_sheet(
    folder: Path, config: Config, splits: Sequence[Split], findings: Sequence[Finding]
) -> None:
    """Write the contact sheets.

    Raises:
        ValueError: If they cannot be written.
    """
    with refusing(f"--sheet {folder}"):
        paths = make_sheet(folder, config, splits, findings)
    for path in paths:
        print(f"Contact sheet: {path}", flush=True)
