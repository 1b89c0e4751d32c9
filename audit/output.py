"""Where the results go, found out before the work."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from audit.finding import Finding
from audit.sheet import make_sheet
from audit.split import Split
from utils.config import Config


def check_outputs(json_file: str | None, sheet: Path | None) -> None:
    """Find out before the work whether its results can be written.

    Raises:
        ValueError: If they cannot.
    """
    if json_file not in (None, "-"):
        path = Path(json_file)
        with refusing(f"--json {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            there = path.exists()
            path.open("ab").close()
            if not there:
                path.unlink()
    if sheet is not None:
        with refusing(f"--sheet {sheet}"):
            sheet.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=sheet).close()


@contextlib.contextmanager
def refusing(flag: str) -> Iterator[None]:
    """Turn what the system says into one message.

    Raises:
        ValueError: If a file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(f"{flag}: cannot be written ({error.strerror})") from None


def write_json(path: str, tree: object) -> None:
    """Write the report for programs, to the standard output for `-`.

    Raises:
        ValueError: If it cannot be written.
    """
    text = json.dumps(tree, indent=2) + "\n"
    if path == "-":
        assert sys.__stdout__ is not None
        sys.__stdout__.write(text)
        return
    with refusing(f"--json {path}"):
        Path(path).write_text(text, encoding="utf-8")


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
