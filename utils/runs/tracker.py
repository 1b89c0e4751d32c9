"""What is common to the services that a run's curves are sent to, beside its own files."""

import abc
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple


class RunInfo(NamedTuple):
    """What a service is told of a run when it begins."""

    name: str  # the `name` of the config
    path: Path  # the run folder
    tensorboard: Path  # the folder of its TensorBoard files
    config: Mapping[str, Any]  # as the run stores it


class Tracker(abc.ABC):
    """A service for the curves of runs; any method can raise whatever its library does.

    `RunLog` then calls `abandon()` and no other method any more. Libraries are imported by
    `open()`, not before.

    Args:
        run: The run.
    """

    name: ClassVar[str]  # in `trainer.loggers`
    packages: ClassVar[dict[str, str]]  # what it imports, and what pip calls that

    def __init__(self, run: RunInfo) -> None:
        self.run = run

    @classmethod
    def missing(cls) -> list[str]:
        """Return the packages that are not installed."""
        return [package for name, package in cls.packages.items() if find_spec(name) is None]

    @abc.abstractmethod
    def open(self, run_id: str | None) -> str:
        """Begin a run, or continue the one of this id; return its id."""

    @abc.abstractmethod
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add one point to each named curve."""

    @abc.abstractmethod
    def best_checkpoint(self, path: Path, epoch: int) -> None:
        """Note where the best model so far is, and of which epoch."""

    @abc.abstractmethod
    def close(self, *, finished: bool) -> None:
        """End the run; it is not `finished` if it can be resumed."""

    @abc.abstractmethod
    def abandon(self) -> None:
        """Release what is held, after an error; raise nothing."""
