"""Look for what would go wrong in a training: in the config, in every file, in one step."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audit.finding import Finding
    from audit.split import Split
    from audit.step import StepReport
    from utils.config import Config

DEFAULT_CONFIG = "config.json"

logger = logging.getLogger("check")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line; answers `--help` before anything heavy is imported."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Exit code: 0 where nothing was found, else 2."
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        default=DEFAULT_CONFIG,
        help=f"JSON or YAML file (default: {DEFAULT_CONFIG})",
    )
    parser.add_argument(
        "-o",
        metavar="KEY.PATH=VALUE",
        dest="overrides",
        action="append",
        default=[],
        help="set one key of the config, as in -o trainer.epochs=2; repeatable",
    )
    parser.add_argument(
        "-d", "--device", metavar="DEVICE", help="of the step: cpu, cuda, or GPU numbers"
    )
    parser.add_argument("--json", metavar="FILE", help="also write everything as JSON")
    parser.add_argument(
        "--sheet",
        metavar="FOLDER",
        nargs="?",
        const="",
        help="also write pictures with their labels, as contact_sheet.png and .html "
        "(default folder: saved/check/<name>)",
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
    """Run the program; returns its exit code: 0 clean, 2 for findings or mistakes."""
    arguments = parse_arguments(argv)
    try:
        return run(arguments)
    except ValueError as error:  # ConfigError, DataError: one message, no trace
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; what has been read is kept in the cache", file=sys.stderr)
        return 130


def run(arguments: argparse.Namespace) -> int:
    """Read, look, report."""
    from train import choose_visible_gpus

    choose_visible_gpus(arguments.device)
    from audit import report
    from audit.advice import lines_to_paste
    from audit.read import read_splits
    from utils.logger import log_to_console

    config = read_config(arguments)
    log_to_console()
    for warning in config.warnings:
        logger.warning(warning)
    splits = read_splits(config, arguments.workers, arguments.cache)
    findings = find_all(splits, config)
    show(report.split_table(list(splits.values())))
    show(report.class_table(list(splits.values())))
    step, further = (None, []) if arguments.no_step else try_step(config, arguments.device)
    if step is not None:
        show(report.step_text(step))
    elif further:
        show(f"No step could be taken: {further[0].message}")
    # What stops the step is as a rule what an error has named already.
    if not any(finding.severity == "error" for finding in findings):
        findings = [*further, *findings]
    paste = lines_to_paste(config, splits["train"], splits.get("val"))
    show(report.lines_to_paste_text(paste))
    show(report.findings_text(findings))
    if arguments.json is not None:
        tree = report.to_json(config.name, list(splits.values()), findings, paste, step)
        write_json(arguments.json, tree)
    if arguments.sheet is not None:
        folder = Path(arguments.sheet or Path("saved", "check", config.name))
        write_sheet(folder, config, list(splits.values()), findings)
    return 2 if findings else 0


def show(text: str) -> None:
    """Print a part of the report, and an empty line."""
    if text:
        print(f"{text}\n", flush=True)


def read_config(arguments: argparse.Namespace) -> Config:
    """The config, as training reads it."""
    from utils.config_file import apply_overrides, parse_config

    tree = apply_overrides(parse_config(arguments.config), arguments.overrides)
    if arguments.workers is not None and arguments.workers < 1:
        raise ValueError(f"--workers {arguments.workers}: expected 1 or more")
    from parts import PARTS
    from trainer import TRAINING_FIGURES, VALIDATION_FIGURES
    from utils.config import check_config

    source = arguments.config
    return check_config(tree, PARTS, source, VALIDATION_FIGURES, TRAINING_FIGURES)


def find_all(splits: dict[str, Split], config: Config) -> list[Finding]:
    """Everything that is wrong, errors first."""
    from audit import file_findings, label_findings, set_findings

    train, val = splits["train"], splits.get("val")
    findings: list[Finding] = []
    for split in splits.values():
        findings += file_findings.find(split)
        findings += label_findings.find(split)
    findings += label_findings.find_classes(train, val)
    findings += set_findings.find(train, config)
    for name in ("val", "test"):
        if name in splits:
            findings += set_findings.find_leaks(train, splits[name])
    return sorted(findings, key=lambda finding: finding.severity)


def try_step(config: Config, wanted: str | None) -> tuple[StepReport | None, list[Finding]]:
    """What a few steps show; without any, the finding that says why."""
    from typing import cast

    from audit.finding import Finding
    from audit.step import measure_step, out_of_memory
    from base.base_trainer import TrainingError
    from train import build_training, choose_device
    from trainer import Trainer
    from utils.logger import RunFolder, RunLog

    device, n_gpu = choose_device(config, wanted)
    try:
        parts = build_training(config, device)
        trainer = Trainer(
            # A schedule ends with the training; the steps here are none of it.
            **{**parts._asdict(), "lr_scheduler": None},
            device=device,
            n_gpu=n_gpu,
            config=config,
            meta={},
            folder=RunFolder(Path(), Path()),
            log=cast(RunLog, None),  # a step by itself writes nothing
        )
        step = measure_step(trainer)
    except TrainingError as error:
        return None, [Finding("error", "loss", "", str(error), "see the message")]
    except ValueError as error:
        return None, [Finding("error", "step", "", str(error), "training would end here")]
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        message = str(error).split(". ")[0]
        fix = "use a smaller batch_size, crop_size or model"
        return None, [Finding("error", "memory", "", message, fix)]
    return step, []


def write_json(path: str, tree: object) -> None:
    """Write the report for programs.

    Raises:
        ValueError: If it cannot be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--json {path}: cannot be written ({error.strerror})") from None


def write_sheet(
    folder: Path, config: Config, splits: Sequence[Split], findings: Sequence[Finding]
) -> None:
    """Write the contact sheets.

    Raises:
        ValueError: If they cannot be written.
    """
    from audit.sheet import make_sheet

    try:
        for path in make_sheet(folder, config, splits, findings):
            print(f"Contact sheet: {path}")
    except OSError as error:
        raise ValueError(f"--sheet {folder}: cannot be written ({error.strerror})") from None


if __name__ == "__main__":
    sys.exit(main())
