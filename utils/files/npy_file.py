"""NumPy's array files as images."""

import numpy as np

from utils.files.data_file import DataError, StrPath, check_pixels

NPY_START = b"\x93NUMPY"


def read_npy(path: StrPath) -> np.ndarray:
    """Read an array as an image: (H, W), (H, W, C) or (C, H, W), bands on the shortest axis.

    Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

    Returns:
        (H, W, C) in the file's type and the machine's byte order.

    Raises:
        DataError: If the file is cut off, too large, or something else.
    """
    pixels = open_npy(path)
    check_pixels(path, pixels.shape[1], pixels.shape[0])
    return np.array(pixels, pixels.dtype.newbyteorder("="))


def open_npy(path: StrPath) -> np.ndarray:
    """Return an array as an image (H, W, C), mapped: its values are read when they are used.

    Raises:
        DataError: As `read_npy`.
    """
    try:
        # Memory-mapped, because the header may claim any size: mapping fails beyond the file's end.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise DataError(
            f"{path}: is cut off or not a plain array ({error}); save it again with numpy.save"
        ) from None
    return _orient(path, array)


def _orient(path: StrPath, array: np.ndarray) -> np.ndarray:
    """Return (H, W), (H, W, C) or (C, H, W) as (H, W, C)."""
    if array.ndim == 2:
        return array[..., None]
    if array.ndim == 3:
        first, second, third = array.shape
        if third < min(first, second):
            return array
        if first < min(second, third):
            return np.moveaxis(array, 0, 2)
    raise DataError(
        f"{path}: has an array of shape {array.shape}; expected (H, W), (H, W, C) or (C, H, W) "
        "with fewer bands than rows and columns"
    )
