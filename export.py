"""Export a checkpoint for other programs: `python export.py --model best_model.pth --to onnx`."""

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.checkpoint.model_file import find_model
from utils.cli.command_line import Parser, end_after_failed_output, report_mistake
from utils.cli.launcher import refuse_several
from utils.cli.sanitize import plain_lines

FORMATS = ("onnx", "openvino", "tflite", "torch")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
DESCRIPTION = """
Write a trained model as a file that other programs run. The file is loaded by its own runtime in a
process of its own and compared with the model on random and real images of several sizes. It gets
its name only if it answers like the model; otherwise nothing is left, and the message says where
the two part.

A file of less than 32 bits is scored on the validation images instead: it gets its name only if it
loses less than --tolerance. int8 finds its ranges on images of the training set.

With --inside all, the default, the file takes images as they are stored, (batch, height, width,
channels), and gives class ids. Batch, height and width stay free.
"""
EPILOG = """
exit code: 0 every file was written and answers like the model; 2 one was not, or a mistake in the
call; 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    arguments = parse_arguments(argv)
    try:
        refuse_several()
        code = run(arguments)
        sys.stdout.flush()
        return code
    except ValueError as error:
        return report_mistake(error, "export.py")
    except KeyboardInterrupt:
        print("\ninterrupted; files that have their name are complete", file=sys.stderr)
        return 130
    except OSError as error:
        return end_after_failed_output(error)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `--help` and wrong options end the program here."""
    parser = Parser(DESCRIPTION, EPILOG)
    add = parser.add_argument
    add("-m", "--model", required=True, metavar="PATH",
        help="the checkpoint: best_model.pth, or the folder of a run")  # fmt: skip
    add("--to", required=True, nargs="+", choices=FORMATS, help="the formats")
    add("-o", "--output", metavar="FILE",
        help="the file (default: beside the checkpoint, with its name)")  # fmt: skip
    add("--inside", choices=("all", "network"), default="all",
        help="all: from stored pixels to class ids (default); network: from normalised images "
        "(batch, channels, height, width) to logits")  # fmt: skip
    add("--outputs", metavar="LIST",
        help="what comes out, separated by commas: ids, confidence, logits (default: ids; with "
        "--inside network: logits)")  # fmt: skip
    add("--size", metavar="HEIGHTxWIDTH",
        help="of the images, for --to tflite, which cannot leave it free")  # fmt: skip
    add("--python", metavar="PATH",
        help="the Python that has onnx2tf, for --to tflite (default: this one)")  # fmt: skip
    add("--precision", nargs="+", choices=PRECISIONS, default=["fp32"],
        help="of the weights; several give a file each (default: fp32)")  # fmt: skip
    add("--validate", action="store_true",
        help="also score checkpoint and file on the validation images")  # fmt: skip
    add("--tolerance", type=float, metavar="POINTS",
        help="how many points of mean IoU such a file may lose (default: 0.5)")  # fmt: skip
    add("--triton", metavar="FOLDER",
        help="also add the ONNX file to a model repository of Triton Inference Server")  # fmt: skip
    add("--images", nargs="+", default=[], metavar="FILE",
        help="real images for the comparison (default: some of the validation set)")  # fmt: skip
    add("--config", metavar="FILE",
        help="the training's config, for a file of bare weights, or for other data")  # fmt: skip
    add("--overwrite", action="store_true", help="replace files that exist")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> int:
    """Export, and print what was written.

    Raises:
        ValueError: If something cannot be used, or a file does not answer like the model.
    """
    model, chosen = find_model(arguments.model)
    if chosen:
        print(plain_lines(chosen), flush=True)
    if arguments.output is not None and max(len(arguments.to), len(arguments.precision)) > 1:
        raise ValueError("--output: is one file; leave it out for several")
    check_options(arguments)
    from exporting.export_model import TOLERANCE, check_formats, export_model
    from exporting.spec import ExportSpec
    from exporting.table import table_of
    from exporting.triton import add_version
    from utils.runs.logger import log_to_console

    log_to_console(logging.WARNING)
    default = "logits" if arguments.inside == "network" else "ids"
    outputs = (arguments.outputs or default).split(",")
    spec = ExportSpec(
        arguments.inside,
        tuple(name.strip() for name in outputs),  # type: ignore[misc]
        size=None if arguments.size is None else size_of(arguments.size),
        converter=arguments.python or sys.executable,
    )
    check_formats(arguments.to, spec)
    refused: list[ValueError] = []
    made = export_model(
        model,
        arguments.to,
        spec,
        precisions=arguments.precision,
        output=None if arguments.output is None else Path(arguments.output),
        config=arguments.config,
        images=arguments.images,
        overwrite=arguments.overwrite,
        validate=arguments.validate,
        tolerance=TOLERANCE if arguments.tolerance is None else arguments.tolerance,
        refused=refused,
    )
    for file in made:
        print(plain_lines(f"{file.path}: {file.proof.text()}"))
    if len(made) > 1 or any(file.validation is not None for file in made):
        print(f"\n{plain_lines(table_of(model, arguments.config, made))}", flush=True)
    if arguments.triton is not None:
        for file in made:
            if file.path.suffix == ".onnx":
                print(plain_lines(str(add_version(Path(arguments.triton), file.path))), flush=True)
    for message in refused:
        report_mistake(message, "export.py")
    return 2 if refused else 0


def check_options(arguments: argparse.Namespace) -> None:
    """Refuse options that nothing would use.

    Raises:
        ValueError: If there is one.
    """
    for name in ("size", "python"):
        if getattr(arguments, name) is not None and "tflite" not in arguments.to:
            raise ValueError(f"--{name}: is for --to tflite; the other formats leave the size free")
    if arguments.triton is not None and "onnx" not in arguments.to:
        raise ValueError("--triton: takes an ONNX file: add --to onnx")
    if arguments.tolerance is None:
        return
    if not 0 < arguments.tolerance <= 100:
        raise ValueError(f"--tolerance: {arguments.tolerance:g} is not between 0 and 100 points")
    if not arguments.validate and set(arguments.precision) == {"fp32"}:
        raise ValueError("--tolerance: is for files that are scored: add --validate")


def size_of(text: str) -> tuple[int, int]:
    """Read `--size`: height and width.

    Raises:
        ValueError: If it is something else.
    """
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text)
    if found is None:
        raise ValueError(f"--size: expected HEIGHTxWIDTH in pixels, such as 512x768, got {text}")
    return int(found[1]), int(found[2] or found[1])


if __name__ == "__main__":
    sys.exit(main())
