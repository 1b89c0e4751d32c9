"""Names of one file: the same path, a link, or a hard link."""

import os
from collections.abc import Iterable


class SameFiles:
    """Compares pairs of files; a folder is listed once, much faster on a network drive."""

    def __init__(self) -> None:
        self._inodes: dict[str, dict[str, int]] = {}

    def are_same(self, one: str, other: str) -> bool:
        """Return whether both names lead to one existing file."""
        if one == other:
            return True
        first, second = self._inode(one), self._inode(other)
        if first is None or second is None or first != second:
            return False
        try:
            # On some file systems the inode numbers of a listing are not those of the files.
            return os.path.samefile(one, other)
        except OSError:
            return False

    def in_any(self, files: Iterable[str], other: str) -> bool:
        """Return whether one of several names leads to the same file as the other."""
        return any(self.are_same(file, other) for file in files)

    def _inode(self, path: str) -> int | None:
        folder, name = os.path.split(path)
        if folder not in self._inodes:
            self._inodes[folder] = _inodes_in(folder)
        return self._inodes[folder].get(name)


def _inodes_in(folder: str) -> dict[str, int]:
    """Return name -> inode of the file that it leads to."""
    found = {}
    try:
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                try:
                    # A listing has the inode of the link itself.
                    is_link = entry.is_symlink()
                    found[entry.name] = os.stat(entry.path).st_ino if is_link else entry.inode()
                except OSError:
                    continue
    except OSError:
        pass
    return found
