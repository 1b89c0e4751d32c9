"""Where the products of many machines go: a folder that all of them see, or an object store."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from prediction.cluster import stores
from prediction.jobs.folders import Folders
from prediction.jobs.plan import check_output_path, make_output_folder
from utils.files.digest import digest_file


class Target(Protocol):
    """Where products go. A product is named by its path below it, with `/` on every system."""

    work: Path  # the folder that products are written to first
    is_remote: bool  # whether each question takes a request to a store

    def prepare(self) -> None:
        """Find out, before the work, whether anything can be written.

        Raises:
            ValueError: If not.
        """

    def real(self, path: str) -> str:
        """Return the one spelling of the path of an image or product."""

    def address(self, name: str) -> str:
        """Return where a product is in the end."""

    def lookup(self) -> Callable[[str], bool]:
        """Return what tells which products exist now, of many in a short time.

        Raises:
            ValueError: If that cannot be found out.
        """

    def exists(self, name: str) -> bool:
        """Return whether a product exists.

        Raises:
            DataError: If that cannot be found out.
        """

    def digest(self, name: str) -> str:
        """Return the digest of a product.

        Raises:
            DataError: If it is missing or cannot be read.
        """

    def deliver(self, name: str, *, wanted: bool) -> None:
        """Bring a complete product from the work folder to its place, or throw it away.

        Raises:
            DataError: If it cannot be written.
        """


class FolderTarget:
    """A folder: products are written where they stay, under a temporary name until complete.

    Args:
        folder: The folder, as all machines see it.
    """

    is_remote = False

    def __init__(self, folder: Path) -> None:
        self.work = folder
        self._folders = Folders()

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            ValueError: If it cannot be made or written to.
        """
        check_output_path(self.work)
        make_output_folder(self.work)

    def real(self, path: str) -> str:
        """Return a path without links."""
        return path if stores.is_store(path) else self._folders.real(path)

    def address(self, name: str) -> str:
        """Return the path of a product."""
        return os.path.join(self.work, name)

    def lookup(self) -> Callable[[str], bool]:
        """Return what tells from one listing of each folder whether a product exists."""
        there = Folders()
        return lambda name: there.exists(self.address(name))

    def exists(self, name: str) -> bool:
        """Return whether a product exists."""
        return os.path.exists(self.address(name))

    def digest(self, name: str) -> str:
        """Return the digest of a product.

        Raises:
            DataError: If it is missing or cannot be read.
        """
        return digest_file(self.address(name))

    def deliver(self, name: str, *, wanted: bool) -> None:
        """Do nothing: a product that is complete is where it belongs."""


class StoreTarget:
    """An object store: products are written to a temporary folder, and each is put at once.

    Args:
        address: Such as `s3://bucket/masks`.
    """

    is_remote = True

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self._folder = tempfile.TemporaryDirectory(prefix="products-")
        self.work = Path(self._folder.name)

    def prepare(self) -> None:
        """Find out whether the store can be opened.

        Raises:
            ValueError: If not.
        """
        stores.open_store(self._address)

    def real(self, path: str) -> str:
        """Return a path as it is: names of objects have one spelling."""
        return path

    def address(self, name: str) -> str:
        """Return the address of a product."""
        return stores.child(self._address, name)

    def lookup(self) -> Callable[[str], bool]:
        """Return what tells from one listing of the store whether a product exists.

        Raises:
            ValueError: If it cannot be listed.
        """
        return set(stores.objects_below(self._address)).__contains__

    def exists(self, name: str) -> bool:
        """Return whether a product exists.

        Raises:
            DataError: If the store cannot be asked.
        """
        return stores.exists(self.address(name))

    def digest(self, name: str) -> str:
        """Return the digest of a product.

        Raises:
            DataError: If it is missing or cannot be read.
        """
        return stores.digest_object(self.address(name))

    def deliver(self, name: str, *, wanted: bool) -> None:
        """Put a product, which is whole or not there, and remove the file.

        Raises:
            DataError: If it cannot be put.
        """
        path = self.work / name
        try:
            if wanted:
                stores.put(path, self.address(name))
        finally:
            path.unlink(missing_ok=True)


def target_of(output: str) -> Target:
    """Return where `--output` leads.

    Raises:
        ValueError: If a package for it is missing.
    """
    if stores.is_store(output):
        return StoreTarget(output)
    return FolderTarget(Path(os.path.abspath(output.removeprefix("file://"))))
