"""Object stores through fsspec: whatever has an address like `s3://bucket/folder`."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from utils.cli.sanitize import first_line
from utils.files.data_file import DataError
from utils.files.digest import CHUNK

# What has to be installed for a scheme beside fsspec, which comes with torch.
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs",
            "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}  # fmt: skip
_SCHEME = re.compile(r"([A-Za-z][A-Za-z\d+.-]*)://")


class Store(NamedTuple):
    """A place in an object store."""

    system: Any  # of fsspec
    path: str  # without the scheme


def is_store(text: str) -> bool:
    """Return whether a text is the address of something in an object store."""
    found = _SCHEME.match(text)
    return found is not None and found[1].lower() not in ("http", "https", "file")


def open_store(address: str) -> Store:
    """Return the place that an address names; nothing is asked of the store yet.

    Raises:
        ValueError: If fsspec does not know the scheme, or its package is missing.
    """
    scheme = address.partition("://")[0]
    try:
        from fsspec.core import url_to_fs

        # A list that is kept would hide what another process has written since.
        system, path = url_to_fs(address, use_listings_cache=False)
    except ImportError:
        package = PACKAGES.get(scheme.lower(), f"and what fsspec takes for {scheme}")
        message = f"{address}: takes other packages: pip install fsspec {package}"
        raise ValueError(message) from None
    except Exception as error:
        raise ValueError(f"{address}: cannot be opened ({first_line(error)})") from None
    return Store(system, path.rstrip("/"))


def is_object(address: str) -> bool:
    """Return whether an address names an object, and not the beginning of several names.

    Raises:
        ValueError: If the store cannot be asked.
    """
    store = open_store(address)
    try:
        return bool(store.system.isfile(store.path))
    except Exception as error:
        raise _unreadable(address, error) from None


def objects_below(address: str) -> Iterator[str]:
    """Yield the names of all objects below a folder, in order, as they are after its `/`.

    Raises:
        ValueError: If they cannot be listed.
    """
    store = open_store(address)
    try:
        paths = sorted(store.system.find(store.path))
    except Exception as error:
        raise _unreadable(address, error) from None
    start = store.path + "/"
    yield from (path[len(start) :] for path in paths if path.startswith(start))


def child(address: str, name: str) -> str:
    """Return the address of an object below another one."""
    return f"{address.rstrip('/')}/{name}"


def sibling(address: str, name: str) -> str:
    """Return the address of an object in the same folder."""
    return f"{address.rpartition('/')[0]}/{name}"


def key_of(address: str) -> str:
    """Return an address as a path: `s3://bucket/a.png` as `s3/bucket/a.png`."""
    return _SCHEME.sub(r"\1/", address, count=1)


def is_safe_name(name: str) -> bool:
    """Return whether the name of an object is a path that stays below a folder."""
    return not set(name) & {"\\", "\0"} and not set(name.split("/")) & {"", ".", ".."}


def fetch(address: str, path: Path) -> None:
    """Copy an object to a new file.

    Raises:
        DataError: If it cannot be read.
    """
    store = open_store(address)
    try:
        store.system.get_file(store.path, str(path))
    except Exception as error:
        raise _unreadable(address, error) from None


def put(path: Path, address: str) -> None:
    """Make a file an object, wholly or not at all; one that exists is replaced.

    Raises:
        DataError: If it cannot be written.
    """
    store = open_store(address)
    try:
        store.system.put_file(str(path), store.path)
    except Exception as error:
        raise DataError(f"{address}: cannot be written ({_reason(error)})") from None


def exists(address: str) -> bool:
    """Return whether there is such an object.

    Raises:
        DataError: If the store cannot be asked.
    """
    store = open_store(address)
    try:
        return bool(store.system.exists(store.path))
    except Exception as error:
        raise _unreadable(address, error) from None


def digest_object(address: str) -> str:
    """Return the SHA-256 of an object's bytes as 64 hexadecimal digits.

    Raises:
        DataError: If it cannot be read.
    """
    store, digest = open_store(address), hashlib.sha256()
    try:
        with store.system.open(store.path, "rb") as file:
            while data := file.read(CHUNK):
                digest.update(data)
    except Exception as error:
        raise _unreadable(address, error) from None
    return digest.hexdigest()


def _unreadable(address: str, error: Exception) -> DataError:
    return DataError(f"{address}: cannot be read ({_reason(error)})")


def _reason(error: Exception) -> str:
    """Return why a store refuses: of a missing object fsspec says no more than its name."""
    return "there is no such object" if isinstance(error, FileNotFoundError) else first_line(error)
