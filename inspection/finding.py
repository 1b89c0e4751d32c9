"""A problem that a training would have, and how to solve it."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from utils.samples.pairing import few

MAX_FILES = 3


@dataclasses.dataclass(frozen=True)
class Finding:
    """One problem."""

    # An error ends a training or spoils its metrics; a warning is for a person to judge.
    severity: Literal["error", "warning"]
    kind: str  # a fixed word for programs
    split: str  # `"train"`, `"val"`, `"test"`, or `""` for the config as a whole
    message: str  # what is wrong
    fix: str  # what to do
    # Every file concerned -> what is wrong with it, or nothing.
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        where = f" {self.split}:" if self.split else ""
        details = [f"{file} ({what})" if what else file for file, what in self.files.items()]
        files = f": {few(details, MAX_FILES)}" if details else ""
        return f"[{self.kind}]{where} {self.message}{files}"


def count(number: int, noun: str) -> str:
    """Return `"1 mask"`, `"2 masks"`, `"3 classes"`."""
    ending = "es" if noun.endswith(("s", "ch")) else "s"
    return f"{number} {noun}{ending * (number != 1)}"
