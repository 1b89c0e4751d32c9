"""Predict a mask for each image: `python inference.py --model best_model.pth --images folder`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prediction.jobs.plan import check_output_path
from prediction.jobs.source_kinds import stream_of
from prediction.options import parse_arguments, refuse_idle_options
from prediction.products.kinds import names_product, parse_words
from utils.checkpoint.model_file import find_model
from utils.cli.command_line import end_after_failed_output, report_mistake
from utils.cli.launcher import is_launched, launched_rank
from utils.cli.sanitize import plain_lines
from utils.cli.signals import unwind_on_sigterm
from utils.files.output_files import FullDiskError

# Only light modules up here: --help and a mistyped word answer without loading torch.
if TYPE_CHECKING:
    from prediction.predict_files import Outcome


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    arguments = parse_arguments(argv)
    try:
        with unwind_on_sigterm():
            code = run(arguments)
            sys.stdout.flush()
            return code
    except FullDiskError as error:
        report_mistake(error, "inference.py")
        return 1  # unlike after a mistake, something may have been written
    except ValueError as error:  # ConfigError, CheckpointError: one message, no traceback
        return report_mistake(error, "inference.py")
    except KeyboardInterrupt:
        if not launched_rank():
            print(
                "interrupted; the masks so far are complete, the same command continues",
                file=sys.stderr,
            )
        return 130
    except OSError as error:
        return end_after_failed_output(error)


def run(arguments: argparse.Namespace) -> int:
    """Predict all images that the arguments name; return the exit code.

    Several processes share the images. The main one finds them before any mask is written, reports
    on all of them, and has the exit code; the others end with 0.

    Raises:
        ValueError: If the arguments name nothing to do, or something that cannot be done.
    """
    models = find_models(arguments)
    check_arguments(arguments)
    if is_launched():
        from utils.devices import resolve_device
        from utils.distributed.collectives import PATIENCE_FOR_SHARES, init_process_group

        init_process_group(resolve_device(arguments.device).type, PATIENCE_FOR_SHARES)
    outcome = predict(models, arguments)
    if is_launched():
        from utils.distributed.collectives import destroy_process_group

        destroy_process_group()
    if launched_rank():
        return 0
    report(models, outcome, arguments)
    return 1 if outcome.failed or outcome.is_cut else 0


def find_models(arguments: argparse.Namespace) -> list[str]:
    """Return the checkpoints that `--model` names, and print which one of a folder it is.

    Raises:
        ValueError: If there is none.
    """
    models = []
    for name in arguments.model:
        model, chosen = find_model(name)
        models.append(model)
        if chosen and not launched_rank():
            print(plain_lines(chosen), file=sys.stderr if "-" in arguments.images else sys.stdout)
    return models


def check_arguments(arguments: argparse.Namespace) -> None:
    """Refuse what is wrong whatever the model and the images are.

    Raises:
        ValueError: If something is.
    """
    stream = stream_of(arguments.images)
    if arguments.every > 1 and stream not in ("video", "camera"):
        raise ValueError("--every: is for a video or a camera; --images names neither")
    if arguments.save is None:
        arguments.save = {"video": "overlay", "camera": ""}.get(stream or "", "ids")
    if arguments.overlay and not (arguments.save and names_product(arguments.save, "overlay")):
        arguments.save = f"{arguments.save},overlay".lstrip(",")
    if arguments.save or stream != "camera":
        refuse_idle_options(arguments)
    from prediction.predict_files import manifest_path, memory_of

    memory_of(arguments)
    if arguments.config is not None and not Path(arguments.config).is_file():
        raise ValueError(f"--config: there is no file {arguments.config}")
    if not arguments.output:
        raise ValueError("--output: the name of the folder is empty")
    check_output_path(Path(arguments.output))
    if arguments.manifest is not None:
        manifest_path(arguments)


def predict(models: Sequence[str], arguments: argparse.Namespace) -> Outcome:
    """Predict files, or what hands its images on while it is read.

    Raises:
        ValueError: If something cannot be used.
    """
    stream = stream_of(arguments.images)
    if stream is None:
        from prediction.predict_files import predict_files

        return predict_files(models, arguments)
    from prediction.predict_stream import predict_stream

    return predict_stream(stream, models, arguments)


def report(models: Sequence[str], outcome: Outcome, arguments: argparse.Namespace) -> None:
    """Print what was written, and where the masks are not those that were scored."""
    written, score = outcome.written, outcome.score
    if written and score is not None and score.mode != arguments.mode:
        config = f" --config {shlex.quote(arguments.config)}" if arguments.config else ""
        words = f"--model {shlex.quote(models[0])}{config} --mode {arguments.mode}"
        note = f"{score.sentence}; score this mode with: python evaluate.py {words}"
        print(f"note: {plain_lines(note)}", file=sys.stderr)
    text = outcome.text or masks_text(outcome, arguments)
    print(text, file=sys.stderr if "-" in arguments.images else sys.stdout)


def masks_text(outcome: Outcome, arguments: argparse.Namespace) -> str:
    """Return how many masks there are and where."""
    written, failed = outcome.written, outcome.failed
    what = "image" if all(kind.is_per_run for kind in parse_words(arguments.save)) else "mask"
    text = f"{written} {what if written == 1 else f'{what}s'} written to {arguments.output}"
    if written and outcome.how:
        text += f" ({outcome.how})"
    if outcome.kept:
        text += f"; {outcome.kept} kept as they were (--overwrite replaces them)"
    if failed:
        text += f"; {failed} {'image' if failed == 1 else 'images'} failed, named above"
    return text


if __name__ == "__main__":
    sys.exit(main())
