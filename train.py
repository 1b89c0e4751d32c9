"""Train a model as a config says: read it, build the parts, run."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from utils.cli.command_line import Parser, add_overrides
from utils.cli.extensions import IMAGE_EXTENSIONS
from utils.cli.launcher import defer_to_main_process, destroy_group, launched_rank
from utils.cli.sanitize import first_line, plain_lines
from utils.cli.signals import EXIT_CODES, StopSignals, exit_ignoring_signals
from utils.runs.run_lock import RunLock

if TYPE_CHECKING:
    import torch

    from base.base_dataloader import BaseDataLoader
    from base.base_trainer import RunResult
    from utils.config.sections import Config
    from utils.runs.image_sets import ImageSets

DEFAULT_CONFIG = "config.json"

logger = logging.getLogger("train")


class Inputs(NamedTuple):
    """What a run begins with.

    Args:
        tree: The config, not checked yet.
        checkpoint: What to go on from; None begins a new run.
        run: The run folder to go on in; None makes a new one.
        source: The checkpoint's file.
        stamp: What `stamp_of(source)` was before it was read.
    """

    tree: dict[str, Any]
    checkpoint: dict[str, Any] | None = None
    run: Path | None = None
    source: Path | None = None
    stamp: tuple[int, ...] | None = None


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line; answers `--help` before anything heavy is imported."""
    parser = Parser(description=__doc__ or "")
    parser.add_argument(
        "-c", "--config", metavar="FILE", help=f"JSON or YAML file (default: {DEFAULT_CONFIG})"
    )
    parser.add_argument(
        "-r",
        "--resume",
        metavar="PATH|auto",
        help="go on from a checkpoint, a run folder, or the latest run of this name (auto)",
    )
    parser.add_argument(
        "-d", "--device", metavar="DEVICE", help="cpu, cuda, or GPU numbers such as 0 or 0,1"
    )
    add_overrides(parser)
    parser.add_argument(
        "--find-lr",
        metavar="STEPS",
        type=int,
        nargs="?",
        const=100,
        help="let the rate rise over some steps (100), draw the loss, suggest a rate, and end",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="check the config, print it with every default, and end",
    )
    arguments = parser.parse_args(argv)
    arguments.words = sys.argv[1:] if argv is None else list(argv)
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code: 2 for a user's mistake, 1 for a failed training."""
    arguments = parse_arguments(argv)
    try:
        with StopSignals(said=launched_rank() == 0) as stop, RunLock() as lock:
            check_arguments(arguments)
            return run_training(arguments, read_inputs(arguments), stop, lock)
    except ValueError as error:  # ConfigError, DataError, CheckpointError: one message, no trace
        defer_to_main_process()
        print(f"error: {plain_lines(str(error))}", file=sys.stderr)
        destroy_group()
        return 2


def check_arguments(arguments: argparse.Namespace) -> None:
    """Refuse what does not go together.

    Raises:
        ValueError: With what to do instead.
    """
    if arguments.find_lr is None:
        return
    if arguments.resume:
        raise ValueError("--find-lr begins with the weights of the config; leave out --resume")
    if arguments.find_lr < 10:
        raise ValueError(f"--find-lr {arguments.find_lr}: a curve needs at least 10 steps")


def read_inputs(arguments: argparse.Namespace) -> Inputs:
    """The config's tree and, to resume, the checkpoint and its run folder."""
    from utils.checkpoint.resume import (
        changes_classes,
        differences,
        find_latest,
        load_last,
        named_checkpoint,
        stamp_of,
    )
    from utils.config.errors import ConfigError
    from utils.config.file import apply_overrides, include_pipelines, parse_config

    if arguments.resume in (None, "auto"):
        tree = parse_config(arguments.config or DEFAULT_CONFIG)
        tree = apply_overrides(tree, arguments.overrides)
        path = find_latest(tree) if arguments.resume else None
        if path is None:
            if arguments.resume and not launched_rank():
                print("no earlier run to resume; starting a new one")
            return Inputs(include_pipelines(tree))
    else:
        path = named_checkpoint(Path(arguments.resume))
    if not launched_rank():
        print(f"resuming {path}")
    from utils.checkpoint.content import check_content

    stamp = stamp_of(path)
    checkpoint = load_last(path)
    if checkpoint.get("config") is None:
        raise ConfigError(str(path), ["holds no config; it is not a checkpoint of a training run"])
    check_content(checkpoint, path, resuming=True)
    tree = checkpoint["config"]
    resumed = include_pipelines(apply_overrides(tree, arguments.overrides))
    if arguments.config is not None:
        given = apply_overrides(parse_config(arguments.config), arguments.overrides)
        changed = differences(resumed, include_pipelines(given))
        if changed:
            advice = {
                True: how_to_begin(arguments, path),
                False: "leave out --config, or change it with -o",
            }
            raise ConfigError(
                arguments.config,
                [f"{change}; {advice[changes_classes(change)]}" for change in changed],
            )
    run = path.parent if is_run_folder(path.parent, tree) else None
    return Inputs(resumed, checkpoint, run, path, stamp)


def how_to_begin(arguments: argparse.Namespace, checkpoint: Path) -> str:
    """What to write and to type where a run cannot go on with other classes."""
    from utils.checkpoint.resume import new_run_from

    return new_run_from(checkpoint, arguments.config, arguments.device, arguments.overrides)


def is_run_folder(folder: Path, tree: dict[str, Any]) -> bool:
    """Whether a run of this name wrote a folder; a checkpoint may have been copied elsewhere."""
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    name = stored.get("name") if isinstance(stored, dict) else None
    return (folder / "log.txt").is_file() and name == tree.get("name")


def run_training(
    arguments: argparse.Namespace, inputs: Inputs, stop: StopSignals, lock: RunLock
) -> int:
    """Check the config, build everything, train."""
    from utils.devices import resolve_training_device, restrict_visible_gpus

    restrict_visible_gpus(arguments.device)

    from base.base_trainer import Stopped, TrainingError
    from base.loader_stream import WorkerError
    from builders.data import build_loaders
    from builders.sections import SECTIONS
    from builders.training import build_training
    from inspection.survey import survey
    from trainer import TRAINING_METRICS, VALIDATION_METRICS, Trainer
    from training.lr_finder import find_rate
    from utils.checkpoint.resume import (
        OtherClassesError,
        check_classes,
        differences,
        put_back_previous,
    )
    from utils.checkpoint.save_load import bytes_of, check_room, remove_leftovers
    from utils.cli.launcher import is_launched, launch
    from utils.config.build import with_defaults
    from utils.config.check import check_config
    from utils.distributed.collectives import (
        destroy_process_group,
        init_process_group,
        is_main,
        is_peer_failure,
        run_on_main_and_broadcast,
    )
    from utils.optim.param_groups import state_size
    from utils.runs.logger import RunFolder, RunLog, log_to_console

    tree, checkpoint, run, *_ = inputs
    source = arguments.config or arguments.resume or DEFAULT_CONFIG
    figures = VALIDATION_METRICS, TRAINING_METRICS
    config = check_config(tree, SECTIONS, source, *figures, arguments.overrides)
    if arguments.print_config:
        print(json.dumps(with_defaults(config, SECTIONS), indent=4))
        return 0
    device, n_gpu = resolve_training_device(arguments.device, config)
    if n_gpu > 1 and config.parallel == "DistributedDataParallel" and arguments.find_lr is None:
        return launch(n_gpu, __file__, arguments.words)
    log_to_console(logging.INFO if is_main() else logging.ERROR)
    for warning in config.warnings:
        logger.warning(warning)
    if config.test_loader is not None:
        logger.warning("test_loader: training does not use it")
    if is_launched():
        if arguments.find_lr is not None:
            raise ValueError("--find-lr runs in one process; leave out torchrun")
        init_process_group(device.type)
    if not hold_run(inputs, lock):
        logger.info("%s has changed since it was read; reading it again", inputs.source)
        return run_training(arguments, read_inputs(arguments), stop, lock)
    if arguments.find_lr is not None:
        # Once built, a schedule has changed rates and momenta, before any step.
        config = dataclasses.replace(config, lr_scheduler=None)
    # Everything that can be wrong with data or model is found before a folder is made.
    try:
        loaders = build_loaders(config)
        # First: the survey would speak of the wrong classes.
        stored = (checkpoint or {}).get("meta") or {}
        check_classes(stored.get("classes"), loaders.train.source.classes)
        surveyed = survey(*loaders, held_out=config.val_loader is None)
        parts = build_training(config, loaders, device, checkpoint)
    except WorkerError as error:  # while class weights are counted
        logger.error("%s", error)
        return 1
    except OtherClassesError as error:
        assert inputs.source is not None
        raise ValueError(f"{error}; {how_to_begin(arguments, inputs.source)}") from None
    if arguments.find_lr is not None:
        found = find_rate(config, parts, device, n_gpu, arguments.find_lr, surveyed)
        return 0 if found else 1
    train_loader, val_loader = parts.train_loader, parts.val_loader
    settings = config.trainer
    if is_main():
        weights = bytes_of(parts.model.state_dict())
        averaged = settings.ema_decay is not None
        size = weights * (1 + averaged) + state_size(parts.optimizer)
        check_room(run or Path(settings.save_dir), size)
    if run is None:
        run = Path(run_on_main_and_broadcast(lambda: make_run_folder(config, lock), ValueError))
    folder = RunFolder.of(run, settings.log_dir, config.name)
    own_folder = folder if is_main() else None
    if is_main():
        try:
            remove_leftovers(run)
            put_back_previous(run)
            write_config(config, run / "config.json")
        except OSError as error:
            raise ValueError(f"trainer.save_dir: cannot be written to ({error})") from None
    logged = checkpoint.get("logs") if checkpoint is not None else None
    with RunLog(own_folder, tensorboard=settings.tensorboard, state=logged) as log:
        stop.remember()
        trainer = Trainer(
            **parts._asdict(),
            surveyed=surveyed,
            device=device,
            n_gpu=n_gpu,
            config=config,
            folder=folder,
            log=log,
            stop=stop,
            images=images_of(train_loader, val_loader) if is_main() else None,
        )
        if checkpoint is not None:
            load_state(trainer, checkpoint, len(train_loader), run)
            done = f", batch {trainer.batch}" if trainer.batch else ""
            logger.info("Resuming after epoch %d%s.", trainer.epoch, done)
        if checkpoint is not None:
            for change in differences(checkpoint["config"], config.tree):
                logger.info("Changed: %s", change)
        log.code("config", json.dumps(config.tree, indent=4), trainer.step)
        announce(config, trainer, device, folder.path)
        try:
            result = trainer.train()
        except (TrainingError, WorkerError) as error:
            defer_to_main_process()
            logger.error("%s%s", error, how_to_go_on(folder.path))
            return 1
        except ValueError as error:
            defer_to_main_process()
            logger.error("%s", error)
            return 2
        except Stopped as stopped:
            number = stopped.signal_number
            logger.warning("%s%s", signal.Signals(number).name, how_to_go_on(folder.path))
            return EXIT_CODES[number]
        except BaseException as error:
            if is_peer_failure(error):
                defer_to_main_process()
                logger.error("another process has ended%s", how_to_go_on(folder.path))
                return 1
            logger.exception("the program failed")  # the log keeps the traceback
            raise
        if is_main():
            labelled = trainer.meta.get("labelled_classes")
            finish(config, result, train_loader if val_loader is None else val_loader, labelled)
        report_skipped(train_loader, val_loader)
    destroy_process_group()
    return 0


def hold_run(inputs: Inputs, lock: RunLock) -> bool:
    """Keep other programs out of the run folder to go on in, if there is one.

    All processes have to call this; the main one takes the lock.

    Returns:
        Whether the checkpoint is still the one that every process has read. Else another program
        has written it, and has ended before the lock was taken; the lock is free again.

    Raises:
        ValueError: On every process, if another program is using the folder.
    """
    from utils.checkpoint.resume import stamp_of
    from utils.distributed.collectives import all_gather_json, run_on_main_and_broadcast

    run, source = inputs.run, inputs.source
    if run is None or source is None:
        return True

    def take() -> None:
        try:
            lock.take(run)
        except OSError as error:
            raise ValueError(f"trainer.save_dir: cannot be written to ({error})") from None
        except ValueError as error:
            raise ValueError(f"{error}, or start a new run without --resume") from None

    run_on_main_and_broadcast(take, ValueError)
    if all(all_gather_json(stamp_of(source) == inputs.stamp)):
        return True
    lock.release()
    return False


def make_run_folder(config: Config, lock: RunLock) -> str:
    """Make the folder of a new run and hold it; return its path.

    Raises:
        ValueError: If that cannot be done.
    """
    from utils.runs.logger import RunFolder

    settings = config.trainer
    folder = RunFolder.create(settings.save_dir, settings.log_dir, config.name)
    try:
        lock.take(folder.path)
    except OSError as error:
        raise ValueError(f"trainer.save_dir: cannot be written to ({error})") from None
    return str(folder.path)


def load_state(trainer: Any, checkpoint: dict[str, Any], steps_per_epoch: int, run: Path) -> None:
    """Let the trainer go on where a checkpoint stands.

    Raises:
        ValueError: If it cannot.
    """
    try:
        trainer.load_state_dict(checkpoint, steps_per_epoch)
    except Exception as error:
        # What stands in an optimizer's or a generator's state is theirs, so it can raise anything.
        raise ValueError(
            f"{run}: no run can go on from its checkpoint ({first_line(error)})"
        ) from None


def images_of(train_loader: BaseDataLoader, val_loader: BaseDataLoader | None) -> ImageSets:
    """The images that a run trains with and is validated on, without opening one."""
    from utils.runs.image_sets import ImageSets, fingerprints

    sets = []
    for loader in (train_loader, val_loader):
        places = [] if loader is None else loader.batches.indices.tolist()
        source = train_loader.source if loader is None else loader.source
        sets.append(fingerprints([source.samples[i] for i in places], source.drawn_from))
    return ImageSets(*sets)


def write_config(config: Config, path: Path) -> None:
    """Keep the config beside the checkpoints; nobody ever finds half of it."""
    from utils.files.atomic_write import write_text

    write_text(path, json.dumps(config.tree, indent=4) + "\n", overwrite=True)


def how_to_go_on(run: Path) -> str:
    """What to type after an interruption."""
    if not (run / "last.pth").exists():
        return "; there is no checkpoint to go on from yet"
    return f"; go on with: python train.py --resume {shlex.quote(str(run))}"


def announce(config: Config, trainer: Any, device: torch.device, folder: Path) -> None:
    """What is about to run."""
    from utils.optim.param_groups import describe_groups
    from utils.runs.headings import data_folder, describe_arch, heading

    model = describe_arch(type(trainer.model), config.arch.args)
    folder_of_data = data_folder(config.train_loader.args)
    logger.info("%s", heading(config.name, model, config.train_loader.type, folder_of_data))
    parameters, trainable = trainer.model.num_parameters()
    logger.info(
        "%.2f M parameters (%.2f M train) on %s",
        parameters / 1e6,
        trainable / 1e6,
        device,
    )
    logger.info("precision: %s", trainer.precision.describe())
    logger.info(
        "%d training pictures, %d steps an epoch, %s",
        trainer.train_loader.num_samples,
        len(trainer.train_loader),
        f"{trainer.val_loader.num_samples} validation pictures"
        if trainer.val_loader is not None
        else "no validation",
    )
    groups = trainer.optimizer.param_groups
    if "name" in groups[0]:
        logger.info("Groups of parameters:\n%s", describe_groups(groups))
    logger.info("Run folder: %s", folder)


def finish(
    config: Config, result: RunResult, loader: BaseDataLoader, labelled_classes: int | None = None
) -> None:
    """Where the model is, how good it is, and what to do with it."""
    from utils.metrics.confusion import name_of
    from utils.samples.pairing import masks_within

    if result.checkpoint is None:
        return
    if result.score is None:
        logger.info("Last checkpoint: %s (epoch %d)", result.checkpoint, result.epoch)
    else:
        named = name_of(config.trainer.monitor.split()[1], labelled_classes)
        figure = f"{named} {result.score:.4f}"
        other = ", on other images" * result.on_other_images
        logger.info(
            "Best model: %s  %s (epoch %d%s)", result.checkpoint, figure, result.epoch, other
        )
    pictures = Path(loader.source.samples[0].image).parent
    images = pictures if pictures.is_dir() and str(pictures) != "." else Path("docs/samples")
    logs = config.trainer.save_dir.rstrip("/")
    if not Path(config.trainer.log_dir).resolve().is_relative_to(Path(logs).resolve()):
        logs = config.trainer.log_dir
    logger.info("Try next:")
    paths = [shlex.quote(str(path)) for path in (result.checkpoint, images, logs)]
    ending = Path(loader.source.samples[0].image).suffix.lower()
    more = f" --extension {ending[1:]}" if ending and ending not in IMAGE_EXTENSIONS else ""
    if not (loader.source.mask_prefix or loader.source.mask_suffix):  # else the checkpoint says it
        for pattern in masks_within(loader.source.samples, images):
            more += f" --exclude {shlex.quote(pattern)}"
    if config.trainer.val:
        logger.info("  python evaluate.py --model %s", paths[0])
    logger.info("  python inference.py --model %s --images %s%s", *paths[:2], more)
    if config.trainer.tensorboard:
        logger.info("  tensorboard --logdir %s", paths[2])


def report_skipped(*loaders: BaseDataLoader | None) -> None:
    """How many pictures the figures leave out."""
    for name, loader in zip(("train_loader", "val_loader"), loaders, strict=True):
        if loader is not None and (loader.bad or loader.source.lost):
            logger.warning(
                "%s: %d of %d pictures could not be used and were skipped; python check.py names "
                "them",
                name,
                len(loader.bad) + loader.source.lost,
                len(loader.batches.indices) + loader.source.lost,
            )


if __name__ == "__main__":
    exit_ignoring_signals(main())
