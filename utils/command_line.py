"""Options that several programs share; light, for `--help` answers before anything is imported."""

import argparse
from typing import NoReturn

from utils.launcher import let_main_speak


class Parser(argparse.ArgumentParser):
    """As argparse has it; of several processes, all of which find a mistake, the main one says it.

    Help and messages keep the line breaks that they are written with.
    """

    def __init__(self, description: str, epilog: str) -> None:
        super().__init__(
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and end."""
        let_main_speak()
        super().error(message)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """`-o KEY.PATH=VALUE`, as a list in `overrides`; see `utils.config_file.apply_overrides`."""
    parser.add_argument(
        "-o",
        metavar="KEY.PATH=VALUE",
        dest="overrides",
        action="append",
        default=[],
        help="set one key of the config, as in -o trainer.epochs=2; repeatable",
    )
