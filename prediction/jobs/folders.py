"""What folders contain, asked of the folders instead of each file."""

import os
from typing import NamedTuple

# Paths of a folder that are looked at one by one before it is listed: one image of a folder of
# millions does not need the list.
MAX_SINGLE = 32


class _Listing(NamedTuple):
    names: frozenset[str]
    links: frozenset[str]
    folders: frozenset[str]
    real: str  # the folder's own path without links


class Folders:
    """Answers from one listing of each folder, much faster than one by one on a network drive.

    It does not see what changes later.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._listings: dict[str, _Listing | None] = {}

    def exists(self, path: str) -> bool:
        """Return whether a file or folder exists; a link that leads nowhere does not."""
        folder, name = os.path.split(path)
        listing = self._listing(folder)
        # Some file systems spell an umlaut in two ways.
        if listing is None or name in listing.links or not name.isascii():
            return os.path.exists(path)
        return name in listing.names

    def is_file(self, path: str) -> bool:
        """Return whether a path, or what a link leads to, exists and is not a folder."""
        folder, name = os.path.split(path)
        listing = self._listing(folder)
        if listing is None or name in listing.links or not name.isascii():
            return os.path.isfile(path)
        return name in listing.names and name not in listing.folders

    def real(self, path: str) -> str:
        """Return the absolute path without links."""
        folder, name = os.path.split(path)
        listing = self._listing(folder)
        if listing is None or name in listing.links:
            return os.path.realpath(path)
        return os.path.join(listing.real, name)

    def _listing(self, folder: str) -> _Listing | None:
        """Return what a folder contains; None if it is asked for rarely, or cannot be listed."""
        if folder not in self._listings:
            count = self._counts[folder] = self._counts.get(folder, 0) + 1
            if count <= MAX_SINGLE:
                return None
            self._listings[folder] = _list(folder)
        return self._listings[folder]


def _list(folder: str) -> _Listing | None:
    names, links, folders = [], [], []
    try:
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                names.append(entry.name)
                if entry.is_symlink():
                    links.append(entry.name)
                elif entry.is_dir():
                    folders.append(entry.name)
    except FileNotFoundError:
        pass  # it contains nothing
    except OSError:
        return None
    real = os.path.realpath(folder)
    return _Listing(frozenset(names), frozenset(links), frozenset(folders), real)
