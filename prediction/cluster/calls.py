"""What goes to an actor and what comes back: plain data as one JSON text a call."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from prediction.jobs.image_file import ImageFile
from utils.files.file_notes import FileNote

# More images cost less overhead, fewer are spread more evenly and show progress more often.
MAX_IMAGES = 256
CALLS = 4  # for each actor, at least, so that none waits long for the last one


class Todo(NamedTuple):
    """An image to predict."""

    file: str
    name: str
    there: Sequence[str] = ()  # the products that exist and stay, in an object store
    row: Sequence[Any] | None = None  # what a manifest says of it; a `Row` if it is a result

    @property
    def image(self) -> ImageFile:
        """The image."""
        return ImageFile(self.file, self.name)


class Result(NamedTuple):
    """What has become of an image."""

    name: str
    error: str = ""  # "" if it has its products
    kept: bool = False  # whether it had them before
    image_sha256: str = ""  # with a manifest
    products: dict[str, tuple[str, str]] = {}  # noqa: RUF012  with a manifest; see `Row.files()`
    seconds: float = 0.0


class Report(NamedTuple):
    """What has become of a call."""

    results: Sequence[Result] = ()
    notes: Sequence[str] = ()  # of the predictor
    file_notes: Sequence[FileNote] = ()
    stop: str = ""  # why every other call would fail, too


def pack(todos: Sequence[Todo]) -> str:
    """Return images as a text. It is ASCII, so that any bytes in names come through."""
    return json.dumps(todos)


def unpack(text: str) -> list[Todo]:
    """Return the images of `pack()`."""
    return [Todo(*values) for values in json.loads(text)]


def pack_report(report: Report) -> str:
    """Return a report as a text."""
    return json.dumps(report)


def unpack_report(text: str) -> Report:
    """Return the report of `pack_report()`."""
    results, notes, file_notes, stop = json.loads(text)
    return Report(
        [Result(*values) for values in results],
        notes,
        [FileNote(*values) for values in file_notes],
        stop,
    )


def split(todos: Sequence[Todo], actors: int, batch_size: int) -> list[Sequence[Todo]]:
    """Return the images of each call, in order; whole batches, so that each is as in one process.

    Args:
        todos: All images.
        actors: How many actors share them.
        batch_size: How many images go through the network together.
    """
    size = min(MAX_IMAGES, -(-len(todos) // (CALLS * actors)))
    size = max(batch_size, size - size % batch_size)
    return [todos[start : start + size] for start in range(0, len(todos), size)]
