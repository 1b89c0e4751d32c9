"""Predict a mask for each image: `python inference.py --model best_model.pth --images folder`."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prediction.jobs.find_images import ImageFile
from prediction.jobs.plan import (
    Plan,
    check_output_path,
    find_on_main,
    make_output_folder,
    make_plan,
    run_on_main,
)
from utils.checkpoint.model_file import find_model
from utils.cli.choices import DEFAULT_MODE, MODES
from utils.cli.command_line import Parser, report_mistake
from utils.cli.extensions import IMAGE_EXTENSIONS
from utils.cli.launcher import is_launched, launched_rank
from utils.cli.sanitize import plain_lines

# Only light modules up here: --help and a mistyped path answer without loading torch.
if TYPE_CHECKING:
    import torch

    from utils.runs.last_score import LastScore

DESCRIPTION = """
Segment images with a trained model. The checkpoint is enough: it contains the model, the classes,
their colours and the normalisation.

For each image one PNG of its size is written, whose pixel values are the class ids and whose
palette has the classes' colours. It is named like the image without its last extension (im.0.jpg
gives im.0.png), and its folder below --output is the image's folder below --images. A mask that
exists is kept unless --overwrite is given, so an interrupted run can be continued. Started by
torchrun, several processes share the images.
"""

EPILOG = """
exit code: 0 every mask exists; 1 some images failed and were skipped (each is named); 2 nothing was
done because of a mistake in the call; 130 interrupted.
"""


class Outcome(NamedTuple):
    """What has become of the images whose masks did not exist."""

    plan: Plan  # all jobs, and those that were to be done
    failed: int = 0  # how many of them failed
    how: str = ""  # how the masks were made and how fast; empty if none was
    score: LastScore | None = None  # how the model was scored last, if that is known

    @property
    def written(self) -> int:
        """How many masks were written."""
        return len(self.plan.pending) - self.failed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    arguments = parse_arguments(argv)
    try:
        return run(arguments)
    except ValueError as error:  # ConfigError, CheckpointError: one message, no traceback
        return report_mistake(error, "inference.py")
    except KeyboardInterrupt:
        if not launched_rank():
            print(
                "interrupted; the masks so far are complete, the same command continues",
                file=sys.stderr,
            )
        return 130


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `--help` and wrong options end the program here."""
    parser = Parser(DESCRIPTION, EPILOG)
    add = parser.add_argument
    add(
        "-m", "--model", required=True, metavar="PATH",
        help="the checkpoint: best_model.pth, or the folder of a run",
    )  # fmt: skip
    add(
        "-i", "--images", required=True, nargs="+", metavar="PATH",
        help="a folder (with all folders below it), an image, or a pattern like 'a/*.jpg'",
    )  # fmt: skip
    add(
        "--exclude", action="append", default=[], metavar="PATTERN",
        help="leave out images and folders of this name, such as '*_mask.*' or masks; with a / "
        "in it, of this path below --images: 'a/*.png'. Any number of times",
    )  # fmt: skip
    add(
        "-o",
        "--output",
        default="outputs",
        metavar="FOLDER",
        help="where the masks go (default: outputs)",
    )
    add(
        "-e", "--extension", metavar="EXT",
        help="only images with this extension, in any case (default: "
        + " ".join(extension[1:] for extension in IMAGE_EXTENSIONS)
        + ")",
    )  # fmt: skip
    add(
        "-mo", "--mode", choices=MODES, default=DEFAULT_MODE,
        help="multiscale: mean over six sizes of the image (default); sliding: mean over "
        "overlapping tiles, mirrored too; whole: one pass, the fastest",
    )  # fmt: skip
    add("-c", "--config", metavar="FILE", help="for a file of bare weights: the training's config")
    add("-d", "--device", help="cpu, cuda, or the number of a GPU (default: cuda if there is one)")
    add(
        "--exif", choices=("apply", "ignore"),
        help="turn images as their EXIF orientation says, and so their masks, or leave both as "
        "they are stored (default: as in training)",
    )  # fmt: skip
    add(
        "--overlay", action="store_true",
        help="also write <name>_overlay.png, to look at: classes outlined, and a legend",
    )  # fmt: skip
    add("--overwrite", action="store_true", help="replace masks that exist")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> int:
    """Predict all images that the arguments name; return the exit code.

    Several processes share the images. The main one finds them before any mask is written, reports
    on all of them, and has the exit code; the others end with 0.

    Raises:
        ValueError: If the arguments name nothing to do, or something that cannot be done.
    """
    model, chosen = find_model(arguments.model)
    if arguments.config is not None and not Path(arguments.config).is_file():
        raise ValueError(f"--config: there is no file {arguments.config}")
    if chosen and not launched_rank():
        print(plain_lines(chosen), flush=True)
    output = Path(arguments.output)
    check_output_path(output)
    if is_launched():
        from utils.devices import resolve_device
        from utils.distributed.collectives import PATIENCE_FOR_SHARES, init_process_group

        init_process_group(resolve_device(arguments.device).type, PATIENCE_FOR_SHARES)
    images = find_on_main(arguments.images, arguments.exclude, arguments.extension, output)
    plan = plan_of(images, arguments)
    outcome = predict(model, images, plan, arguments) if plan.pending else Outcome(plan)
    if is_launched():
        from utils.distributed.collectives import destroy_process_group

        destroy_process_group()
    if launched_rank():
        return 0
    report(model, outcome, arguments)
    return 1 if outcome.failed else 0


def plan_of(images: Sequence[ImageFile], arguments: argparse.Namespace) -> Plan:
    """Return the files to make of images; see `make_plan()`."""
    output, overlay = Path(arguments.output), arguments.overlay
    return make_plan(images, output, overlay=overlay, overwrite=arguments.overwrite)


def predict(
    model: str, images: Sequence[ImageFile], plan: Plan, arguments: argparse.Namespace
) -> Outcome:
    """Load the model and write what is missing.

    Raises:
        ValueError: If the model cannot be used, or no image is left.
    """
    from prediction.masks import images_for, load_model, write_masks
    from utils.runs.logger import log_to_console

    log_to_console(logging.ERROR if launched_rank() else logging.WARNING)
    predictor, meta, score = load_model(
        model,
        mode=arguments.mode,
        device=arguments.device,
        config=arguments.config,
        exif=arguments.exif,
    )
    wanted = images_for(meta, images, arguments.images)
    if wanted != images:
        plan = plan_of(wanted, arguments)
    run_on_main(lambda: make_output_folder(Path(arguments.output)))
    started = time.perf_counter()
    failed = write_masks(plan.pending, predictor, meta, overwrite=arguments.overwrite)
    seconds, written = time.perf_counter() - started, len(plan.pending) - failed
    return Outcome(
        plan, failed, how_made(arguments.mode, predictor.device, written / seconds), score
    )


def how_made(mode: str, device: torch.device, per_second: float) -> str:
    """Return how masks were made, and how fast, from files to files."""
    from utils.optim.precision import tf32_text
    from utils.progress import rate_text

    parts = [f"mode {mode}", rate_text(per_second, "image"), tf32_text(device)]
    return ", ".join(filter(None, parts))


def report(model: str, outcome: Outcome, arguments: argparse.Namespace) -> None:
    """Print what was written, and where the masks are not those that were scored."""
    written, failed, score = outcome.written, outcome.failed, outcome.score
    if written and score is not None and score.mode != arguments.mode:
        config = f" --config {shlex.quote(arguments.config)}" if arguments.config else ""
        command = f"python evaluate.py --model {shlex.quote(model)}{config} --mode {arguments.mode}"
        note = plain_lines(f"{score.sentence}; score this mode with: {command}")
        print(f"note: {note}", file=sys.stderr)
    kept = len(outcome.plan.jobs) - len(outcome.plan.pending)
    text = f"{written} {'mask' if written == 1 else 'masks'} written to {arguments.output}"
    if written and outcome.how:
        text += f" ({outcome.how})"
    if kept:
        text += f"; {kept} kept as they were (--overwrite replaces them)"
    if failed:
        text += f"; {failed} {'image' if failed == 1 else 'images'} failed, named above"
    print(text)


if __name__ == "__main__":
    sys.exit(main())
