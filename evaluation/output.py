"""Where the results go, found out before the work."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from audit.output import check_json, check_page, refusing
from evaluation.result import Evaluation, Look
from utils.bootstrap import Interval
from utils.files.new_file import write_text

FORMAT = 1
PROGRAM = "evaluate.py"
MARK = f'<meta name="generator" content="{PROGRAM}">'  # of a page


def check_outputs(json_file: str | None, report: str | None) -> None:
    """Find out before the work whether its results can be written and replace nothing foreign.

    Raises:
        ValueError: If they cannot, or would.
    """
    check_json(json_file, PROGRAM)
    if report is not None:
        check_page("--report", [Path(report, "index.html")], MARK)


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Everything as plain data; see docs/evaluation.md."""
    return {"program": PROGRAM, "format": FORMAT, **plain_data(evaluation)}


def plain_data(value: Any) -> Any:
    """Dicts, lists and plain values; a number that is not finite is None."""
    if isinstance(value, Interval):
        return [plain_data(end) for end in value]
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return {key: plain_data(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain_data(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: str, evaluation: Evaluation) -> None:
    """Write everything for programs, to the standard output for `-`.

    Raises:
        ValueError: If it cannot be written; a file that is there is as it was.
    """
    text = json.dumps(to_json(evaluation), indent=1, allow_nan=False) + "\n"
    if path == "-":
        assert sys.__stdout__ is not None
        sys.__stdout__.write(text)
        return
    with refusing(f"--json {path}"):
        write_text(path, text, overwrite=True)  # `check_outputs` has seen what is there


def write_report(folder: str, evaluation: Evaluation, look: Callable[[int], Look]) -> Path:
    """Write the page.

    Raises:
        ValueError: If it cannot be written.
    """
    from evaluation.page import write_page

    with refusing(f"--report {folder}"):
        return write_page(evaluation, look, Path(folder))
