"""Options that several programs share; light, for `--help` answers before anything is imported."""

import argparse


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
