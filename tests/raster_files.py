"""Files of many bands for the tests, written without the libraries that the program reads with."""

import struct

import numpy as np
from PIL import Image

TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]

# TIFF field types: their number and struct letter.
_ASCII, _SHORT, _LONG, _LONG8, _DOUBLE = (2, "s"), (3, "H"), (4, "I"), (16, "Q"), (12, "d")
_FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6}


def values(shape, dtype="uint16", seed=0):
    """Numbers over the whole range of a type."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 100, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def raw_tiff(array, *, big_endian=False, big=False, planar=False, rows=None, tags=()):
    """An uncompressed TIFF of an image (H, W, C), put together byte by byte.

    Args:
        array: The pixels.
        big_endian: Motorola byte order.
        big: BigTIFF.
        planar: One band behind the other.
        rows: Rows a strip; all by default.
        tags: More (tag, type, values).
    """
    order = ">" if big_endian else "<"
    height, width, channels = array.shape
    rows = rows or height
    ordered = array.astype(array.dtype.newbyteorder(order))
    planes = np.moveaxis(ordered, 2, 0) if planar else [ordered]
    strips = [p[top : top + rows].tobytes() for p in planes for top in range(0, height, rows)]
    start = 16 if big else 8
    offsets = np.cumsum([start] + [len(s) for s in strips]).tolist()
    fields = [
        (256, _LONG, [width]), (257, _LONG, [height]),
        (258, _SHORT, [array.dtype.itemsize * 8] * channels), (259, _SHORT, [1]),
        (262, _SHORT, [1]), (273, _LONG8 if big else _LONG, offsets[:-1]),
        (277, _SHORT, [channels]), (278, _LONG, [rows]),
        (279, _LONG8 if big else _LONG, [len(s) for s in strips]),
        (284, _SHORT, [2 if planar else 1]), (339, _SHORT, [_FORMATS[array.dtype.kind]] * channels),
        *tags,
    ]  # fmt: skip
    directory = _directory(sorted(fields), offsets[-1], order, big)
    mark = b"MM" if big_endian else b"II"
    if big:
        header = mark + struct.pack(order + "HHHQ", 43, 8, 0, offsets[-1])
    else:
        header = mark + struct.pack(order + "HI", 42, offsets[-1])
    return header + b"".join(strips) + directory


def nodata_tag(text):
    """GDAL's tag for missing values."""
    return (42113, _ASCII, [text.encode() + b"\0"])


def geo_tag():
    """ModelPixelScale and a tie point: what makes a TIFF geo-referenced."""
    return (33550, _DOUBLE, [1.0, 1.0, 0.0]), (33922, _DOUBLE, [0.0, 0.0, 0.0, 5.0, 9.0, 0.0])


def extra_tag(values):
    """ExtraSamples."""
    return (338, _SHORT, values)


def _directory(fields, position, order, big):
    """The list of fields with their values behind it, and no further page."""
    entry, count, inline = ("HHQ", "Q", 8) if big else ("HHI", "H", 4)
    each = struct.calcsize(order + entry) + inline
    data_start = position + struct.calcsize(order + count) + len(fields) * each + inline
    entries, behind = b"", b""
    for tag, (number, letter), content in fields:
        if letter == "s":
            data, length = content[0], len(content[0])
        else:
            data, length = struct.pack(f"{order}{len(content)}{letter}", *content), len(content)
        entries += struct.pack(order + entry, tag, number, length)
        if len(data) <= inline:
            entries += data.ljust(inline, b"\0")
        else:
            where = data_start + len(behind)
            entries += struct.pack(order + ("Q" if big else "I"), where)
            behind += data + b"\0" * (len(data) % 2)
    return struct.pack(order + count, len(fields)) + entries + b"\0" * inline + behind


def set_fields(data, fields):
    """A little-endian classic TIFF with other values of four bytes at most.

    Args:
        data: The file.
        fields: Tag -> (how many values, the value or where they are); None leaves a number.
    """
    changed = bytearray(data)
    start = int.from_bytes(data[4:8], "little")
    for i in range(int.from_bytes(data[start : start + 2], "little")):
        at = start + 2 + 12 * i
        count, value = fields.get(int.from_bytes(data[at : at + 2], "little"), (None, None))
        if count is not None:
            changed[at + 4 : at + 8] = count.to_bytes(4, "little")
        if value is not None:
            changed[at + 8 : at + 12] = value.to_bytes(4, "little")
    return bytes(changed)


def write(path, data):
    path.write_bytes(data)
    return path


def save(path, array):
    """An image or mask by Pillow, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
