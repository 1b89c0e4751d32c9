"""Output files of an audit: checked before the work, written after it."""

import json
from collections.abc import Sequence
from pathlib import Path

from audit.report import PROGRAM
from audit.sheet import PAGE, SHEET, make_sheet
from audit.sheet_html import MARK
from inspection.finding import Finding
from inspection.split import Split
from utils.config.sections import Config
from utils.files import output_files


def check_outputs(json_file: str | None, sheet: Path | None) -> None:
    """Check before the work that its results can be written and replace nothing foreign.

    Raises:
        ValueError: If they cannot, or would.
    """
    output_files.check_json(json_file, PROGRAM)
    if sheet is not None:
        output_files.check_page("--sheet", [sheet / PAGE, sheet / SHEET], MARK)


def write_json(path: str, tree: object) -> None:
    """Write the report for programs, to standard output for `-`.

    Raises:
        ValueError: If it cannot be written.
    """
    output_files.write_json(path, json.dumps(tree, indent=2))


def write_sheet(
    folder: Path, config: Config, splits: Sequence[Split], findings: Sequence[Finding]
) -> None:
    """Write the contact sheets.

    Raises:
        ValueError: If they cannot be written.
    """
    with output_files.refusing(f"--sheet {folder}"):
        paths = make_sheet(folder, config, splits, findings)
    for path in paths:
        print(f"Contact sheet: {path}", flush=True)
