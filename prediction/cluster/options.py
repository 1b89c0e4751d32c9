"""The command line of prediction.on_ray; imports no torch, so that a --help answers at once."""

import argparse
from collections.abc import Sequence

from prediction.options import (
    add_model_settings,
    add_outputs,
    add_passes,
    add_selection,
    add_sizes,
    count,
    number,
)
from utils.cli.command_line import Parser

DESCRIPTION = """
Segment images on many processes or machines with Ray. The products are those of inference.py, whose
--help explains the options that both have; this program adds object stores and actors.

Each image is predicted by one of the actors. If a process dies, Ray starts it again and repeats its
images; products are written under a temporary name, or put as one object, so that each is whole and
there once. An image whose products exist is skipped, so the same command continues a run that was
ended.
"""

EPILOG = """
exit code: 0 every mask exists; 1 some images failed and were skipped (each is named); 2 nothing was
done, or not all, because of a mistake in the call or a missing resource; 130 interrupted.
"""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `--help` and wrong options end the program here."""
    parser = Parser(DESCRIPTION, EPILOG, prog="python -m prediction.on_ray")
    _add_inputs(parser)
    add_selection(parser)
    add_model_settings(parser)
    add_outputs(parser)
    parser.add_argument(
        "--manifest", metavar="FILE",
        help="write a line for each image, as inference.py does; a file of this machine",
    )  # fmt: skip
    add_passes(parser)
    add_sizes(parser)
    _add_actors(parser)
    parser.set_defaults(save="ids", shard=None)
    return parser.parse_args(argv)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "-m", "--model", required=True, nargs="+", metavar="PATH",
        help="the checkpoint, as for inference.py; only this machine has to have it",
    )  # fmt: skip
    add(
        "-i", "--images", required=True, nargs="+", metavar="PATH",
        help="what inference.py takes except for streams, as all machines see it; also "
        "s3://bucket/folder, or whatever fsspec knows, and lists (.txt, .csv, .parquet) of such "
        "addresses or in such a place",
    )  # fmt: skip


def _add_actors(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("actors").add_argument
    add(
        "--actors", type=count, metavar="N",
        help="processes that predict, each with a model (default: one for each GPU, or one)",
    )  # fmt: skip
    add(
        "--gpus-per-actor", type=number, metavar="G",
        help="GPUs of each, such as 1 or 0.5 (default: 1 if Ray sees one, else 0)",
    )  # fmt: skip
    add(
        "--cpus-per-actor", type=count, default=1, metavar="N",
        help="cores of each: Ray reserves them, and torch and OpenCV use as many threads "
        "(default: 1)",
    )  # fmt: skip
    add(
        "--address", metavar="ADDRESS",
        help="of a running cluster: auto or HOST:PORT (default: start Ray on this machine). The "
        "cluster needs Ray and the packages of requirements.txt; the code is sent there",
    )  # fmt: skip
