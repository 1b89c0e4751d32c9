"""What `train.py` tells: what runs, why it ended, what to type next."""

import logging
import shlex
import signal
from pathlib import Path

from base.base_dataloader import BaseDataLoader
from base.base_trainer import RunResult, Stopped, TrainingError
from base.loader_stream import WorkerError
from trainer import Trainer
from utils.cli.extensions import IMAGE_EXTENSIONS
from utils.cli.launcher import defer_to_main_process
from utils.cli.signals import EXIT_CODES
from utils.config.sections import Config
from utils.distributed.collectives import is_main, is_peer_failure
from utils.metrics.confusion import name_of
from utils.optim.param_groups import describe_groups
from utils.runs.headings import data_folder, describe_arch, heading
from utils.samples.pairing import masks_within

logger = logging.getLogger("train")


def announce(trainer: Trainer) -> None:
    """Log what is about to run."""
    config = trainer.config
    model = describe_arch(type(trainer.model), config.arch.args)
    folder_of_data = data_folder(config.train_loader.args)
    logger.info("%s", heading(config.name, model, config.train_loader.type, folder_of_data))
    parameters, trainable = trainer.model.num_parameters()
    logger.info(
        "%.2f M parameters (%.2f M train) on %s", parameters / 1e6, trainable / 1e6, trainer.device
    )
    logger.info("precision: %s", trainer.precision.describe())
    logger.info(
        "%d training images, %d steps an epoch, %s",
        trainer.train_loader.num_samples,
        len(trainer.train_loader),
        f"{trainer.val_loader.num_samples} validation images"
        if trainer.val_loader is not None
        else "no validation",
    )
    groups = trainer.optimizer.param_groups
    if "name" in groups[0]:
        logger.info("Groups of parameters:\n%s", describe_groups(groups))
    logger.info("Run folder: %s", trainer.folder.path)


def report_failure(error: BaseException, run: Path) -> int:
    """Log why a training has ended early, and how to go on with it; call while handling the error.

    Returns:
        The exit code; an error that nobody expects is raised again.
    """
    match error:
        case Stopped(signal_number=number):
            logger.warning("%s%s", signal.Signals(number).name, how_to_go_on(run))
            return EXIT_CODES[number]
        case TrainingError() | WorkerError():
            code, message = 1, f"{error}{how_to_go_on(run)}"
        case ValueError():
            code, message = 2, str(error)
        case _ if is_peer_failure(error):
            code, message = 1, f"another process has ended{how_to_go_on(run)}"
        case _:
            logger.exception("the program failed")  # the log keeps the traceback
            raise error
    defer_to_main_process()
    logger.error("%s", message)
    return code


def how_to_go_on(run: Path) -> str:
    """Return the end of a message: what to type after an interruption."""
    if not (run / "last.pth").exists():
        return "; there is no checkpoint to go on from yet"
    return f"; go on with: python train.py --resume {shlex.quote(str(run))}"


def finish(trainer: Trainer, result: RunResult) -> None:
    """Log where the model is, how good it is, and what to do with it."""
    if is_main() and result.checkpoint is not None:
        _report_result(trainer, result, result.checkpoint)
    _report_skipped(trainer)


def _report_result(trainer: Trainer, result: RunResult, checkpoint: Path) -> None:
    if result.score is None:
        logger.info("Last checkpoint: %s (epoch %d)", checkpoint, result.epoch)
    else:
        named = name_of(trainer.monitored, trainer.meta.get("labelled_classes"))
        metric = f"{named} {result.score:.4f}"
        other = ", on other images" * result.on_other_images
        logger.info("Best model: %s  %s (epoch %d%s)", checkpoint, metric, result.epoch, other)
    logger.info("Try next:")
    loader = trainer.train_loader if trainer.val_loader is None else trainer.val_loader
    for command in next_commands(trainer.config, checkpoint, loader):
        logger.info("  %s", command)


def next_commands(config: Config, checkpoint: Path, loader: BaseDataLoader) -> list[str]:
    """Return what to type next: score, predict, look at the curves."""
    model = shlex.quote(str(checkpoint))
    first = Path(loader.source.samples[0].image)
    there = first.parent.is_dir() and str(first.parent) != "."
    images = first.parent if there else Path("docs/samples")
    predict = f"python inference.py --model {model} --images {shlex.quote(str(images))}"
    extension = first.suffix.lower()
    if extension and extension not in IMAGE_EXTENSIONS:
        predict += f" --extension {extension[1:]}"
    if not (loader.source.mask_prefix or loader.source.mask_suffix):  # else the checkpoint says it
        for pattern in masks_within(loader.source.samples, images):
            predict += f" --exclude {shlex.quote(pattern)}"
    commands = [predict]
    settings = config.trainer
    if settings.val:
        commands.insert(0, f"python evaluate.py --model {model}")
    if settings.writes_tensorboard:
        logs = settings.save_dir.rstrip("/")
        if not Path(settings.log_dir).resolve().is_relative_to(Path(logs).resolve()):
            logs = settings.log_dir
        commands.append(f"tensorboard --logdir {shlex.quote(logs)}")
    return commands


def _report_skipped(trainer: Trainer) -> None:
    """Warn of images that the metrics leave out."""
    loaders = {"train_loader": trainer.train_loader, "val_loader": trainer.val_loader}
    for name, loader in loaders.items():
        if loader is not None and (loader.bad or loader.source.lost):
            logger.warning(
                "%s: %d of %d images could not be used and were skipped; python check.py names "
                "them",
                name,
                len(loader.bad) + loader.source.lost,
                len(loader.batches.indices) + loader.source.lost,
            )
