"""The structure of a PNG file: its header, and whether a part is missing or changed."""

import dataclasses
import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from utils.files.data_file import DataError, StrPath, damaged, open_file

PNG_START = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6

MAX_INFLATION = 1032  # a code of two bits is 258 bytes: https://www.rfc-editor.org/rfc/rfc1951

_SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
_BITS = {GREY: (1, 2, 4, 8, 16), PALETTE: (1, 2, 4, 8)}
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


@dataclasses.dataclass(frozen=True)
class PngHeader:
    """The header of a PNG file."""

    width: int  # in pixels
    height: int  # in pixels
    bits: int  # bits of each sample
    colour: int  # `GREY`, `RGB`, `PALETTE`, `GREY_ALPHA` or `RGB_ALPHA`
    interlaced: bool = False  # whether its rows are stored in seven passes
    frames: int = 1  # the number of frames; more than one in an animation
    exif: bytes = b""  # the EXIF data, or nothing

    @property
    def channels(self) -> int:
        """The number of samples of a pixel."""
        return _SAMPLES[self.colour]

    @property
    def raw_bytes(self) -> int:
        """The uncompressed size of all samples."""
        return self.width * self.height * self.channels * self.bits // 8


def read_png_header(path: StrPath, data: bytes) -> PngHeader:
    """Read the header and the chunks before the pixels.

    Raises:
        DataError: If a chunk is cut off or the header is damaged.
    """
    header, frames, exif = None, 1, b""
    for kind, start, end in _chunks(path, data):
        if kind == b"IHDR":
            header = _parse_header(path, data[start:end])
        elif kind == b"acTL" and end - start == 8:
            frames = int.from_bytes(data[start : start + 4], "big")
        elif kind == b"eXIf":
            exif = data[start:end]
        if header is None or kind in (b"IDAT", b"IEND"):
            break
    if header is None:
        raise damaged(path, "is a PNG without a header")
    return dataclasses.replace(header, frames=frames, exif=exif)


def read_png_palette(path: StrPath, data: bytes) -> np.ndarray:
    """Return the colours of a palette image, (N, 3) uint8.

    Raises:
        DataError: If a chunk is cut off, or there is no palette.
    """
    for kind, start, end in _chunks(path, data):
        if kind == b"PLTE":
            return np.frombuffer(data, np.uint8, (end - start) // 3 * 3, start).reshape(-1, 3)
    raise damaged(path, "is a PNG without its palette")


def needed_chunks(path: StrPath, data: bytes, *, indices: bool = False) -> bytes:
    """Return a PNG with only its pixels and palette, after checking every checksum.

    Texts, colour profiles and frames of an animation are left out: they change no pixel, decoders
    complain about them, and a few bytes of them can unpack to gigabytes.

    Format: https://www.w3.org/TR/png-3/, chapter 5.

    Args:
        path: For messages.
        data: The file, which starts with `PNG_START`.
        indices: Make a palette image a grey one of the same samples. Pillow, the only library
            that returns indices, makes up missing ones.

    Raises:
        DataError: If a chunk is missing, cut off, changed, or of an unknown kind.
    """
    view, kinds = memoryview(data), set()
    kept: list[bytes | memoryview] = []
    for kind, start, end in _chunks(path, data):
        if kind[0] & 32:  # a lower-case letter: can be left out
            continue
        if kind not in _NEEDED:
            name = kind.decode("ascii", "replace")
            raise DataError(f"{path}: has an unknown chunk {name!r}; export it as a plain PNG")
        if zlib.crc32(view[start - 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            name = kind.decode("ascii")
            raise damaged(path, f"is damaged (wrong checksum of {name} at byte {start})")
        kinds.add(kind)
        if indices and kind == b"IHDR":
            kept.append(_grey_header(data[start:end]))
        elif not (indices and kind == b"PLTE"):
            kept.append(view[start - 8 : end + 4])
    if b"IDAT" not in kinds:
        raise damaged(path, "is a PNG without an image in it")
    size = len(PNG_START) + sum(map(len, kept))
    return data if size == len(data) else b"".join((PNG_START, *kept))


def check_png_file(path: StrPath) -> None:
    """Check the chunks of a PNG of any size as `needed_chunks()` does, without holding them.

    Raises:
        DataError: If a chunk is missing, cut off, changed, or of an unknown kind; or the file is an
            animation.
    """
    size = os.stat(path).st_size
    with open_file(path) as file:
        file.seek(len(PNG_START))
        kind = b""
        while kind != b"IEND":
            head = file.read(8)
            if len(head) < 8:
                raise _cut_off(path, size)
            length, kind = struct.unpack(">I4s", head)
            place = file.tell()
            if not kind.isalpha():
                raise damaged(path, f"is damaged at byte {place - 8}")
            if place + length + 4 > size:
                raise _cut_off(path, size)
            if kind == b"acTL":
                raise DataError(
                    f"{path}: is an animation; save the image to use as a PNG of its own"
                )
            if kind[0] & 32:  # a lower-case letter: can be left out
                file.seek(length + 4, os.SEEK_CUR)
                continue
            _check_chunk(path, file, kind, length)


def _check_chunk(path: StrPath, file: BinaryIO, kind: bytes, length: int) -> None:
    """Check the content of one chunk, a megabyte at a time."""
    name, place = kind.decode("ascii"), file.tell()
    if kind not in _NEEDED:
        raise DataError(f"{path}: has an unknown chunk {name!r}; export it as a plain PNG")
    crc = zlib.crc32(kind)
    while length:
        data = file.read(min(length, 1 << 20))
        crc, length = zlib.crc32(data, crc), length - len(data)
    if crc != int.from_bytes(file.read(4), "big"):
        raise damaged(path, f"is damaged (wrong checksum of {name} at byte {place})")


def _grey_header(header: bytes) -> bytes:
    content = b"IHDR" + header[:9] + bytes([GREY]) + header[10:]
    return struct.pack(">I", len(header)) + content + struct.pack(">I", zlib.crc32(content))


def _chunks(path: StrPath, data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk up to the last one, and where its content starts and ends."""
    position = len(PNG_START)
    kind = b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise _cut_off(path, len(data))
        length, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        position = start + length + 4
        if not kind.isalpha():
            raise damaged(path, f"is damaged at byte {start - 8}")
        if position > len(data):
            raise _cut_off(path, len(data))
        yield kind, start, start + length


def _parse_header(path: StrPath, header: bytes) -> PngHeader:
    if len(header) == 13:
        width, height, bits, colour = struct.unpack_from(">IIBB", header)
        if colour in _SAMPLES and bits in _BITS.get(colour, (8, 16)):
            return PngHeader(width, height, bits, colour, interlaced=bool(header[12]))
    raise damaged(path, "has a damaged header")


def _cut_off(path: StrPath, size: int) -> DataError:
    return damaged(path, f"is cut off (a PNG of {size} bytes without its last chunk)")
