"""Types that a config can hold, with their ranges; every constructor is annotated with them."""

import dataclasses
from typing import Annotated, Literal

import msgspec

from utils.config.errors import show, suggest

PositiveInt = Annotated[int, msgspec.Meta(ge=1)]
NonNegativeInt = Annotated[int, msgspec.Meta(ge=0)]
PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]
NonNegativeFloat = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(gt=0, lt=1)]
LayerDecay = Annotated[float, msgspec.Meta(gt=0, le=1)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
# Labels are stored as 8- or 16-bit integers, so the ignored value has to fit into them.
LabelValue = Annotated[int, msgspec.Meta(ge=-32767, le=32767)]
Amp = Literal["auto", "bf16", "fp16"] | bool


@dataclasses.dataclass(frozen=True)
class Choices:
    """The names that a string argument can have: `Annotated[str, Choices(...)]`.

    Unlike `Literal`, they can be computed, and can leave a family of further names open.
    """

    names: tuple[str, ...]  # the names
    prefixes: tuple[str, ...] = ()  # names that begin with one of these are left to the constructor
    others: tuple[tuple[str, str], ...] = ()  # names of other programs, each with ours

    def problem(self, value: str) -> str:
        """Return why a value is no choice, with a suggestion; empty if it is one."""
        if value in self.names or value.startswith(self.prefixes):
            return ""
        shown = [*self.names, *(f"{prefix}<name>" for prefix in self.prefixes)]
        return f"{show(value)} is not a choice{suggest(value, shown, listing=True)}"

    def check(self, value: str, argument: str) -> None:
        """Refuse a value that is not a choice.

        Raises:
            ValueError: If `value` is none of the names and has none of the prefixes.
        """
        problem = self.problem(value)
        if problem:
            raise ValueError(f"{argument}: {problem}")
