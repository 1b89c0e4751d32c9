"""GDAL through the optional package rasterio, as careful as our own readers."""

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from utils.files.data_file import DataError

# Memory for GDAL's own cache of blocks; its default is a twentieth of the machine's.
CACHE_BYTES = 64 << 20


def has_rasterio() -> bool:
    """Return whether the package rasterio is installed."""
    return importlib.util.find_spec("rasterio") is not None


def import_rasterio(reason: str) -> Any:
    """Return the module rasterio.

    Raises:
        DataError: If it is not installed; the message begins with `reason`.
    """
    if not has_rasterio():
        raise DataError(f"{reason}, which takes another package: pip install rasterio")
    import rasterio
    import rasterio.errors

    return rasterio


@contextmanager
def gdal_settings(**settings: Any) -> Iterator[None]:
    """Let GDAL open only the file that is named, with bounded memory, within this context."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    # Files beside a file, such as .aux.xml or .ovr, must not change its content.
    safe = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_CACHEMAX": CACHE_BYTES}
    with rasterio.Env(**{**safe, **settings}), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
