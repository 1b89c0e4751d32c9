"""NumPy array files of any height, written row by row."""

from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

from utils.files.atomic_write import PendingFile
from utils.files.data_file import StrPath


class NpyWriter:
    """Write a .npy file of shape (H, W) or (K, H, W), whose rows come as (h, W) or (K, h, W).

    Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

    Args:
        path: The name of the complete file.
        shape: The shape of the whole array.
        dtype: Its type; rows of another type are converted.
        overwrite: Whether to replace a file of this name.

    Raises:
        FileExistsError: If the path exists and `overwrite` is off.
        OSError: If it cannot be written.
    """

    def __init__(
        self,
        path: StrPath,
        shape: tuple[int, ...],
        dtype: np.typing.DTypeLike,
        *,
        overwrite: bool = False,
    ) -> None:
        self._path, self._shape, self._dtype = Path(path), shape, np.dtype(dtype)
        self._rows = 0
        self._pending = PendingFile(path, overwrite=overwrite)
        header = {
            "descr": npy_format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": shape,
        }
        try:
            npy_format.write_array_header_1_0(self._pending.file, header)
            self._start = self._pending.file.tell()
        except BaseException:
            self.discard()
            raise

    def write(self, rows: np.ndarray) -> None:
        """Take the next rows, (h, W) or (K, h, W).

        Raises:
            ValueError: If there are more rows than the array has.
            OSError: If they cannot be written.
        """
        height, width = self._shape[-2:]
        count = rows.shape[-2]
        if self._rows + count > height:
            raise ValueError(f"{self._path}: row {self._rows + count} of {height} rows")
        file = self._pending.file
        for number, plane in enumerate(rows if rows.ndim == 3 else rows[None]):
            first = (number * height + self._rows) * width * self._dtype.itemsize
            file.seek(self._start + first)
            file.write(np.ascontiguousarray(plane, self._dtype).data)
        self._rows += count

    def finish(self) -> None:
        """Complete the file and give it its name.

        Raises:
            ValueError: If rows are missing.
            FileExistsError: If the path has come to exist and `overwrite` is off.
            OSError: If it cannot be written; nothing is left behind.
        """
        try:
            if self._rows != self._shape[-2]:
                raise ValueError(
                    f"{self._path}: {self._rows} of {self._shape[-2]} rows were written"
                )
            self._pending.finish()
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what has been written, unless the file is complete."""
        self._pending.discard()
