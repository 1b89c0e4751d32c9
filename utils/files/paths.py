"""File names from lists and annotations, kept below the folder that they belong in."""

import os
from pathlib import Path

from utils.files.data_file import DataError, StrPath

STORES = "SEGMENTATION_STORES"


class Root:
    """The folder that the names in a list, an annotation file or a config must not leave.

    Links are resolved: neither `..`, an absolute name nor a link gets out. The folder itself may be
    a link. A user whose data folder has links into a common store names the store in the
    environment variable `SEGMENTATION_STORES`, several folders separated as in `PATH`: no file can
    set that.

    Look-ups are cached, so make one for each list and do not keep it.

    Args:
        path: The folder.
        source: The file that the names are in, for messages.
    """

    def __init__(self, path: StrPath, source: object) -> None:
        self.path = Path(path)
        self._source = source
        stores = [store for store in os.environ.get(STORES, "").split(os.pathsep) if store]
        self._allowed = [os.path.realpath(folder) for folder in (path, *stores)]
        self._folders: dict[str, tuple[str, frozenset[str], bool]] = {}

    def inside(self, name: StrPath, folder: Path | None = None) -> Path:
        """Return the path of a name, without `..`, if it lies below the folder.

        Raises:
            DataError: If it lies outside.
        """
        text = os.fspath(name)
        if "\0" in text:
            raise DataError(f"{self._source}: {text!r} is not a file name: it contains a NUL")
        path = Path(os.path.normpath((folder or self.path) / text))
        real, is_safe = self._real(path)
        if is_safe or self._is_allowed(real):
            return path
        if not _is_below(os.path.abspath(path), os.path.abspath(self.path)):
            raise DataError(
                f"{self._source}: {text} lies outside the dataset's folder {self.path}; name a "
                'folder that contains all files as "data_dir"'
            )
        raise DataError(
            f"{self._source}: {text} is a link, or lies behind one, that leads out of the folder "
            f"{self.path} to {real}; if that is meant, set {STORES}={os.path.dirname(real)} in the "
            "environment"
        )

    def _real(self, path: Path) -> tuple[str, bool]:
        """Return where a path leads, and whether it is not a link and in an allowed folder.

        Each folder is listed only once, which is much faster on a network drive.
        """
        folder, name = os.path.split(path)
        if folder not in self._folders:
            real = os.path.realpath(folder)
            self._folders[folder] = (real, _links_in(folder), self._is_allowed(real))
        real, links, is_allowed = self._folders[folder]
        if name in links:
            return os.path.realpath(path), False
        return os.path.join(real, name), is_allowed

    def _is_allowed(self, real: str) -> bool:
        return any(_is_below(real, folder) for folder in self._allowed)


def _links_in(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder or ".") as entries:
            return frozenset(entry.name for entry in entries if entry.is_symlink())
    except OSError:
        return frozenset()


def _is_below(path: str, folder: str) -> bool:
    try:
        return os.path.commonpath((path, folder)) == folder
    except ValueError:  # on another drive
        return False
