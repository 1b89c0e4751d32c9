"""The images of `--images` for many machines: object stores and lists of their addresses, too."""

import argparse
import contextlib
import os
import posixpath
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from prediction.cluster import stores
from prediction.jobs.find_images import exclude, find_images, wanted_extensions
from prediction.jobs.image_file import ImageFile, is_address
from prediction.jobs.image_lists import read_entries
from prediction.jobs.source_kinds import LIST_EXTENSIONS, kind_of_source, stream_of


class Found(NamedTuple):
    """The images of a run."""

    images: list[ImageFile]
    unsafe: list[str]  # addresses whose names are no paths below a folder


def find_all(arguments: argparse.Namespace) -> Found:
    """Return all images that `--images` names; those on file systems with absolute paths.

    Raises:
        ValueError: If a source does not exist or cannot be used here, or has no image.
    """
    sources = [source.removeprefix("file://") for source in arguments.images]
    local, found = [], dict[str, str]()
    for source in sources:
        stored = _stored_images(source, arguments)
        if stored is None:
            local.append(source)
        elif stored:
            found.update(stored)
        else:
            raise ValueError(f"--images: no image in {source}")
    if local:
        found.update(_local_images(local, arguments))
    unsafe = [file for file, name in found.items() if not stores.is_safe_name(name)]
    for file in unsafe:
        del found[file]
    images = [ImageFile(*item) for item in found.items()]
    return Found(exclude(images, arguments.exclude) if images else [], unsafe)


def _local_images(sources: Sequence[str], arguments: argparse.Namespace) -> dict[str, str]:
    stream = stream_of(sources)
    if stream is not None:
        raise ValueError(f"--images: {sources[0]} is a {stream}, for one machine: use inference.py")
    images = find_images(
        sources,
        wanted_extensions(arguments.extension),
        Path(arguments.output),
        column=arguments.column,
        allow_download=arguments.allow_download,
    )
    return {file if is_address(file) else os.path.abspath(file): name for file, name in images}


def _stored_images(source: str, arguments: argparse.Namespace) -> dict[str, str] | None:
    """Return the images of a store that a source names, or None if it does not name a store."""
    if source.lower().endswith(LIST_EXTENSIONS):
        addresses = _stored_entries(source, arguments.column)
        return dict(named_objects(addresses)) if addresses else None
    if not stores.is_store(source):
        return None
    return dict(_objects(source, wanted_extensions(arguments.extension), arguments.output))


def _objects(source: str, extensions: Sequence[str], output: str) -> Iterator[tuple[str, str]]:
    """Yield the image that an address names, or those below it that are neither hidden nor ours."""
    if stores.is_object(source):
        yield source, posixpath.basename(source)
        return
    for name in stores.objects_below(source):
        address = stores.child(source, name)
        hidden = any(re.match(r"\.[^.]", part) for part in name.split("/"))
        ours = address.startswith(output.rstrip("/") + "/")
        if posixpath.splitext(name)[1].lower() in extensions and not hidden and not ours:
            yield address, name


def _stored_entries(source: str, column: str | None) -> list[str]:
    """Return the addresses that a list names; none if it names paths.

    Raises:
        ValueError: If it cannot be read, or names both.
    """
    with _local_list(source) as path:
        if not path.exists() or kind_of_source(str(path)) != "list":
            return []  # `find_images()` says what is wrong
        entries = read_entries(path, column)
    if stores.is_store(source):  # in which paths are relative to the list
        entries = [entry if "://" in entry else stores.sibling(source, entry) for entry in entries]
    addresses = [entry for entry in entries if stores.is_store(entry)]
    if addresses and len(addresses) < len(entries):
        other = next(entry for entry in entries if not stores.is_store(entry))
        raise ValueError(
            f"--images: {source} names {addresses[0]} and {other}; write a list of its own for "
            "what is not in the store"
        )
    return addresses


@contextlib.contextmanager
def _local_list(source: str) -> Iterator[Path]:
    if not stores.is_store(source):
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(prefix="list-") as folder:
        path = Path(folder, posixpath.basename(source))
        stores.fetch(source, path)
        yield path


def named_objects(addresses: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield addresses and their names: as in other lists, the path below the folder of all."""
    keys = {address: stores.key_of(address) for address in addresses}
    common = posixpath.commonpath({posixpath.dirname(key) for key in keys.values()})
    start = len(common) + 1 if common else 0
    for address, key in keys.items():
        # One with an empty folder in it, `a//b`, keeps its whole name, which is refused.
        yield address, key[start:] if key.startswith(f"{common}/") else key
