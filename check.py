"""Look for what would go wrong in a training: in the config, in every file, in one step."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.cli.command_line import Parser, add_overrides
from utils.cli.launcher import refuse_several
from utils.cli.sanitize import plain_lines

if TYPE_CHECKING:
    import torch

    from audit.step import StepReport
    from inspection.finding import Finding
    from inspection.label_maps import Proposal
    from inspection.split import Split
    from utils.config.sections import Config

DEFAULT_CONFIG = "config.json"

logger = logging.getLogger("check")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line; answers `--help` before anything heavy is imported."""
    parser = Parser(
        description=__doc__ or "",
        epilog="Exit code: 2 where an error was found, with --strict also for warnings; else 0.",
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        default=DEFAULT_CONFIG,
        help=f"JSON or YAML file (default: {DEFAULT_CONFIG})",
    )
    add_overrides(parser)
    parser.add_argument(
        "-d", "--device", metavar="DEVICE", help="of the step: cpu, cuda, or GPU numbers"
    )
    parser.add_argument("--json", metavar="FILE", help="also write everything as JSON; - is stdout")
    parser.add_argument(
        "--sheet",
        metavar="FOLDER",
        nargs="?",
        const="",
        help="also write pictures with their labels, as contact_sheet.png and .html "
        "(default folder: saved/check/<name>)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 2 where there are warnings only, too"
    )
    parser.add_argument("--no-step", action="store_true", help="look at the files only")
    parser.add_argument(
        "--workers", metavar="N", type=int, help="processes that read (default: every core)"
    )
    parser.add_argument(
        "--cache",
        metavar="FOLDER",
        default="saved/cache",
        help="where it is kept what is in the files, so that only changed ones are read again "
        "(default: saved/cache)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code: 2 for errors (see `exit_code`) or mistakes."""
    arguments = parse_arguments(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # names that a terminal cannot show
    try:
        refuse_several()
        if arguments.json != "-":
            return run(arguments)
        with contextlib.redirect_stdout(sys.stderr):
            return run(arguments)
    except ValueError as error:  # ConfigError, DataError: one message, no trace
        print(f"error: {plain_lines(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; what has been read is kept in the cache", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the report has seen enough; Python would complain when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run(arguments: argparse.Namespace) -> int:
    """Read, look, report."""
    from train import choose_device, choose_visible_gpus

    choose_visible_gpus(arguments.device)
    from audit import report
    from audit.advice import lines_to_paste
    from audit.output import check_outputs, write_json, write_sheet
    from audit.read import read_splits
    from inspection.label_maps import propose
    from utils.runs.logger import log_to_console

    config = read_config(arguments)
    sheet = None
    if arguments.sheet is not None:
        sheet = Path(arguments.sheet or Path("saved", "check", config.name))
    check_outputs(arguments.json, sheet)
    log_to_console()
    for warning in config.warnings:
        logger.warning(warning)
    device = None if arguments.no_step else choose_device(config, arguments.device)
    splits = read_splits(config, arguments.workers, arguments.cache)
    proposals = propose(splits.values())
    findings = find_all(splits, config, proposals)
    show(report.split_table(list(splits.values())))
    show(report.class_table(list(splits.values())))
    step = None
    if device is not None:
        step, further = try_step(with_measured(config, splits), *device)
        show(report.step_text(step) if step else f"No step could be taken: {further[0].message}")
        findings = [*(f for f in further if not is_known(f, findings)), *findings]
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
    """What `check.py && train.py` goes by: 2 where a finding is an error, or `strict` and any.

    Args:
        findings: What was found in data and config.
        warnings: Those of the config itself, printed above.
        strict: Let warnings count, too.
    """
    if strict and warnings:
        return 2
    return 2 if any(strict or finding.severity == "error" for finding in findings) else 0


def show(text: str) -> None:
    """Print a part of the report, and an empty line."""
    if text:
        print(f"{text}\n", flush=True)


def read_config(arguments: argparse.Namespace) -> Config:
    """The config, as training reads it."""
    from utils.config.file import apply_overrides, parse_config

    tree = apply_overrides(parse_config(arguments.config), arguments.overrides)
    if arguments.workers is not None and arguments.workers < 1:
        raise ValueError(f"--workers {arguments.workers}: expected 1 or more")
    from builders.sections import SECTIONS
    from trainer import TRAINING_METRICS, VALIDATION_METRICS
    from utils.config.check import check_config

    figures = VALIDATION_METRICS, TRAINING_METRICS
    return check_config(tree, SECTIONS, arguments.config, *figures, arguments.overrides)


def find_all(
    splits: dict[str, Split], config: Config, proposals: dict[str, Proposal]
) -> list[Finding]:
    """Everything that is wrong, errors first."""
    from audit import file_findings, set_findings
    from inspection import label_findings

    train, val = splits["train"], splits.get("val")
    findings: list[Finding] = []
    for name, split in splits.items():
        findings += file_findings.find(split)
        findings += set_findings.find_missing_statistics(split)
        findings += label_findings.find(split, proposals[name])
    findings += label_findings.find_undecided_white([s for s in (train, val) if s is not None])
    if val is not None:
        findings += set_findings.find_differences(train, val)
    findings += label_findings.find_classes(train, val)
    findings += set_findings.find(train, config)
    for name in ("val", "test"):
        if name in splits:
            findings += set_findings.find_leaks(train, splits[name])
    return sorted(findings, key=lambda finding: finding.severity)


def is_known(failure: Finding, findings: Sequence[Finding]) -> bool:
    """Whether what has stopped the step is among the findings: its file, or in its words."""
    # A file with the labels of several pictures is named with the picture behind it.
    files = {file.partition(": ")[0] for finding in findings for file in finding.files}
    messages = {finding.message for finding in findings}
    return any(text in failure.message for text in files | messages)


def with_measured(config: Config, splits: dict[str, Split]) -> Config:
    """The config with the mean and std of the training where it lacks what its pictures need."""
    from audit.advice import statistics
    from audit.read import with_statistics

    for split in splits.values():
        if split.lacks_statistics:
            measured = statistics(splits["train"], split)
            config = with_statistics(config, split.section, measured)
    return config


def try_step(
    config: Config, device: torch.device, n_gpu: int
) -> tuple[StepReport | None, list[Finding]]:
    """What a few steps show; without any, the finding that says why."""
    from typing import cast

    from audit.step import measure_step
    from base.base_trainer import TrainingError
    from inspection.finding import Finding
    from train import build_training
    from trainer import Trainer
    from utils.out_of_memory import is_out_of_memory
    from utils.runs.logger import RunFolder, RunLog

    try:
        parts = build_training(config, device, surveys=False)
        trainer = Trainer(
            # A schedule ends with the training; the steps here are none of it.
            **{**parts._asdict(), "lr_scheduler": None},
            device=device,
            n_gpu=n_gpu,
            config=config,
            folder=RunFolder(Path(), Path()),
            log=cast(RunLog, None),  # a step by itself writes nothing
        )
        step = measure_step(trainer)
    except TrainingError as error:
        return None, [Finding("error", "loss", "", str(error), "see the message")]
    except ValueError as error:
        return None, [Finding("error", "step", "", str(error), "training would end here")]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        message = str(error).split(". ")[0]
        fix = "use a smaller batch_size, crop_size or model"
        return None, [Finding("error", "memory", "", message, fix)]
    return step, []


if __name__ == "__main__":
    sys.exit(main())
