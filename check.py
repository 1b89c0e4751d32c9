"""Find what would go wrong in a training: in the config, in every file, in one step."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.cli.command_line import (
    DEFAULT_CONFIG,
    Parser,
    add_overrides,
    end_after_failed_output,
    report_mistake,
)
from utils.cli.launcher import refuse_several

if TYPE_CHECKING:
    from inspection.finding import Finding
    from utils.config.sections import Config

logger = logging.getLogger("check")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; answer `--help` before anything heavy is imported."""
    parser = Parser(
        description=__doc__ or "",
        epilog="Exit code: 2 if an error was found, with --strict also for warnings; else 0.",
    )
    add = parser.add_argument
    add(
        "-c", "--config", metavar="FILE", default=DEFAULT_CONFIG,
        help=f"JSON or YAML file (default: {DEFAULT_CONFIG})",
    )  # fmt: skip
    add_overrides(parser)
    add(
        "-d", "--device", metavar="DEVICE", help="where to take the step: cpu, cuda, or GPU numbers"
    )
    add("--json", metavar="FILE", help="also write everything as JSON; - is stdout")
    add(
        "--sheet", metavar="FOLDER", nargs="?", const="",
        help="also write images with their labels, as contact_sheet.png and .html "
        "(default folder: saved/check/<name>)",
    )  # fmt: skip
    add("--strict", action="store_true", help="exit with 2 for warnings, too")
    add("--no-step", action="store_true", help="check the files only")
    add("--workers", metavar="N", type=int, help="processes that read (default: every core)")
    add(
        "--cache", metavar="FOLDER", default="saved/cache",
        help="where facts about files are kept, so that only changed files are read again "
        "(default: saved/cache)",
    )  # fmt: skip
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code: 2 for errors (see `exit_code`) or mistakes."""
    arguments = parse_arguments(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # names that a terminal cannot show
    try:
        refuse_several()
        if arguments.json != "-":
            code = run(arguments)
            sys.stdout.flush()
            return code
        with contextlib.redirect_stdout(sys.stderr):
            return run(arguments)
    except ValueError as error:  # ConfigError, DataError: one message, no traceback
        return report_mistake(error)
    except KeyboardInterrupt:
        print("\ninterrupted; what has been read is kept in the cache", file=sys.stderr)
        return 130
    except OSError as error:
        return end_after_failed_output(error)


def run(arguments: argparse.Namespace) -> int:
    """Read the data, find problems, report them."""
    from utils.devices import resolve_training_device, restrict_visible_gpus

    restrict_visible_gpus(arguments.device)
    from audit import report
    from audit.advice import lines_to_paste
    from audit.findings import find_all, is_known
    from audit.output import check_outputs, write_json, write_sheet
    from audit.read import read_splits, with_measured
    from audit.step import try_step
    from inspection.label_maps import propose
    from utils.runs.logger import log_to_console

    # What to do, and where to write it
    config = read_config(arguments)
    sheet = None
    if arguments.sheet is not None:
        sheet = Path(arguments.sheet or Path("saved", "check", config.name))
    check_outputs(arguments.json, sheet)
    log_to_console()
    for warning in config.warnings:
        logger.warning(warning)
    device = None if arguments.no_step else resolve_training_device(arguments.device, config)

    # The files
    splits = read_splits(config, arguments.workers, arguments.cache)
    proposals = propose(splits.values())
    findings = find_all(splits, config, proposals)
    show(report.split_table(list(splits.values())))
    show(report.class_table(list(splits.values())))

    # A few training steps
    step = None
    if device is not None:
        step, further = try_step(with_measured(config, splits), *device)
        show(report.step_text(step) if step else f"No step could be taken: {further[0].message}")
        findings = [*(f for f in further if not is_known(f, findings)), *findings]

    # The report
    paste = lines_to_paste(config, splits, proposals)
    show(report.lines_to_paste_text(paste, config.tree))
    show(report.findings_text(findings))
    if arguments.json is not None:
        tree = report.to_json(config.name, list(splits.values()), findings, paste, step)
        write_json(arguments.json, tree)
    if sheet is not None:
        write_sheet(sheet, config, list(splits.values()), findings)
    return exit_code(findings, config.warnings, strict=arguments.strict)


def exit_code(findings: Sequence[Finding], warnings: Sequence[str], *, strict: bool) -> int:
    """Return 2 if a finding is an error, or with `strict` if there is any; else 0."""
    if strict and warnings:
        return 2
    return 2 if any(strict or finding.severity == "error" for finding in findings) else 0


def show(text: str) -> None:
    """Print a section of the report and an empty line."""
    if text:
        print(f"{text}\n", flush=True)


def read_config(arguments: argparse.Namespace) -> Config:
    """Read and check the config as training does."""
    from utils.config.file import apply_overrides, parse_config

    tree = apply_overrides(parse_config(arguments.config), arguments.overrides)
    if arguments.workers is not None and arguments.workers < 1:
        raise ValueError(f"--workers {arguments.workers}: expected 1 or more")
    from builders.sections import SECTIONS
    from trainer import TRAINING_METRICS, VALIDATION_METRICS
    from utils.config.check import check_config

    metrics = VALIDATION_METRICS, TRAINING_METRICS
    return check_config(tree, SECTIONS, arguments.config, *metrics, arguments.overrides)


if __name__ == "__main__":
    sys.exit(main())
