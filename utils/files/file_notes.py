"""Oddities of files that are read nevertheless: noted, counted, reported once."""

import contextlib
import contextvars
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class FileNote(NamedTuple):
    """One oddity of one file."""

    path: str  # the file
    noun: str  # its kind, in the singular: `"JPEG"`
    what: str  # what it has: `"no end marker"`


_collector: contextvars.ContextVar[list[FileNote] | None] = contextvars.ContextVar(
    "file notes", default=None
)


def add_note(path: str | os.PathLike[str], noun: str, what: str) -> None:
    """Note an oddity for the current collector, if there is one."""
    notes = _collector.get()
    if notes is not None:
        notes.append(FileNote(os.fspath(path), noun, what))


@contextlib.contextmanager
def collect_notes() -> Iterator[list[FileNote]]:
    """Yield a list that gets the notes of all files that are read in this context."""
    notes: list[FileNote] = []
    token = _collector.set(notes)
    try:
        yield notes
    finally:
        _collector.reset(token)


def count_notes(notes: Iterable[FileNote]) -> list[str]:
    """Return one line a kind: `"3 JPEGs have no end marker, first: a.jpg"`."""
    files: dict[tuple[str, str], set[str]] = {}
    for note in notes:
        files.setdefault((note.noun, note.what), set()).add(note.path)
    lines = []
    for (noun, what), paths in files.items():
        verb = f"{noun} has" if len(paths) == 1 else f"{noun}s have"
        first = min(paths)
        lines.append(f"{len(paths)} {verb} {what}, first: {first}")
    return lines
