"""The folder of a run, its log, and its curves in TensorBoard and elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import logging
import math
import os
import random
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from tqdm import tqdm

from utils.cli.sanitize import first_line, plain_lines
from utils.config.secrets import hide_secrets
from utils.runs.metrics_csv import MetricsCsv, count_lines, keep_lines
from utils.runs.tracker import Tracker

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


STEPS = "steps.jsonl"
METRICS = "metrics.csv"
TENSORBOARD = "the TensorBoard file"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folders of a run's checkpoints and of its curves."""

    path: Path
    tensorboard: Path

    @classmethod
    def create(cls, save_dir: str, log_dir: str, name: str) -> RunFolder:
        """Make a new `<save_dir>/<name>/<time>/`; further runs of the same second get a number.

        Raises:
            ValueError: If the folder cannot be made.
        """
        time = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        parent = Path(save_dir, name)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for attempt in range(1, 1000):
                path = parent / (time if attempt == 1 else f"{time}_{attempt}")
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return cls(path, Path(log_dir, name, path.name))
        except OSError as error:
            raise ValueError(
                f"trainer.save_dir: cannot make a folder in {parent} ({error.strerror})"
            ) from None
        raise ValueError(f"trainer.save_dir: {parent} has a thousand runs of this second")

    @classmethod
    def of(cls, path: Path, log_dir: str, name: str) -> RunFolder:
        """Return the folder of an existing run."""
        return cls(path, Path(log_dir, name, path.name))


class _ConsoleHandler(logging.Handler):
    """Writes to the terminal without tearing a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stdout if record.levelno < logging.WARNING else sys.stderr
        tqdm.write(self.format(record), file=stream)
        stream.flush()


class _ConsoleFormatter(logging.Formatter):
    """Leaves messages as they are, and prefixes warnings and errors."""

    def format(self, record: logging.LogRecord) -> str:
        text = plain_lines(super().format(record))
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


def log_to_console(level: int = logging.INFO) -> None:
    """Print what the program logs from a level on; programs call this once, at their start."""
    root = logging.getLogger()
    if not any(isinstance(handler, _ConsoleHandler) for handler in root.handlers):
        handler = _ConsoleHandler()
        handler.setFormatter(_ConsoleFormatter("%(message)s"))
        root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)


class _LogFile(logging.FileHandler):
    """A log file that is closed with one warning when it cannot be written."""

    def handleError(self, record: logging.LogRecord) -> None:
        logging.getLogger().removeHandler(self)
        _warn(Path(self.baseFilename).name, sys.exc_info()[1])


def _warn(what: str, error: BaseException | None) -> None:
    reason = hide_secrets(first_line(error))
    logger.warning("%s cannot be written any further (%s); the training continues", what, reason)


class RunLog:
    """What a run writes besides its checkpoints: log, losses, metrics, TensorBoard files.

    A file or service that cannot be written is given up with a warning: it must not end a training.

    `steps.jsonl` has a line for each step: `{"step": 1, "epoch": 1, "loss": 2.5, "exact":
    "0x1.4000000000000p+1"}`, whose last value has every bit of the loss, for comparing runs.
    `metrics.csv` has a row for each epoch.

    Args:
        folder: The folder of the run; None writes nothing, as on all ranks but the first.
        tensorboard: Write TensorBoard files.
        state: What `state()` returned when the checkpoint was written from which the run continues:
            later lines are removed, so that none is duplicate.
        trackers: Where the curves go beside the TensorBoard files.
        run_ids: What `run_ids` was then: the runs that the trackers continue.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        *,
        tensorboard: bool,
        state: Mapping[str, int] | None = None,
        trackers: Sequence[Tracker] = (),
        run_ids: Mapping[str, str] | None = None,
    ) -> None:
        self.run_ids = dict(run_ids or {})  # by tracker, also of those that have been given up
        self._trackers: dict[str, Tracker] = {}
        self._finished = False
        self._folder = folder
        self._handler: logging.Handler = logging.NullHandler()
        self._writer: SummaryWriter | None = None
        self._steps: TextIO | None = None
        self._metrics: MetricsCsv | None = None
        self._excepthook = threading.excepthook
        if folder is None:
            return
        if state is not None:
            self._take_back(state)
        with self._or_give_up("log.txt"):
            self._handler = _LogFile(folder.path / "log.txt", encoding="utf-8")
            self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            logging.getLogger().addHandler(self._handler)
        with self._or_give_up(STEPS):
            self._steps = (folder.path / STEPS).open("a", encoding="utf-8")
        self._metrics = MetricsCsv(folder.path / METRICS)
        for tracker in trackers:  # before the writer of TensorBoard, which wandb listens to
            self._trackers[tracker.name] = tracker
            with self._tracking(tracker.name):
                self.run_ids[tracker.name] = tracker.open(self.run_ids.get(tracker.name))
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # half a second to import

            with self._or_give_up(TENSORBOARD):
                self._writer = SummaryWriter(str(folder.tensorboard))
            threading.excepthook = self._on_thread_error

    @contextlib.contextmanager
    def _or_give_up(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # TensorBoard raises whatever its thread met
            if what == STEPS:
                self._steps = None
            elif what == METRICS:
                self._metrics = None
            elif what == TENSORBOARD:
                self._writer = None
            elif what in self._trackers:
                self._trackers.pop(what).abandon()
            _warn(what, error)

    @contextlib.contextmanager
    def _tracking(self, name: str) -> Iterator[None]:
        """Let a tracker do something, with random numbers of its own: retries wait at random."""
        state = random.getstate()
        try:
            with self._or_give_up(name):
                yield
        finally:
            random.setstate(state)

    def _on_thread_error(self, error: threading.ExceptHookArgs) -> None:
        """Ignore errors of TensorBoard's thread: its next call raises them."""
        if not type(error.thread).__module__.startswith("tensorboard."):
            self._excepthook(error)

    def state(self) -> dict[str, int]:
        """Return the size in bytes of each file that is appended to; call `flush()` before.

        For `metrics.csv` it is the number of lines: its speeds have another length in every run,
        which would make the checkpoints differ.
        """
        state = {path.name: path.stat().st_size for path in self._files()}
        if self._folder is not None and (lines := count_lines(self._folder.path / METRICS)):
            state[METRICS] = lines
        return state

    def _files(self) -> list[Path]:
        if self._folder is None:
            return []
        steps = self._folder.path / STEPS
        events = self._folder.tensorboard.glob("events.out.*")
        return [path for path in (*events, steps) if path.is_file()]

    def _take_back(self, state: Mapping[str, int]) -> None:
        try:
            if self._folder is not None:
                keep_lines(self._folder.path / METRICS, state.get(METRICS, 0))
            for path in self._files():
                size = state.get(path.name, 0)
                if size:
                    os.truncate(path, min(size, path.stat().st_size))
                else:
                    path.unlink()
        except OSError as error:
            # Lines after the checkpoint would be duplicate.
            raise ValueError(
                f"{error.filename}: cannot be truncated to the checkpoint ({error.strerror}); make "
                "it writable, or move it away"
            ) from None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger().removeHandler(self._handler)
        with contextlib.suppress(OSError):  # of what it could not write
            self._handler.close()
        for name, file in self._open_files():
            with self._or_give_up(name):
                file.close()
        for name, tracker in list(self._trackers.items()):
            with self._tracking(name):
                tracker.close(finished=self._finished)
        threading.excepthook = self._excepthook

    def steps(self, epoch: int, losses: Iterable[tuple[int, float]]) -> None:
        """Append the number and the loss of steps of an epoch."""
        if self._steps is None:
            return
        with self._or_give_up(STEPS):
            for step, loss in losses:
                number = loss if math.isfinite(loss) else None  # JSON has no NaN
                entry = {"step": step, "epoch": epoch, "loss": number, "exact": loss.hex()}
                self._steps.write(json.dumps(entry) + "\n")

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """Add the row of an epoch to `metrics.csv`; None is an empty cell."""
        if self._metrics is not None:
            with self._or_give_up(METRICS):
                self._metrics.write(values)

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        """Add one point to each named curve, unless it is None."""
        known = {tag: value for tag, value in values.items() if value is not None}
        if self._writer is not None:
            with self._or_give_up(TENSORBOARD):
                for tag, value in known.items():
                    self._writer.add_scalar(tag, value, step)
        for name, tracker in list(self._trackers.items()):
            with self._tracking(name):
                tracker.scalars(known, step)

    def best_checkpoint(self, path: Path, epoch: int) -> None:
        """Tell the trackers where the best model so far is, and of which epoch."""
        for name, tracker in list(self._trackers.items()):
            with self._tracking(name):
                tracker.best_checkpoint(path, epoch)

    def finish(self) -> None:
        """Note that the training is complete; else the trackers show an interrupted run."""
        self._finished = True

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        """Add an image (H, W, 3) RGB."""
        if self._writer is not None:
            with self._or_give_up(TENSORBOARD):
                self._writer.add_image(tag, image, step, dataformats="HWC")

    def code(self, tag: str, text: str, step: int) -> None:
        """Add a text that TensorBoard shows verbatim, in a fixed-width font."""
        if self._writer is not None:
            with self._or_give_up(TENSORBOARD):
                # In Markdown, no text can end an indented block.
                block = "".join(f"    {line}\n" for line in text.splitlines())
                self._writer.add_text(tag, block, step)

    def flush(self) -> None:
        """Write what was added to the files, where a running TensorBoard finds it."""
        for name, file in self._open_files():
            with self._or_give_up(name):
                file.flush()

    def _open_files(self) -> list[tuple[str, Any]]:
        files = (STEPS, self._steps), (METRICS, self._metrics), (TENSORBOARD, self._writer)
        return [(name, file) for name, file in files if file is not None]
