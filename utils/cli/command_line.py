"""Options that several programs share; light, for `--help` answers before anything is imported."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from utils.cli.launcher import defer_to_main_process, destroy_group
from utils.cli.sanitize import plain_lines

DEFAULT_CONFIG = "config.json"


class Parser(argparse.ArgumentParser):
    """An argument parser that says what to type instead, and says it once for several processes.

    Help and messages keep their line breaks. Options are not abbreviated: what is short for one
    today would be short for two tomorrow. `utils/cli/near_misses.py` explains unknown words.
    """

    # The keys that `-o` can set, None for the whole config; see `add_overrides`.
    sections: tuple[str, ...] | None = None

    def __init__(self, description: str = "", epilog: str = "", **settings: Any) -> None:
        settings = {"formatter_class": argparse.RawDescriptionHelpFormatter, **settings}
        super().__init__(
            description=description, epilog=epilog, **{**settings, "allow_abbrev": False}
        )

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse once every word is known; the parser of a command comes here, too."""
        open_missing_streams()
        words = sys.argv[1:] if args is None else list(args)
        if not {"-h", "--help"} & set(words):
            from utils.cli.near_misses import explain  # it reads configs: not for a --help

            problems = explain(words, self, self.prog.split()[0])
            if problems:
                self.error("\n  ".join(["", *problems] if len(problems) > 1 else problems))
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line and exit; of several processes, the main one."""
        defer_to_main_process()
        super().error(message)


def add_overrides(parser: argparse.ArgumentParser, sections: Sequence[str] | None = None) -> None:
    """Add `-o KEY.PATH=VALUE`, a list in `overrides`, for some keys at the top or all."""
    if isinstance(parser, Parser) and sections is not None:
        parser.sections = tuple(sections)
    parser.add_argument(
        "-o",
        metavar="KEY.PATH=VALUE",
        dest="overrides",
        action="append",
        default=[],
        help="set one key of the config, as in -o trainer.epochs=2; repeatable",
    )


def report_mistake(error: Exception, prefix: str = "error") -> int:
    """Print one message for a mistake of the user, on the main process; return the exit code, 2."""
    defer_to_main_process()
    print(f"{prefix}: {plain_lines(str(error))}", file=sys.stderr)
    destroy_group()
    return 2


def open_missing_streams() -> None:
    """Discard what goes to a standard stream that the program was started without, as by `2>&-`."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def end_after_failed_output(error: OSError) -> int:
    """Say that a file, or standard output, cannot be written; return the exit code."""
    if isinstance(error, BrokenPipeError):
        return end_after_broken_pipe()
    where = error.filename or "standard output"
    print(plain_lines(f"error: {where}: {error.strerror or error}"), file=sys.stderr)
    if error.filename is None:
        _discard_output()
    return 1


def end_after_broken_pipe() -> int:
    """Discard the rest of the output, whose reader has gone, and return the exit code, 141."""
    _discard_output()
    return 141


def _discard_output() -> None:
    # Python would try to write the rest when it ends, and complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
