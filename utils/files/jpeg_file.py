"""The header of a JPEG file."""

import dataclasses

from utils.files.data_file import DataError, StrPath, damaged

JPEG_START = b"\xff\xd8"
# Pixels that a byte can hold: a code of one bit is a block of 64, arithmetic coding takes less.
MAX_IN_JPEG = 2000

_END, _SCAN, _APP1 = 0xD9, 0xDA, 0xE1
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # these three hold tables
_SEQUENTIAL = (0xC0, 0xC1, 0xC9)
_PROGRESSIVE = (0xC2, 0xCA)
_WHOLE_SPECTRUM = b"\0\x3f\0"  # the required end of a sequential scan's header
# Each scan covers all pixels, so many of them could keep a decoder busy for hours; encoders write
# about ten.
_MAX_SCANS = 100


@dataclasses.dataclass(frozen=True)
class JpegHeader:
    """The frame header of a JPEG file."""

    width: int  # in pixels
    height: int  # in pixels
    bits: int  # bits of each sample
    # Horizontal and vertical sampling factor of each component.
    sampling: tuple[tuple[int, int], ...]
    components: bytes = b""  # the number of each component in scans
    frame: int = 0  # the marker of the frame, which determines the coding
    scan_header: int = 0  # start of the first scan's header, after its marker
    scan: int = 0  # end of that header
    exif: bytes = b""  # the EXIF data, or nothing

    @property
    def sequential(self) -> bool:
        """Whether each scan holds whole blocks."""
        return self.frame in _SEQUENTIAL


def read_jpeg_header(path: StrPath, data: bytes) -> JpegHeader:
    """Walk the segments of a JPEG file up to its first scan.

    Format: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B.

    Raises:
        DataError: If a segment is broken or missing, or there are far too many scans.
    """
    header, frame, exif, position = None, 0, b"", len(JPEG_START)
    while True:
        marker, position = _next_marker(path, data, position)
        if marker in _WITHOUT_LENGTH:
            continue
        end = position + int.from_bytes(data[position : position + 2], "big")
        if marker in (_SCAN, _END):
            break
        if end < position + 2 or end > len(data):
            raise _cut_off(path, data)
        if marker in _FRAMES:
            header = _parse_frame(path, data[position + 2 : end])
            frame = marker
            if marker in _PROGRESSIVE and data.count(b"\xff\xda") > _MAX_SCANS:
                raise DataError(
                    f"{path}: has more than {_MAX_SCANS} scans; save it as a baseline JPEG"
                )
        elif marker == _APP1 and data.startswith(b"Exif\0\0", position + 2):
            exif = data[position + 8 : end]
        position = end
    if header is None or marker == _END:
        raise damaged(path, "is a JPEG without an image in it")
    return dataclasses.replace(header, frame=frame, scan_header=position, scan=end, exif=exif)


def mend_scan(data: bytes, header: JpegHeader) -> bytes:
    """Return a JPEG with the numbers that a sequential scan must have.

    Some phones write others, which have no meaning but stop a strict decoder.
    """
    start, end = header.scan - len(_WHOLE_SPECTRUM), header.scan
    if not header.sequential or data[start:end] == _WHOLE_SPECTRUM:
        return data
    return data[:start] + _WHOLE_SPECTRUM + data[end:]


def _next_marker(path: StrPath, data: bytes, position: int) -> tuple[int, int]:
    """Return the marker at a position, and where its segment starts."""
    start = position
    while data.startswith(b"\xff", position):
        position += 1
    if position >= len(data):
        raise _cut_off(path, data)
    if position == start or data[position] == 0:
        raise damaged(path, f"is damaged at byte {start}")
    return data[position], position + 1


def _parse_frame(path: StrPath, frame: bytes) -> JpegHeader:
    if len(frame) < 9 or len(frame) < 6 + 3 * frame[5]:
        raise damaged(path, "has a damaged header")
    factors = frame[7 : 6 + 3 * frame[5] : 3]
    return JpegHeader(
        width=int.from_bytes(frame[3:5], "big"),
        height=int.from_bytes(frame[1:3], "big"),
        bits=frame[0],
        sampling=tuple((factor >> 4, factor & 15) for factor in factors),
        components=frame[6 : 6 + 3 * frame[5] : 3],
    )


def _cut_off(path: StrPath, data: bytes) -> DataError:
    return damaged(path, f"is cut off (a JPEG of {len(data)} bytes that ends in its header)")
