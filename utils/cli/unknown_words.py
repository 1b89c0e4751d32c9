"""The words of a command line that its parser does not know.

argparse itself names a missing argument first, and these not at all.
"""

import argparse
import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from utils.config.keys import USUAL_PATHS, normalised

ANY_NUMBER = 1 << 30


@dataclasses.dataclass(frozen=True)
class UnknownWord:
    """A word that a program does not know."""

    word: str  # the word
    values: tuple[str, ...] = ()  # the words behind it, which can be its values
    before: tuple[str, ...] = ()  # all words in front of it


def find_unknown(words: Sequence[str], parser: argparse.ArgumentParser) -> list[UnknownWord]:
    """Return the options that a parser does not know, and the words that belong to none."""
    options = parser._option_string_actions
    positionals = [a.nargs for a in parser._actions if not a.option_strings]
    found: list[UnknownWord] = []
    index = 0
    while index < len(words) and words[index] != "--":
        word, before = words[index], tuple(words[:index])
        index += 1
        if is_option(word):
            following = _values(words[index:])
            if _action(word, options) is None:
                name, equals, value = word.partition("=")
                values = (value,) if equals else following
                found.append(UnknownWord(name, values, before))
                index += 0 if equals else len(values)
            elif word in options:  # else its value is glued to it
                index += min(len(following), max_values(options[word].nargs))
        elif positionals:
            if positionals[0] not in ("*", "+"):
                positionals.pop(0)
        else:
            found.append(UnknownWord(word, before=before))
    return found


def is_option(word: str) -> bool:
    """Return whether argparse takes a word for an option rather than for a value."""
    if len(word) < 2 or not word.startswith("-") or re.fullmatch(r"-\d+|-\d*\.\d+", word):
        return False
    return " " not in word.partition("=")[0]


def max_values(nargs: int | str | None) -> int:
    """Return how many words an option takes at most."""
    if isinstance(nargs, int):
        return nargs
    return 1 if nargs in (None, "?") else ANY_NUMBER


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is meant; one of the same letters first, as in `--modle`."""
    known = list(known)
    same = [name for name in known if sorted(name) == sorted(word.lower())]
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.7)
    return next(iter([*same, *close]), None)


def _values(words: Sequence[str]) -> tuple[str, ...]:
    end = next((i for i, word in enumerate(words) if is_option(word)), len(words))
    return tuple(words[:end])


def _action(word: str, options: Mapping[str, argparse.Action]) -> argparse.Action | None:
    """Return the option that a word is, also with its value glued to it; None if there is none."""
    name = word.partition("=")[0]
    if name in options:
        return options[name]
    if word.startswith("--"):
        return None
    # `-ofolder` is `-o folder`; but who types `-config x` or `-lr 0.1` does not mean `-c onfig`.
    glued = name[1:]
    if normalised(glued.partition(".")[0]) in _glued_keys():
        return None
    long = [option for option in options if option.startswith("--")]
    if len(glued) > 3 and glued.isidentifier() and closest("-" + name, long):
        return None
    return next((a for o, a in options.items() if len(o) == 2 and word.startswith(o)), None)


def _glued_keys() -> set[str]:
    known = {key for keys in USUAL_PATHS.values() for key in keys}
    return known | {"optimizer", "trainer", "arch", "train_loader", "val_loader", "loss", "epochs"}
