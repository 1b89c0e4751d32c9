"""The error of a config, and how its messages show values and suggestions."""

import difflib
import json
from collections.abc import Iterable, Sequence
from typing import Any


class ConfigError(ValueError):
    """All problems of a config, each with its path and its fix.

    Args:
        source: The file, for the first line of the message.
        problems: One line each, `"trainer.epochs: required key is missing"`.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        if len(self.problems) == 1:
            text = f"{source}: {self.problems[0]}"
        else:
            lines = "".join(f"\n  {problem}" for problem in self.problems)
            text = f"{source} has {len(self.problems)} problems:{lines}"
        super().__init__(text)


def suggest(name: str, options: Iterable[str], *, listing: bool = False) -> str:
    """Return `"; did you mean 'PSPNet'?"`, else the choices (if `listing`), else nothing."""
    options = list(options)
    by_lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {by_lower[close[0]]!r}?"
    if listing and options:
        return f"; choose from {', '.join(options)}"
    return ""


def show(value: Any) -> str:
    """Return a value as a file would contain it, cut to one line."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."
