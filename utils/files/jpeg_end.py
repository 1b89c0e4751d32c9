"""JPEGs with all their blocks but a wrong end."""

import os
import re
import shlex
from pathlib import Path

from utils.files.jpeg_file import JpegHeader

_END_MARKER = b"\xff\xd9"
_SCAN = b"\xda"
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)

# In the codes of a scan, only a zero or a restart marker follows 0xFF.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")

# Other values than zero are also repeated a few times in codes.
_SHORTEST_RUN = 4

_MISSING = 16  # more than a coefficient has bits


def with_proper_end(data: bytes, header: JpegHeader) -> tuple[bytes, bytes, str] | None:
    """Return a guess of a JPEG with its end marker right after its last block.

    A strict decoder has to judge the guess, and the same JPEG without its last byte: if it accepts
    the first and refuses the second, the last block is complete and nothing is left over. Stray
    bytes are only zeros, or a run of one other value; other bytes may be codes left by damage. They
    are removed completely: if a part of the image was overwritten, none of it is decoded.

    Returns:
        A JPEG, the same without its last byte, and the oddity of the file if the guess is right;
        None if the file cannot have such an oddity.
    """
    # A decoder of arithmetic codes continues with zeros at the end, and accepts any guess.
    if header.frame not in _HUFFMAN_FRAMES:
        return None
    end = _end_of_scans(data, header)
    if end is None:
        return None
    whole = header.scan + _without_stray_bytes(data[header.scan : end])
    if not data.startswith(_END_MARKER, end):
        what = "no end marker"
    elif whole < end:
        what = "stray bytes before the end marker"
    else:
        return None
    return data[:whole] + _END_MARKER, data[: whole - 1] + _END_MARKER, what


def mending_command(path: str | os.PathLike[str]) -> str:
    """Return the command that writes what can be decoded of a damaged JPEG as a new one."""
    mended = Path(path).with_name(f"{Path(path).stem}_mended.jpg")
    return f"jpegtran -copy all {shlex.quote(os.fspath(path))} > {shlex.quote(str(mended))}"


def _end_of_scans(data: bytes, header: JpegHeader) -> int | None:
    """Return the position of the end marker, or where it should be; None if a scan is missing.

    A file that was cut between two scans decodes without a warning: to an image without a
    component, or without the last bits of its coefficients.
    """
    # The lowest bit in the file of each coefficient of each component.
    lowest = {component: [_MISSING] * 64 for component in header.components}
    _add_scan(data[header.scan_header : header.scan], header, lowest)
    position = header.scan
    while True:
        found = _MARKER.search(data, position)
        if found is None or found[1] == _END_MARKER[1:]:
            is_whole = all(bit == 0 for bits in lowest.values() for bit in bits)
            end = len(data.rstrip(b"\xff")) if found is None else found.end() - len(_END_MARKER)
            return end if is_whole else None
        start = found.end()
        position = start + int.from_bytes(data[start : start + 2], "big")
        if not start + 2 <= position <= len(data):
            return None
        if found[1] == _SCAN:
            _add_scan(data[start:position], header, lowest)


def _add_scan(scan: bytes, header: JpegHeader, lowest: dict[int, list[int]]) -> None:
    """Update the lowest bits by the components, coefficients and bit in a scan's header."""
    if len(scan) < 8:
        return
    first, last, bit = (0, 63, 0) if header.sequential else (scan[-3], scan[-2], scan[-1] & 15)
    for component in scan[3:-3:2]:
        bits = lowest.setdefault(component, [_MISSING] * 64)
        for index in range(first, min(last, 63) + 1):
            bits[index] = min(bits[index], bit)


def _without_stray_bytes(codes: bytes) -> int:
    """Return the length of a scan's codes without stray bytes after them."""
    value = codes[-1:]
    length = len(codes.rstrip(value))
    if value == b"\0":
        return length + codes.endswith(b"\xff", 0, length)  # 0xFF in codes is followed by a zero
    return length if len(codes) - length >= _SHORTEST_RUN else len(codes)
