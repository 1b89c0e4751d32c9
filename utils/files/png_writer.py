"""PNG files of any height, written row by row."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.files.atomic_write import PendingFile
from utils.files.data_file import StrPath
from utils.files.png_file import GREY, PALETTE, PNG_START, RGB
from utils.files.row_writer import RowBlocks

BLOCK_BYTES = 1 << 20  # raw bytes that are compressed at once
# Level and strategy. Measured on masks and photos, the files have 0.8 to 1.1 times the bytes of
# Pillow's, in a fifth to a third of the time.
FLAT = (6, zlib.Z_RLE)  # ids and their colours: nearly all differences are 0
PHOTO = (4, zlib.Z_DEFAULT_STRATEGY)
_UP = 2  # the filter that subtracts the row above; the best single one of all kinds of images
_HEADER_AT = len(PNG_START)


class PngWriter:
    """Write a PNG row by row: the bytes depend on the pixels, not on how many rows come at once.

    Format: https://www.w3.org/TR/png-3/

    Args:
        path: The name of the complete file.
        width: The width of the image in pixels.
        height: Its height; None to take as many rows as come.
        colour: `GREY` or `PALETTE` for rows (h, W), `RGB` for (h, W, 3).
        bits: 8, or for grey images also 16.
        palette: Up to 256 colours for `PALETTE`.
        flat: Whether neighbouring pixels are mostly equal, as in masks.
        overwrite: Whether to replace a file of this name.

    Raises:
        FileExistsError: If the path exists and `overwrite` is off.
        OSError: If it cannot be written.
    """

    def __init__(
        self,
        path: StrPath,
        width: int,
        height: int | None,
        *,
        colour: int = GREY,
        bits: int = 8,
        palette: Sequence[Sequence[int]] = (),
        flat: bool = True,
        overwrite: bool = False,
    ) -> None:
        self._width, self._height = width, height
        self._colour, self._bits = colour, bits
        level, strategy = FLAT if flat else PHOTO
        self._compressor = zlib.compressobj(level, zlib.DEFLATED, 15, 9, strategy)
        row_bytes = width * (3 if colour == RGB else bits // 8)
        self._row = ((width, 3) if colour == RGB else (width,)), np.dtype(f"uint{bits}")
        self._above = np.zeros(row_bytes, np.uint8)
        self._blocks = RowBlocks(Path(path), height, max(1, BLOCK_BYTES // max(1, row_bytes)))
        self._pending = PendingFile(path, overwrite=overwrite)
        try:
            self._pending.file.write(PNG_START)
            self._write_header(height or 0)
            if colour == PALETTE:
                self._write_chunk(b"PLTE", np.array(palette, np.uint8).tobytes())
        except BaseException:
            self.discard()
            raise

    def write(self, rows: np.ndarray) -> None:
        """Take the next rows: uint8, or uint16 for 16 bits.

        Raises:
            ValueError: If they are of another width or type, or more than the image has.
            OSError: If they cannot be written.
        """
        if (rows.shape[1:], rows.dtype) != self._row:
            raise ValueError(f"{self._pending.path}: rows of {rows.shape[1:]} {rows.dtype}")
        for block in self._blocks.push(rows):
            self._write_block(block)

    def finish(self) -> None:
        """Complete the file and give it its name.

        Raises:
            ValueError: If rows are missing.
            FileExistsError: If the path has come to exist and `overwrite` is off.
            OSError: If it cannot be written; nothing is left behind.
        """
        try:
            for block in self._blocks.rest():
                self._write_block(block)
            self._write_chunk(b"IDAT", self._compressor.flush())
            self._write_chunk(b"IEND", b"")
            if self._height is None:
                self._pending.file.seek(_HEADER_AT)
                self._write_header(self._blocks.rows)
            self._pending.finish()
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what has been written, unless the file is complete."""
        self._pending.discard()

    def _write_block(self, rows: np.ndarray) -> None:
        samples = rows.astype(">u2").view(np.uint8) if self._bits == 16 else rows
        samples = samples.reshape(len(rows), -1)
        filtered = np.empty((len(rows), samples.shape[1] + 1), np.uint8)
        filtered[:, 0] = _UP
        np.subtract(samples[0], self._above, out=filtered[0, 1:])
        np.subtract(samples[1:], samples[:-1], out=filtered[1:, 1:])
        self._above = samples[-1].copy()
        data = self._compressor.compress(filtered.data)
        if data:
            self._write_chunk(b"IDAT", data)

    def _write_header(self, height: int) -> None:
        header = struct.pack(">IIBBBBB", self._width, height, self._bits, self._colour, 0, 0, 0)
        self._write_chunk(b"IHDR", header)

    def _write_chunk(self, kind: bytes, data: bytes) -> None:
        crc = zlib.crc32(data, zlib.crc32(kind))
        self._pending.file.write(
            len(data).to_bytes(4, "big") + kind + data + crc.to_bytes(4, "big")
        )
