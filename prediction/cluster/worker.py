"""What an actor does: it holds the model, and predicts the images of one call after the other."""

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import torch

from prediction.cluster.attempts import MAX_DEATHS
from prediction.cluster.calls import Report, Result, Todo, pack_report, unpack
from prediction.cluster.predict_call import CallPredictor
from prediction.cluster.targets import target_of
from prediction.outputs import Outputs, RunProducts, settings_of
from prediction.predict_files import DEFAULT_WORKERS, image_run, load
from utils.cli.sanitize import first_line
from utils.files.file_notes import collect_notes


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all actors have in common."""

    arguments: argparse.Namespace  # the command line, with absolute paths
    digests: tuple[str, str] | None  # of models and settings, for a manifest
    actors: int
    threads: int  # of torch and OpenCV


class Counting(Protocol):
    """What `Attempts` does, wherever it is."""

    def load(self) -> int:
        """See `Attempts.load()`."""

    def loaded(self) -> None:
        """See `Attempts.loaded()`."""

    def begin(self, names: Sequence[str]) -> bool:
        """See `Attempts.begin()`."""

    def begin_alone(self, name: str) -> int:
        """See `Attempts.begin_alone()`."""

    def end_alone(self, name: str) -> None:
        """See `Attempts.end_alone()`."""

    def end(self, names: Sequence[str]) -> None:
        """See `Attempts.end()`."""


class Worker:
    """Predicts images as `inference.py` does, and reports what has become of them.

    Args:
        setup: What all actors have in common.
        models: The contents of the checkpoints.
        config: The content of `--config`; None without one.
        attempts: Counts what was begun, for all actors.
        neighbours: How many actors share the memory of this machine.
    """

    def __init__(
        self,
        setup: Setup,
        models: Sequence[bytes],
        config: bytes | None,
        attempts: Counting,
        neighbours: int = 1,
    ) -> None:
        self._attempts = attempts
        self._problem = ""  # why there is no model; a report says so, as it has no traceback
        if attempts.load() >= setup.actors * (MAX_DEATHS + 1) - 1:
            self._problem = (
                "the processes that load the model are killed, so most likely there is too little "
                "memory for it; see the logs of Ray, or take fewer actors for each machine"
            )
            return
        torch.set_num_threads(setup.threads)
        cv2.setNumThreads(setup.threads)
        try:
            self._predictor = _open(setup, models, config, neighbours)
        except (ValueError, RuntimeError, OSError) as error:
            self._problem = f"an actor cannot load the model: {first_line(error)}"
        attempts.loaded()

    def call(self, text: str) -> str:
        """Predict the images of `pack()`, and return the `Report` of `pack_report()`.

        If a process was killed at this before, the images go one by one, and what is there stays.
        """
        if self._problem:
            return pack_report(Report(stop=self._problem))
        todos = unpack(text)
        names = [todo.name for todo in todos]
        originals: dict[str, str] = {}
        with collect_notes() as file_notes:
            try:
                if self._attempts.begin(names):
                    results = [self._alone(todo, originals) for todo in todos]
                else:
                    results = self._predictor.predict(todos, originals)
            except ValueError as error:  # the disk is full, or there is too little memory
                return pack_report(Report(stop=str(error)))
        self._attempts.end(names)
        notes = [_renamed(note, originals) for note in self._predictor.run.predictor.notes]
        renamed = [n._replace(path=originals.get(n.path, n.path)) for n in file_notes]
        return pack_report(Report(results, notes, renamed))

    def _alone(self, todo: Todo, originals: dict[str, str]) -> Result:
        """Predict one image, unless it is what ends the processes."""
        if self._attempts.begin_alone(todo.name) >= MAX_DEATHS:
            reason = (
                f"{MAX_DEATHS} processes were killed while they predicted it, so most likely there "
                "is too little memory; --memory or --window bounds it"
            )
            return Result(todo.name, reason)
        (result,) = self._predictor.predict([todo], originals, repeated=True)
        self._attempts.end_alone(todo.name)
        return result


def _open(
    setup: Setup, models: Sequence[bytes], config: bytes | None, neighbours: int
) -> CallPredictor:
    """Load the model.

    Raises:
        ValueError: If it cannot be used here.
    """
    arguments = setup.arguments
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        paths = [_written(folder, f"{n}.pth", data) for n, data in enumerate(models)]
        own = argparse.Namespace(**vars(arguments))
        if config is not None:
            own.config = _written(folder, f"config{Path(arguments.config).suffix}", config)
        opened = load(paths, own)
    target = target_of(arguments.output)
    outputs = Outputs.of(arguments.save, opened.meta.classes, target.work, settings_of(arguments))
    of_run = RunProducts(target.work, arguments.save)
    workers = DEFAULT_WORKERS if arguments.workers is None else arguments.workers
    return CallPredictor(
        image_run(opened, outputs, of_run, arguments, processes=neighbours),
        target,
        digests=setup.digests,
        overwrite=arguments.overwrite,
        threads=max(1, workers),
    )


def _written(folder: str, name: str, data: bytes) -> str:
    path = Path(folder, name)
    path.write_bytes(data)
    return str(path)


def _renamed(text: str, originals: dict[str, str]) -> str:
    """Return a note with the addresses of objects instead of the names of their copies."""
    for copy, address in originals.items():
        text = text.replace(copy, address)
    return text
