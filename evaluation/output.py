"""Where evaluate.py writes its results."""

import dataclasses
import itertools
import json
import math
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.result import Evaluation, PredictedImage
from utils.config.file import name_problem
from utils.files import output_files
from utils.files.output_files import check_json, check_page, refusing
from utils.metrics.bootstrap import Interval

FORMAT = 1
PROGRAM = "evaluate.py"
SHOWN = 3  # names in a message
MARK = f'<meta name="generator" content="{PROGRAM}">'  # marks a page as ours


def check_outputs(json_file: str | None, report: str | None, model: str = "") -> None:
    """Find out before the work whether its results can be written and replace nothing foreign.

    Raises:
        ValueError: If they cannot, or would.
    """
    check_json(json_file, PROGRAM)
    if report is not None:
        check_page("--report", [Path(report, "index.html")], MARK)
        _check_folder(Path(report), json_file, Path(model))


def _check_folder(folder: Path, json_file: str | None, model: Path) -> None:
    """Refuse a folder that contains other files than an earlier report."""
    with refusing(f"--report {folder}"):
        if os.path.lexists(folder / "index.html"):
            return  # ours: `check_page` has looked
        own = None if json_file in (None, "-") else os.path.realpath(json_file)
        others = sorted(
            entry.name + "/" * entry.is_dir()
            for entry in folder.iterdir()
            if not _is_of_system(entry.name)
            and os.path.realpath(entry) != own
            and os.path.lexists(entry)  # a file of another process that tests writing may be gone
        )
    if others:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        free = shlex.quote(str(_free_folder(folder, run_name(model))))
        raise ValueError(
            f"--report: {folder} contains other files ({', '.join(others[:SHOWN])}{more}) and no "
            f"report; give the report a folder of its own: --report {free}"
        )


def _is_of_system(name: str) -> bool:
    """Return whether a file is one that file managers and versioning leave in any folder."""
    return name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini")


def _free_folder(folder: Path, name: str) -> Path:
    """Return a folder for a report in or below another that is not there yet, or is empty."""
    base = folder if folder.name.startswith("report") else folder / "report"
    for number in itertools.count(1):
        path = base / (name if number == 1 else f"{name}_{number}")
        if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
            return path
    raise AssertionError("unreachable")


def run_name(model: Path) -> str:
    """Return the name of the run that a checkpoint is of, from its folder, else the file's."""
    folder = model if model.is_dir() else model.parent
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return model.stem
    return name if isinstance(name, str) and not name_problem(name) else model.stem


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything as plain data; see docs/evaluation.md."""
    tree = plain_data(evaluation)
    named = {"figures" if key == "metrics" else key: value for key, value in tree.items()}
    return {"program": PROGRAM, "format": FORMAT, **named}


def plain_data(value: Any) -> Any:
    """Return dicts, lists and plain values; a number that is not finite becomes None."""
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
    """Write everything for programs, to standard output for `-`.

    Raises:
        ValueError: If it cannot be written; an existing file stays as it was.
    """
    output_files.write_json(path, json.dumps(to_json(evaluation), indent=1, allow_nan=False))


def write_report(
    folder: str, evaluation: Evaluation, predict: Callable[[int], PredictedImage]
) -> Path:
    """Write the page.

    Raises:
        ValueError: If it cannot be written.
    """
    from evaluation.page import write_page

    with refusing(f"--report {folder}"):
        return write_page(evaluation, predict, Path(folder))
