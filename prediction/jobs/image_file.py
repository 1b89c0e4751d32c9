"""An image to predict: where it is, and the name that its outputs get."""

import os
from pathlib import Path
from typing import NamedTuple

from utils.files.data_file import StrPath


class ImageFile(NamedTuple):
    """An image to predict, as text: the `Path`s of a million images take a gigabyte."""

    file: str  # the file's path, or an http(s) address
    name: str  # its path below the folder, pattern or list that named it, with / on every system

    @property
    def path(self) -> Path:
        """The file; of an address there is none before `local_file()` has fetched it."""
        return Path(self.file)

    @property
    def relative(self) -> Path:
        """The name as a path."""
        return Path(self.name)

    def output(self, folder: StrPath, ending: str) -> str:
        """Return the file in the output folder that has the image's name and another ending.

        Its text is made without `Path`, which would take most of the time of planning.
        """
        return os.path.join(folder, os.path.splitext(self.name)[0] + ending)


def posix(path: str) -> str:
    """Return a path with the separators of an `ImageFile.name`."""
    return path if os.sep == "/" else path.replace(os.sep, "/")


def is_address(text: str) -> bool:
    """Return whether a text is an http(s) address rather than a path."""
    return text[:8].lower().startswith(("http://", "https://"))
