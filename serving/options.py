"""The command line of serve.py; imports no torch, so that a --help answers at once."""

import argparse
from collections.abc import Sequence

from prediction.options import add_passes, count, number
from utils.cli.choices import AMPS
from utils.cli.command_line import Parser

TOKEN_VARIABLE = "SEGMENTATION_TOKEN"

DESCRIPTION = """
Answer images that are sent by HTTP with their segmentation, and show a page to try the model.

  curl -F image=@photo.jpg http://127.0.0.1:8000/v1/predict -o photo.png
  curl -F image=@photo.jpg -F products=ids,polygons,table http://127.0.0.1:8000/v1/predict

The masks are those of inference.py with the same options. The page is at /, the description of all
calls at /docs.
"""
EPILOG = """
exit code: 0 stopped by SIGTERM or Ctrl-C after the last answer; 1 the server could not go on; 2 a
mistake in the call.
"""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `--help` and wrong options end the program here."""
    parser = Parser(DESCRIPTION, EPILOG)
    add = parser.add_argument
    add("-m", "--model", required=True, nargs="+", action="extend", metavar="[NAME=]PATH",
        help="a checkpoint, the folder of a run, or a file of export.py; clients choose among "
        "several by their names (default: the file's name)")  # fmt: skip
    add("--port", type=_port, default=8000, metavar="N", help="the port (default: 8000)")
    add("--host", default="127.0.0.1", metavar="ADDRESS",
        help="the address to listen at; any other than this machine's own needs a token (default: "
        "127.0.0.1)")  # fmt: skip
    add("--token", metavar="TEXT",
        help="what clients have to send as `Authorization: Bearer TEXT`; better given in the "
        f"environment as {TOKEN_VARIABLE}: other users see command lines")  # fmt: skip
    add("-d", "--device", help="cpu, cuda, or the number of a GPU (default: cuda if there is one)")
    add("-c", "--config", metavar="FILE", help="for a file of bare weights: the training's config")
    add("--exif", choices=("apply", "ignore"),
        help="turn images as their EXIF orientation says (default: as in training)")  # fmt: skip
    add("--unsure", type=number, metavar="P",
        help="give pixels the ignored id where the confidence is lower than this")  # fmt: skip
    add_passes(parser)
    add = parser.add_argument_group("memory and speed").add_argument
    add("--window", type=count, metavar="PIXELS",
        help="cut images larger than this into overlapping windows (default: only those that do "
        "not fit into memory)")  # fmt: skip
    add("--memory", metavar="SIZE",
        help="the most memory of the program, everything included, such as 2GB (default: what is "
        "free)")  # fmt: skip
    add("--batch-size", type=count, default=8, metavar="N",
        help="small images of one size that go through a model at once (default: 8)")  # fmt: skip
    add("--batch-wait", type=number, default=3.0, metavar="MS",
        help="milliseconds that an image waits for others of its size (default: 3)")  # fmt: skip
    add("--amp", choices=AMPS, default="off",
        help="the network in 16 bits: auto where the GPU or processor computes with them "
        "(default: off)")  # fmt: skip
    _add_limits(parser)
    return parser.parse_args(argv)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("limits").add_argument
    add("--queue", type=count, default=32, metavar="N",
        help="images in work or waiting; more are answered with 429 (default: 32)")  # fmt: skip
    add("--max-bytes", default="32MB", metavar="SIZE",
        help="the largest upload; more is answered with 413 (default: 32MB)")  # fmt: skip
    add("--max-pixels", type=number, default=50e6, metavar="N",
        help="the most pixels of an image; more are answered with 413 (default: 50e6)")  # fmt: skip
    add("--timeout", type=number, default=60.0, metavar="S",
        help="seconds from the upload to the answer; later ones are given up and answered with "
        "503 (default: 60)")  # fmt: skip
    add("--upload-timeout", type=number, default=30.0, metavar="S",
        help="seconds for an upload; slower ones are answered with 408 (default: 30)")  # fmt: skip


def _port(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535 (0: any free port), got {text!r}")
    return value
