"""Score a trained model: metrics with intervals, in the terminal, as JSON, as a page."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import shlex
import sys
from typing import TYPE_CHECKING

from utils.checkpoint.model_file import find_model, is_exported
from utils.cli.choices import AMPS, DEFAULT_MODE, MODES, SCORED_KEYS, SPLITS, TRAINING_MODE
from utils.cli.command_line import Parser, add_overrides, end_after_failed_output, report_mistake
from utils.cli.launcher import launched_rank
from utils.cli.sanitize import plain_lines

# Only light modules up here: --help and a mistyped path answer without loading torch.
if TYPE_CHECKING:
    from evaluation.evaluation_run import EvaluationRun
    from evaluation.result import Evaluation
    from utils.metrics.threshold import SearchedMetric

METRICS = ("Mean_IoU", "IoU", "Dice")

DESCRIPTION = """
Score a trained model on one split of its dataset, at the images' own size and against the labels
as they are. The checkpoint names the model, the images and the classes. Started by torchrun,
several processes share the images.
"""

EPILOG = """
exit code: 0 every image was scored; 1 some could not be and are left out (each is named); 2 nothing
was scored because of a mistake in config, data or command; 130 interrupted.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    arguments = parse_arguments(words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # names that a terminal cannot show
    written: list[str] = []
    try:
        if arguments.json != "-":
            code = run(arguments, words, written)
            sys.stdout.flush()
            return code
        with contextlib.redirect_stdout(sys.stderr):
            return run(arguments, words, written)
    except ValueError as error:  # ConfigError, DataError, CheckpointError: one message
        return report_mistake(error)
    except KeyboardInterrupt:
        if launched_rank():
            return 130
        done = f"written before: {', '.join(written)}" if written else "nothing was written"
        print(f"\ninterrupted; {plain_lines(done)}", file=sys.stderr)
        return 130
    except OSError as error:
        return end_after_failed_output(error)


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line; `--help` and wrong options end the program here."""
    parser = Parser(DESCRIPTION, EPILOG)
    add = parser.add_argument
    add(
        "-m", "--model", required=True, metavar="PATH",
        help="the checkpoint: best_model.pth, or the folder of a run",
    )  # fmt: skip
    add("-c", "--config", metavar="FILE", help="a config whose loaders replace the checkpoint's")
    add_overrides(parser, SCORED_KEYS)
    add(
        "-s", "--split", choices=SPLITS, default="val",
        help="whose images to score (default: val, which may be what val_split holds back)",
    )  # fmt: skip
    add(
        "-mo", "--mode", choices=MODES, default=TRAINING_MODE,
        help="whole: one pass, as in training (default); sliding: mean over overlapping tiles, "
        "mirrored too; multiscale: mean over six sizes of the image",
    )  # fmt: skip
    add(
        "--window", type=int, metavar="PIXELS",
        help="predict images larger than this in overlapping windows, as inference.py does",
    )  # fmt: skip
    add(
        "--amp", choices=AMPS, default="off",
        help="the network in 16 bits: auto where the GPU or processor computes with them "
        "(default: off)",
    )  # fmt: skip
    add("-d", "--device", help="cpu, cuda, or the number of a GPU (default: cuda if there is one)")
    add("--json", metavar="FILE", help="also write everything as JSON; - is stdout")
    add("--report", metavar="FOLDER", help="also write a page to look at: FOLDER/index.html")
    add(
        "--find-threshold", nargs="?", const=METRICS[0], choices=METRICS, metavar="METRIC",
        help="two classes: first find the probability threshold of class 1 that gives the best "
        f"METRIC ({', '.join(METRICS)}; default: {METRICS[0]}), and store it in the checkpoint",
    )  # fmt: skip
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace, words: list[str], written: list[str]) -> int:
    """Score, show, write; return the exit code, which is that of the main process.

    Args:
        arguments: The command line, parsed.
        words: The command line as it was typed.
        written: Gets the name of each file as soon as it is written.

    Raises:
        ValueError: If something cannot be used or written.
    """
    model, chosen = find_model(arguments.model)
    if arguments.config is not None and not os.path.isfile(arguments.config):
        raise ValueError(f"--config: there is no file {arguments.config}")
    if arguments.find_threshold is not None and is_exported(model):
        raise ValueError(
            f"--find-threshold: {model} is exported; search in the checkpoint, then export that"
        )
    if chosen and not launched_rank():
        print(plain_lines(chosen), flush=True)
    from evaluation.output import check_outputs
    from utils.distributed.collectives import destroy_process_group, is_main
    from utils.runs.logger import log_to_console

    log_to_console(logging.INFO if is_main() else logging.ERROR)
    check_outputs(arguments.json, arguments.report, model)
    scored, evaluation = score(model, arguments, words, written)
    destroy_process_group()
    if not is_main():
        return 0
    show(scored, evaluation, arguments, written)
    allowed = len(scored.data.loader.bad) if scored.data.lenient else 0
    return 1 if len(evaluation.skipped) > allowed else 0


def score(
    model: str, arguments: argparse.Namespace, words: list[str], written: list[str]
) -> tuple[EvaluationRun, Evaluation]:
    """Score a checkpoint on all processes, after the search for a threshold if one is asked for.

    Raises:
        ValueError: If checkpoint, config or data cannot be used.
    """
    from base.loader_stream import WorkerError
    from evaluation.evaluation_run import open_run
    from evaluation.score_split import evaluate
    from utils.devices import resolve_device
    from utils.distributed.collectives import PATIENCE_FOR_SHARES, init_process_group

    device = resolve_device(arguments.device)
    init_process_group(device.type, PATIENCE_FOR_SHARES)
    opened = open_run(
        model,
        device,
        split=arguments.split,
        mode=arguments.mode,
        window=arguments.window,
        amp=arguments.amp,
        config_path=arguments.config,
        overrides=arguments.overrides,
    )
    try:
        if arguments.find_threshold is not None:
            opened = search_threshold(opened, arguments.find_threshold, written)
        return opened, evaluate(opened, shlex.join(["python", "evaluate.py", *words]))
    except WorkerError as error:
        raise ValueError(str(error)) from None


def search_threshold(
    run: EvaluationRun, metric: SearchedMetric, written: list[str]
) -> EvaluationRun:
    """Find the best threshold; the main process stores it in the checkpoint and reports the gain.

    Raises:
        ValueError: If there is none to find, or it cannot be written.
    """
    from evaluation.threshold import check_searchable, find_threshold, keep_threshold
    from utils.distributed.collectives import is_main

    check_searchable(run)
    best = find_threshold(run, metric)
    changed = keep_threshold(run, metric, best)
    if not is_main():
        return changed
    written.append(f"the threshold {best.threshold:.4g} in {run.checkpoint}")
    print(
        f"Best threshold for {metric} on {run.data.split}: {best.threshold:.4g} "
        f"({best.score:.4f}, {best.score - best.score_at_half:+.4f} against 0.5); written into "
        f"{run.checkpoint}",
        flush=True,
    )
    return changed


def show(
    run: EvaluationRun, evaluation: Evaluation, arguments: argparse.Namespace, written: list[str]
) -> None:
    """Write and print what the command line asks for.

    Raises:
        ValueError: If a file cannot be written.
    """
    from evaluation.output import write_json, write_report
    from evaluation.score_split import predict_image
    from evaluation.table import text_of
    from utils.runs.scores_file import keep_score

    mean_iou = evaluation.metrics["Mean_IoU"]
    keep_score(run.checkpoint, split=arguments.split, mode=arguments.mode, score=mean_iou)
    if arguments.json is not None:  # first: the reader of the text may stop before its end
        write_json(arguments.json, evaluation)
        written.append("the JSON" if arguments.json == "-" else arguments.json)
    print(f"\n{text_of(evaluation)}\n", flush=True)
    if arguments.json not in (None, "-"):
        print(f"JSON: {arguments.json}", flush=True)
    if arguments.report is not None:
        page = write_report(arguments.report, evaluation, lambda index: predict_image(run, index))
        written.append(str(page))
        print(f"Report: {page}", flush=True)
    words = "" if arguments.mode == DEFAULT_MODE else f" --mode {arguments.mode}"
    words += "" if arguments.window is None else f" --window {arguments.window}"
    words += "" if arguments.amp == "off" else f" --amp {arguments.amp}"
    if words:
        print(
            "Note: by default, inference.py makes other masks, whose score differs; with"
            f"{words} they are those that were scored here.",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
