"""Every key that a config can have, and what to say about one that is none of them."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from utils.config.errors import suggest
from utils.config.keys import near_paths, one_of, paths_of
from utils.config.sections import (
    DERIVED,
    LOGGER_CLASSES,
    SECTION_CLASSES,
    Config,
    SectionSpec,
    TrainerSection,
)
from utils.config.signatures import signature_of

MAX_VALUE = 100  # characters of what was typed, in a message


def light_names() -> dict[str, list[str]]:
    """Return the keys that no class of a component declares, by path; the top is `""`."""
    return {
        "": [name for name in signature_of(Config) if name not in DERIVED],
        # At the top, `wandb` and `mlflow` are what people have called keys of their own.
        "trainer": [name for name in signature_of(TrainerSection) if name not in LOGGER_CLASSES],
        **{
            path: [name for name in signature_of(section) if name not in ("type", "args")]
            for path, section in SECTION_CLASSES.items()
        },
    }


def names_by_path(
    tree: Mapping[str, Any], sections: Mapping[str, SectionSpec]
) -> dict[str, Collection[str]]:
    """Return every key that a config with these classes can set, by path; the top is `""`."""
    names: dict[str, Collection[str]] = {**light_names()}
    for key, spec in sections.items():
        section = tree.get(key)
        name = section.get("type") if isinstance(section, dict) else section
        if isinstance(name, str) and name in spec.names():
            names[f"{key}.args"] = spec.schema(name)
        elif section is not None:
            names[f"{key}.args"] = signature_of(*spec.shared_args)
    return names


@dataclasses.dataclass(frozen=True)
class KnownKeys:
    """The keys of a config, to tell a mistyped or misplaced key from somebody's own."""

    # Every key that the config can set, by path.
    names: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)
    # Every key that it does set, by path.
    given: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)
    # What was typed with `-o`, by the whole path of its key.
    typed: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def judge(
        self, name: str, path: str, known: Collection[str], free: Collection[str], *, lenient: bool
    ) -> tuple[str, bool]:
        """Return what to say about an unknown key, and whether it is an error."""
        # Close to any name, also one that is set; but offered are those still free.
        found = self._paths_to(name, path)
        hint = self._describe(found, name, path)
        if lenient and not found:
            # A key of another section, mistyped; unless it is nearer to one of this.
            found = near_paths(name, self.names)
            if any(full.rpartition(".")[0] == path for full in found):
                found = []
            hint = self._guess(found, name, path)
        hint = hint or suggest(name, known)
        own = lenient and _join(path, name) not in self.typed and name[:2] != "__"
        if own and found and all(map(self._is_given, found)):
            return f"has no meaning here; what counts is {one_of(found)}", False
        if own and not hint:
            return "has no meaning here", False
        return hint or suggest(name, free, listing=bool(path)), True

    def _paths_to(self, name: str, path: str) -> list[str]:
        """Return where a key belongs that is in the wrong section, or has another name here."""
        found = paths_of(name, self.names)
        if path.endswith("_loader.args"):  # that another loader takes it is of no help to this one
            return [p for p in found if "_loader" not in p or p.startswith(f"{path}.")]
        return found

    def _is_given(self, full: str) -> bool:
        path, _, key = full.rpartition(".")
        return key in self.given.get(path, ())

    def _describe(self, found: Sequence[str], name: str, path: str) -> str:
        """Return where a key belongs, as the end of a message; nothing where that is not known."""
        if not found:
            return ""
        typed = self.typed.get(_join(path, name))
        if typed is not None:
            value = typed if len(typed) <= MAX_VALUE else "..."
            return f"; write {one_of(f'-o {full}={value}' for full in found)}"
        if all(full.rpartition(".")[0] == path for full in found):
            return f"; it is called {found[0].rpartition('.')[2]!r} here"
        return f"; it belongs to {one_of(p if '.' in p else f'the top ({p})' for p in found)}"

    def _guess(self, found: Sequence[str], name: str, path: str) -> str:
        """Return which keys a mistyped one can stand for, as the end of a message, or nothing."""
        if not found:
            return ""
        if _join(path, name) in self.typed:
            return f"; did you mean {self._describe(found, name, path).removeprefix('; write ')}?"
        return f"; did you mean {one_of(found)}?"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
