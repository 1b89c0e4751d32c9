"""Predict on many machines: `python -m prediction.on_ray --model best_model.pth --images s3://..."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prediction.cluster.options import parse_arguments
from prediction.options import refuse_idle_options
from prediction.products.kinds import PER_RUN, names_product
from utils.checkpoint.model_file import find_model
from utils.cli.command_line import report_mistake
from utils.cli.launcher import refuse_several
from utils.cli.sanitize import plain_lines

# Only light modules up here: --help and a mistyped word answer without loading torch.
if TYPE_CHECKING:
    from prediction.cluster.predict_cluster import Outcome


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    arguments = parse_arguments(argv)
    try:
        return run(arguments)
    except ValueError as error:  # ConfigError, CheckpointError: one message, no traceback
        return report_mistake(error, "prediction.on_ray")
    except KeyboardInterrupt:
        print(
            "interrupted; the masks so far are complete, the same command continues",
            file=sys.stderr,
        )
        return 130


def run(arguments: argparse.Namespace) -> int:
    """Predict all images that the arguments name; return the exit code.

    Raises:
        ValueError: If the arguments name nothing to do, or something that cannot be done.
    """
    check_arguments(arguments)
    for number, name in enumerate(arguments.model):
        arguments.model[number], chosen = find_model(name)
        if chosen:
            print(plain_lines(chosen))
    from prediction.cluster.predict_cluster import predict_cluster

    outcome = predict_cluster(arguments)
    report(outcome, arguments)
    return 1 if outcome.counts.failed else 0


def check_arguments(arguments: argparse.Namespace) -> None:
    """Refuse what is wrong whatever the model and the images are, and complete the rest.

    Raises:
        ValueError: If something is.
    """
    refuse_several()
    if arguments.overlay and not names_product(arguments.save, "overlay"):
        arguments.save += ",overlay"
    refuse_idle_options(arguments)
    for name in PER_RUN:
        if names_product(arguments.save, name):
            raise ValueError(
                f"--save: {name} is made of all images together, by inference.py; choose products "
                "of each image here"
            )
    from prediction.cluster.start import check_installed
    from prediction.cluster.stores import is_store
    from prediction.predict_files import manifest_path, memory_of

    check_installed()
    memory_of(arguments)
    if arguments.config is not None and not Path(arguments.config).is_file():
        raise ValueError(f"--config: there is no file {arguments.config}")
    if arguments.manifest is not None:
        manifest_path(arguments)
    if not is_store(arguments.output):  # actors have other working folders
        arguments.output = os.path.abspath(arguments.output.removeprefix("file://"))


def report(outcome: Outcome, arguments: argparse.Namespace) -> None:
    """Print what was written."""
    written, kept, failed = outcome.counts
    text = f"{written} {'mask' if written == 1 else 'masks'} written to {arguments.output}"
    if outcome.how:
        text += f" ({outcome.how})"
    if kept:
        text += f"; {kept} kept as they were (--overwrite replaces them)"
    if failed:
        text += f"; {failed} {'image' if failed == 1 else 'images'} failed, named above"
    print(plain_lines(text))


if __name__ == "__main__":
    sys.exit(main())
