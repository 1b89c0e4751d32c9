"""A few real training steps: whether they fit in memory, and what they cost."""

from __future__ import annotations

import dataclasses
import statistics
import threading
import time
from pathlib import Path

import psutil
import torch

from base.base_dataloader import BaseDataLoader
from base.base_trainer import TrainingError
from base.batches import Batch
from builders.data import build_loaders
from builders.training import build_training
from inspection.finding import Finding
from trainer import Trainer
from utils.config.sections import Config
from utils.out_of_memory import is_out_of_memory
from utils.runs.logger import RunFolder, RunLog

TIMED_STEPS = 5
TIMED_BATCHES = 16
MAX_SECONDS = 20.0  # time for steps, and for batches; the first step is always taken


@dataclasses.dataclass(frozen=True)
class Group:
    """The parameters that an optimizer updates with one learning rate."""

    parameters: int
    rate: float


@dataclasses.dataclass(frozen=True)
class StepReport:
    """The measurements of the steps."""

    device: str  # where they were taken
    images: list[int]  # shape of the normalised images
    labels: list[int]  # shape of the labels
    logits: list[int]  # shape of the logits
    loss: float  # of the first step
    memory_bytes: int  # the peak, beyond what the program took before the first step
    memory_kind: str  # how it was measured
    parameters: int  # of the model
    groups: list[Group]  # those of the optimizer, in its order
    frozen: int  # parameters that do not train
    forgotten: int  # parameters that train and are in no group
    step_seconds: float  # forward, backward and update, the median of several
    load_seconds: float  # from batch to batch, with nothing else to do
    steps: int  # steps of an epoch
    epochs: int  # epochs of the training
    overlaps: bool  # whether loader processes work while the model computes

    @property
    def epoch_seconds(self) -> float:
        """Duration of an epoch without validation."""
        both = (self.step_seconds, self.load_seconds)
        return self.steps * (max(both) if self.overlaps else sum(both))

    @property
    def training_seconds(self) -> float:
        """Duration of the whole training without validation."""
        return self.epochs * self.epoch_seconds


def measure_step(trainer: Trainer) -> StepReport:
    """Take a few steps without log and folder; the model cannot be used afterwards.

    Raises:
        TrainingError: If the loss is not finite.
        DataError: If a sample cannot be used.
    """
    # The first step, whose memory is measured
    trainer.bad_losses.action = "raise"
    batch, load_seconds = _time_loading(trainer.train_loader)
    trainer.network.train()
    with _PeakMemory(trainer.device) as memory:
        images, labels = trainer.prepare_batch(batch)
        started = time.perf_counter()
        loss, prediction = trainer.train_batch(images, labels, batch)
        first_loss = loss.item()
        first_seconds = time.perf_counter() - started
    assert prediction is not None

    # Parameters, by what the optimizer does with them
    groups = [_group(group) for group in trainer.optimizer.param_groups]
    grouped = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    parameters = list(trainer.model.parameters())
    trainable = [p for p in parameters if p.requires_grad]
    return StepReport(
        device=_name(trainer.device),
        images=list(images.shape),
        labels=list(labels.shape),
        logits=[len(images), trainer.model.num_classes, *prediction.shape[1:]],
        loss=first_loss,
        memory_bytes=memory.peak,
        memory_kind=memory.kind,
        parameters=sum(p.numel() for p in parameters),
        groups=groups,
        frozen=sum(p.numel() for p in parameters if not p.requires_grad),
        forgotten=sum(p.numel() for p in trainable if id(p) not in grouped),
        step_seconds=_time_steps(trainer, batch, first_seconds),
        load_seconds=load_seconds,
        steps=len(trainer.train_loader),
        epochs=trainer.settings.epochs,
        overlaps=trainer.train_loader.num_workers > 0,
    )


def try_step(
    config: Config, device: torch.device, n_gpu: int
) -> tuple[StepReport | None, list[Finding]]:
    """Take a few steps of a training; if that fails, return the finding that says why."""
    try:
        components = build_training(config, build_loaders(config), device)
        trainer = Trainer(
            # A schedule ends with the training; these steps are not part of it.
            **components._replace(lr_scheduler=None, n_gpu=n_gpu)._asdict(),
            config=config,
            folder=RunFolder(Path(), Path()),
            log=RunLog(None, tensorboard=False),  # writes nothing
        )
        return measure_step(trainer), []
    except TrainingError as error:
        return None, [Finding("error", "loss", "", str(error), "see the message")]
    except ValueError as error:
        return None, [Finding("error", "step", "", str(error), "training would end here")]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        message = str(error).split(". ")[0]
        fix = "use a smaller batch_size, crop_size or model"
        return None, [Finding("error", "memory", "", message, fix)]


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _group(group: dict) -> Group:
    # A schedule may start at another learning rate than the config's.
    rate = group.get("initial_lr", group["lr"])
    return Group(sum(p.numel() for p in group["params"]), float(rate))


def _time_loading(loader: BaseDataLoader) -> tuple[Batch, float]:
    """Return the first batch, and the seconds from batch to batch after it."""
    started = time.perf_counter()
    batches = loader.epoch(1)
    first = next(batches)
    assert isinstance(first, Batch)
    after_first = time.perf_counter()
    count = 0
    for _ in batches:
        count += 1
        if count == TIMED_BATCHES or time.perf_counter() - after_first > MAX_SECONDS:
            break
    if not count:
        return first, after_first - started
    return first, (time.perf_counter() - after_first) / count


def _time_steps(trainer: Trainer, batch: Batch, first: float) -> float:
    """Return the median of a few steps with the transfer to the device.

    The first one, which warms up, is used only if there is no time for others.
    """
    seconds: list[float] = []
    while len(seconds) < TIMED_STEPS and first + sum(seconds) < MAX_SECONDS:
        started = time.perf_counter()
        images, labels = trainer.prepare_batch(batch)
        loss, _ = trainer.train_batch(images, labels, batch)
        loss.item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds or [first])


class _PeakMemory:
    """The peak of the memory in use, above the level at the start.

    On a GPU it is the memory that torch has allocated for tensors, on the CPU the growth of the
    process, sampled every few milliseconds.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.kind = "resident memory of the process"
        if device.type == "cuda":
            self.kind = "torch.cuda.max_memory_allocated, weights included"
        self.peak = 0
        self._process = psutil.Process()
        self._before = 0
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._before = self._process.memory_info().rss
            self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device)
        else:
            self._done.set()
            self._watcher.join()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._process.memory_info().rss - self._before)
            if self._done.wait(0.005):
                return
