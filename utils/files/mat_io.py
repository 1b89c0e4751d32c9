"""Arrays in MATLAB files."""

import io
import struct
import zlib
from types import ModuleType
from typing import Any

import numpy as np

from utils.files.data_file import DataError, StrPath, check_pixels, read_bytes

MAX_UNPACKED = 1 << 28  # bytes

_ORDER, _HEADER, _COMPRESSED = 126, 128, 15
_BLOCK = 1 << 20


def import_scipy() -> ModuleType:
    """Return `scipy.io`; a dataset calls this before training, not at its first mask.

    Raises:
        DataError: If SciPy is not installed.
    """
    try:
        import scipy.io
    except ImportError:
        raise DataError("masks in MATLAB files (.mat) need SciPy: pip install scipy") from None
    return scipy.io


def mat_shapes(path: StrPath) -> dict[str, tuple[int, ...]]:
    """Return the shape of each variable of a MATLAB file, from the headers alone.

    Raises:
        DataError: If the file is missing or damaged.
    """
    return _shapes(path, read_bytes(path))


def _shapes(path: StrPath, data: bytes) -> dict[str, tuple[int, ...]]:
    _check_unpacked(path, data)
    try:
        return {name: shape for name, shape, _ in import_scipy().whosmat(io.BytesIO(data))}
    except Exception as error:  # SciPy does not document what a damaged file raises
        raise _damaged(path, error) from None


def _check_unpacked(path: StrPath, data: bytes) -> None:
    """Refuse a file that unpacks to far more than a mask, before SciPy unpacks it.

    Format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf, chapter 1.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[_ORDER : _ORDER + 2])
    if order is None:
        return  # version 4 has no compression
    position, total = _HEADER, 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, position)
        position += 8
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            rest = data[position : position + size]
            try:
                while rest and not unpacker.eof:
                    total += len(unpacker.decompress(rest, _BLOCK))
                    rest = unpacker.unconsumed_tail
                    if total > MAX_UNPACKED:
                        raise DataError(
                            f"{path}: unpacks to more than {MAX_UNPACKED / 1e6:.0f} MB, which no "
                            "mask has; save the mask alone"
                        )
            except zlib.error:
                return  # SciPy raises a better error
        position += size


def _damaged(path: StrPath, error: Exception) -> DataError:
    return DataError(f"{path}: is not a MATLAB file, or is damaged ({error})")


def read_mat(path: StrPath, *names: str) -> np.ndarray:
    """Read a mask from a MATLAB file, versions 4 to 7.

    https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf

    Args:
        path: The file.
        names: The variable, then the fields that lead to the array in it.

    Returns:
        Ids (H, W), of the file's type.

    Raises:
        DataError: If the file is missing, damaged, or has no such array.
    """
    data = read_bytes(path)
    shapes = _shapes(path, data)
    if len(names) == 1 and len(shapes.get(names[0], ())) == 2:
        check_pixels(path, *reversed(shapes[names[0]]))
    try:
        value: Any = import_scipy().loadmat(io.BytesIO(data), variable_names=names[:1])
    except Exception as error:
        raise _damaged(path, error) from None
    for name in names:
        fields = value if isinstance(value, dict) else getattr(value, "dtype", np.dtype("u1")).names
        if name not in (fields or ()):
            there = ", ".join(shapes) or "nothing"
            raise DataError(f"{path}: has no {'.'.join(names)}, but {there}")
        value = value[name]
        if value.dtype == object and value.size == 1:
            value = value.item()
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "iu":
        raise DataError(f"{path}: {'.'.join(names)} is not an (H, W) array of whole numbers")
    check_pixels(path, value.shape[1], value.shape[0])
    return value
