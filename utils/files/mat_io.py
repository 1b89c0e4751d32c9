"""Arrays out of MATLAB files."""

from __future__ import annotations

import io
import os
from types import ModuleType
from typing import Any

import numpy as np

from utils.files.data_file import DataError, check_pixels, read_bytes


def import_scipy() -> ModuleType:
    """`scipy.io`; a dataset asks for it before training, not at its first mask.

    Raises:
        DataError: If SciPy is not installed.
    """
    try:
        import scipy.io
    except ImportError:
        raise DataError("masks in MATLAB files (.mat) need SciPy: pip install scipy") from None
    return scipy.io


def read_mat(path: str | os.PathLike[str], *names: str) -> np.ndarray:
    """Read a mask from a MATLAB file, versions 4 to 7.

    https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf

    Args:
        path: The file.
        names: The variable, then the fields that lead to the array in it.

    Returns:
        Ids (H, W), of the file's type.

    Raises:
        DataError: If the file is missing, damaged, or holds no such array.
    """
    scipy_io = import_scipy()
    data = read_bytes(path)
    try:
        value: Any = scipy_io.loadmat(io.BytesIO(data), variable_names=names[:1])
    except Exception as error:  # which ones a damaged file raises is documented nowhere
        raise DataError(f"{path}: is no MATLAB file, or damaged ({error})") from None
    for name in names:
        fields = value if isinstance(value, dict) else getattr(value, "dtype", np.dtype("u1")).names
        if name not in (fields or ()):
            raise DataError(f"{path}: holds no {'.'.join(names)}")
        value = value[name]
        if value.dtype == object and value.size == 1:
            value = value.item()
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "iu":
        raise DataError(f"{path}: {'.'.join(names)} is no (height, width) array of whole numbers")
    check_pixels(path, value.shape[1], value.shape[0])
    return value
