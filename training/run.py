"""The steps of a training run: check, join the other ranks, build, open the run folder."""

import argparse
import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from base.base_dataloader import BaseDataLoader
from builders.data import build_loaders
from builders.resumable import OtherClassesError, check_classes
from builders.sections import SECTIONS
from builders.trackers import build_trackers
from builders.training import TrainingComponents, build_training
from inspection.survey import survey
from trainer import TRAINING_METRICS, VALIDATION_METRICS, Trainer
from training.messages import announce
from training.resume import Inputs, differences, load_state
from utils.checkpoint.last import put_back_previous
from utils.checkpoint.save_load import bytes_of, check_room, remove_leftovers
from utils.cli.command_line import DEFAULT_CONFIG
from utils.cli.signals import StopSignals
from utils.config.build import with_defaults
from utils.config.check import check_config
from utils.config.sections import Config
from utils.distributed.collectives import init_process_group, is_main, run_on_main_and_broadcast
from utils.files.atomic_write import write_text
from utils.optim.param_groups import state_size
from utils.runs.image_sets import ImageSets, fingerprints
from utils.runs.logger import RunFolder, RunLog, log_to_console
from utils.runs.run_lock import RunLock

logger = logging.getLogger("train")


def check_inputs(inputs: Inputs, arguments: argparse.Namespace) -> Config:
    """Check the config of a run.

    Raises:
        ConfigError: With all its problems.
    """
    metrics = VALIDATION_METRICS, TRAINING_METRICS
    source = arguments.config or arguments.resume or DEFAULT_CONFIG
    return check_config(inputs.tree, SECTIONS, source, *metrics, arguments.overrides)


def print_config(config: Config) -> None:
    """Print the config with every default."""
    print(json.dumps(with_defaults(config, SECTIONS), indent=4))


def start_logging_and_ranks(config: Config, device: torch.device) -> None:
    """Configure the console log, and join the process group if there are several ranks."""
    log_to_console(logging.INFO if is_main() else logging.ERROR)
    for warning in config.warnings:
        logger.warning(warning)
    if config.test_loader is not None:
        logger.warning("test_loader: training does not use it")
    init_process_group(device.type)


def build(config: Config, inputs: Inputs, device: torch.device, n_gpu: int) -> TrainingComponents:
    """Build what a `Trainer` needs, and survey the data, before any folder is made.

    Raises:
        ValueError: If something is wrong with data or model, or they do not fit the checkpoint.
        WorkerError: If a process that loads images has ended.
    """
    checkpoint = inputs.checkpoint
    try:
        loaders = build_loaders(config)
        if checkpoint is not None:
            # Before the survey, whose messages assume that the classes match.
            check_classes(checkpoint, loaders.train.source.classes)
        surveyed = survey(*loaders, held_out=config.val_loader is None)
        components = build_training(config, loaders, device, checkpoint)
    except OtherClassesError as error:
        raise ValueError(f"{error}; {inputs.new_run}") from None
    return components._replace(n_gpu=n_gpu, surveyed=surveyed)


@contextlib.contextmanager
def open_run(
    config: Config, components: TrainingComponents, inputs: Inputs, stop: StopSignals, lock: RunLock
) -> Iterator[Trainer]:
    """Open the run folder and its log, and yield the trainer, which resumes if that is asked for.

    Raises:
        ValueError: If the folder cannot be written to, the disk has no room for a checkpoint, or no
            run can go on from the one that is given.
    """
    checkpoint = inputs.checkpoint
    folder = _open_folder(config, components, inputs.run, lock)
    with RunLog(
        folder if is_main() else None,
        tensorboard=config.trainer.writes_tensorboard,
        state=None if checkpoint is None else checkpoint.logs,
        trackers=build_trackers(config, folder),
        # A copied checkpoint begins a run of its own.
        run_ids=None if checkpoint is None or inputs.run is None else checkpoint.loggers,
    ) as log:
        stop.remember()
        trainer = Trainer(
            **components._asdict(),
            config=config,
            folder=folder,
            log=log,
            stop=stop,
            images=_images_of(components) if is_main() else None,
        )
        if checkpoint is not None:
            load_state(trainer, checkpoint, folder.path)
            done = f", batch {trainer.batch}" if trainer.batch else ""
            logger.info("Resuming after epoch %d%s.", trainer.epoch, done)
            for change in differences(checkpoint.config, config.tree):
                logger.info("Changed: %s", change)
        log.code("config", json.dumps(config.tree, indent=4), trainer.step)
        announce(trainer)
        try:
            yield trainer
        finally:
            for loader in (trainer.train_loader, trainer.val_loader):
                if loader is not None:
                    loader.close()


def _open_folder(
    config: Config, components: TrainingComponents, run: Path | None, lock: RunLock
) -> RunFolder:
    """Make the folder of a new run, or tidy the one to go on in; the main rank writes."""
    if is_main():
        _check_disk(config, components, run or Path(config.trainer.save_dir))
    if run is None:
        run = Path(run_on_main_and_broadcast(lambda: _make_folder(config, lock), ValueError))
    if is_main():
        try:
            remove_leftovers(run)
            put_back_previous(run)
            text = json.dumps(config.tree, indent=4) + "\n"
            write_text(run / "config.json", text, overwrite=True)
        except OSError as error:
            raise ValueError(f"trainer.save_dir: cannot be written to ({error})") from None
    return RunFolder.of(run, config.trainer.log_dir, config.name)


def _check_disk(config: Config, components: TrainingComponents, folder: Path) -> None:
    copies = 1 if config.trainer.ema_decay is None else 2
    weights = bytes_of(components.model.state_dict())
    check_room(folder, copies * weights + state_size(components.optimizer))


def _make_folder(config: Config, lock: RunLock) -> str:
    """Make the folder of a new run and hold it; return its path."""
    settings = config.trainer
    folder = RunFolder.create(settings.save_dir, settings.log_dir, config.name)
    try:
        lock.take(folder.path)
    except OSError as error:
        raise ValueError(f"trainer.save_dir: cannot be written to ({error})") from None
    return str(folder.path)


def _images_of(components: TrainingComponents) -> ImageSets:
    """Return fingerprints of the training and the validation images, without opening one."""
    return ImageSets(*map(_fingerprints, (components.train_loader, components.val_loader)))


def _fingerprints(loader: BaseDataLoader | None) -> torch.Tensor:
    if loader is None:
        return fingerprints([])
    samples = [loader.source.samples[index] for index in loader.batches.indices.tolist()]
    return fingerprints(samples, loader.source.drawn_from)
