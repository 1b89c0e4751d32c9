"""The run of inference.py over files: find, plan, load, predict."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prediction.jobs.manifest import open_manifest
from prediction.jobs.plan import Work, find_on_main, make_output_folder, plan_work, run_on_main
from prediction.jobs.results_file import check_results_file
from prediction.jobs.shards import parse_shard, shard_path
from prediction.outputs import Outputs, RunProducts, settings_of
from prediction.products.summary_page import RunFacts
from prediction.provenance import Provenance
from utils.cli.launcher import launched_rank, local_world_size

# torch is loaded only once it is known that there is something to do.
if TYPE_CHECKING:
    from prediction.jobs.image_file import ImageFile
    from prediction.open_model import OpenedModel
    from prediction.predict_images import ImageRun
    from prediction.record import Recorder
    from prediction.source.image_source import ImageSource
    from utils.runs.last_score import LastScore

DEFAULT_WORKERS = 2


class Outcome(NamedTuple):
    """What has become of the images of all processes."""

    written: int = 0  # images whose products were written
    kept: int = 0  # images that had all of them before
    failed: int = 0
    how: str = ""  # how the masks were made and how fast; empty if none was
    score: LastScore | None = None  # how the model was scored last, if that is known
    text: str = ""  # what to print at the end, where it is more than the numbers of masks
    is_cut: bool = False  # whether the source ended before its time


def predict_files(models: Sequence[str], arguments: argparse.Namespace) -> Outcome:
    """Predict the images that the arguments name, as far as they are not done.

    Raises:
        ValueError: If there is nothing to predict, or something cannot be used.
    """
    output = Path(arguments.output)
    images: Sequence[ImageFile] = find_on_main(
        arguments.images,
        arguments.exclude,
        arguments.extension,
        output,
        column=arguments.column,
        allow_download=arguments.allow_download,
    )
    of_run = RunProducts(output, arguments.save)
    provenance = Provenance(models, arguments)
    work: Work | None = None
    if "class:" not in arguments.save:  # else the model has to say which classes there are
        outputs = Outputs.of(arguments.save, (), output, settings_of(arguments))
        work = _plan(images, outputs, of_run, provenance, arguments)
        if not work.pending:
            # The table or page of an earlier run may not have come to its end.
            run_on_main(lambda: of_run.complete(run_facts(models, arguments)))
            return Outcome(kept=len(work.images))
    opened = load(models, arguments)
    from prediction.predict_images import images_for

    wanted = images_for(opened.meta, images, arguments.images)
    if work is None or wanted != images:
        outputs = Outputs.of(arguments.save, opened.meta.classes, output, settings_of(arguments))
        work = _plan(wanted, outputs, of_run, provenance, arguments)
    run_on_main(lambda: make_output_folder(output))
    run_on_main(lambda: provenance.record(outputs))
    run = image_run(opened, outputs, of_run, arguments, processes=local_world_size())
    return _predict(models, run, opened.score, work, arguments)


def _plan(
    images: Sequence[ImageFile],
    outputs: Outputs,
    of_run: RunProducts,
    provenance: Provenance,
    arguments: argparse.Namespace,
) -> Work:
    """Return the images of this shard, and those to predict: with a manifest, it decides.

    Raises:
        ValueError: If products of one image would contradict each other, see
            `Provenance.check()`, or two images would give the same file.
    """
    shard = parse_shard(arguments.shard) if arguments.shard else None
    anew = arguments.overwrite or arguments.manifest is not None
    work = plan_work(images, outputs.paths, shard=shard, overwrite=anew)
    if of_run.opened and not anew:
        pending = {image.name for image in work.pending}
        missing = (i for i in work.images if i.name in pending or not of_run.have(i))
        work = Work(work.images, list(missing))
    run_on_main(lambda: provenance.check(work, outputs))
    return work


def load(models: Sequence[str], arguments: argparse.Namespace) -> OpenedModel:
    """Load the models as the arguments say.

    Raises:
        ValueError: If one cannot be used.
    """
    import logging

    from prediction.open_model import Passes, open_model
    from prediction.predictor.views import SCALES
    from utils.runs.logger import log_to_console

    log_to_console(logging.ERROR if launched_rank() else logging.WARNING)
    passes = Passes(
        arguments.mode,
        arguments.scales or SCALES,
        arguments.flip,
        arguments.merge,
        arguments.amp,
        arguments.compile,
    )
    return open_model(
        models,
        passes,
        weights=arguments.ensemble_weights,
        device=arguments.device,
        config=arguments.config,
        exif=arguments.exif,
    )


def image_run(
    opened: OpenedModel,
    outputs: Outputs,
    of_run: RunProducts,
    arguments: argparse.Namespace,
    opener: Callable[[ImageFile], ImageSource] | None = None,
    *,
    processes: int = 1,
) -> ImageRun:
    """Return what predicts images as the arguments say.

    Args:
        opened: The model.
        outputs: What is written of each image.
        of_run: The products of the whole run.
        arguments: The command line.
        opener: Opens an image that is no file; None for files.
        processes: How many processes like this one share the machine's memory.

    Raises:
        ValueError: If the windows or the memory are out of range.
    """
    from prediction.fields import copies_of
    from prediction.open_model import WITH_LOGITS
    from prediction.predict_images import ImageRun, Speed
    from prediction.predictor.memory import MemoryBudget
    from prediction.predictor.network import WINDOW_SIZES
    from prediction.predictor.windows import WindowRule

    wanted = outputs.needs & {"confidence", "entropy", "probabilities"}
    if not opened.has_scores and (wanted or arguments.unsure is not None):
        option = f"--save {arguments.save}" if wanted else "--unsure"
        raise ValueError(
            "--model: a file that gives class ids alone does not say how sure it is, as "
            f"{option} needs; {WITH_LOGITS}"
        )
    workers = DEFAULT_WORKERS if arguments.workers is None else arguments.workers
    budget = MemoryBudget(
        opened.predictor,
        opened.meta.channels,
        total=memory_of(arguments),
        rule=WindowRule(arguments.window or WINDOW_SIZES[0], arguments.overlap, arguments.blend),
        fixed=arguments.window is not None,
        ahead=workers + arguments.batch_size,
        processes=processes,
        classes=len(opened.meta.classes),
        copies=copies_of(outputs.needs),
    )
    return ImageRun(
        opened,
        outputs,
        budget,
        of_run=of_run,
        unsure=arguments.unsure,
        speed=Speed(workers, arguments.batch_size, arguments.large),
        replace=arguments.overwrite or arguments.manifest is not None,
        opener=opener,
    )


def memory_of(arguments: argparse.Namespace) -> int | None:
    """Return the bytes that `--memory` allows; None if it is not given.

    Raises:
        ValueError: If it is no size.
    """
    if arguments.memory is None:
        return None
    from utils.memory import parse_bytes

    try:
        return parse_bytes(arguments.memory)
    except ValueError as error:
        raise ValueError(f"--memory: {error}") from None


def _predict(
    models: Sequence[str],
    run: ImageRun,
    score: LastScore | None,
    work: Work,
    arguments: argparse.Namespace,
) -> Outcome:
    """Predict what is pending, and close the products of the run."""
    from prediction.predict_images import predict_all
    from utils.distributed.collectives import rank, world_size

    own = work.pending[rank() :: world_size()]
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        recorder = recorder_of(models, run, arguments, stack)
        counts = predict_all(run, own, len(work.pending), recorder)
    seconds = time.perf_counter() - started
    device = str(run.predictor.device)
    facts = run_facts(models, arguments, seconds, device)
    run_on_main(lambda: run.of_run.close(facts))
    kept = len(work.images) - len(work.pending) + counts.kept
    written = len(work.pending) - counts.kept - counts.failed
    how = how_made(run, written / seconds, arguments.mode) if written else ""
    return Outcome(written, kept, counts.failed, how, score)


def run_facts(
    models: Sequence[str],
    arguments: argparse.Namespace,
    seconds: float | None = None,
    device: str = "",
) -> RunFacts:
    """Return what the page of a run says about it."""
    date = f"{datetime.datetime.now():%Y-%m-%d %H:%M}"
    mode = arguments.mode if arguments.window is None else f"{arguments.mode}, {arguments.window}"
    return RunFacts(", ".join(models), mode, date, seconds=seconds, device=device)


def recorder_of(
    models: Sequence[str], run: ImageRun, arguments: argparse.Namespace, stack: contextlib.ExitStack
) -> Recorder | None:
    """Open the manifest, if one is wanted, until the stack is closed."""
    if arguments.manifest is None:
        return None
    from prediction.record import Recorder

    path = manifest_path(arguments)
    manifest = stack.enter_context(open_manifest(path, Path(arguments.output)))
    return Recorder(manifest, run.outputs, run.of_run, models, arguments, run.rule.paths)


def manifest_path(arguments: argparse.Namespace) -> Path:
    """Return the manifest's file, which has the shard in its name.

    Raises:
        ValueError: If it is of another kind, or something else has written it.
    """
    shard = parse_shard(arguments.shard) if arguments.shard else None
    path = shard_path(Path(arguments.manifest), shard)
    check_results_file(path)
    return path


def how_made(run: ImageRun, per_second: float, mode: str, unit: str = "image") -> str:
    """Return how masks were made, and how fast, from files to files."""
    from utils.optim.precision import tf32_text
    from utils.progress import rate_text

    views = run.predictor.views
    parts = [f"mode {mode}", rate_text(per_second, unit), views.precision.name]
    if not views.precision.name:
        parts.append(tf32_text(views.device))
    return ", ".join(filter(None, parts))
