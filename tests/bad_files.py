"""Good, odd, broken and hostile files, and what reading each of them has to give."""

import base64
import dataclasses
import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from tests.raster_files import set_fields

HEIGHT, WIDTH = 24, 40
Outcome = np.ndarray | str | None


def _photo(channels: int) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (4, 6, channels), dtype=np.uint8)
    return np.asarray(Image.fromarray(small.squeeze()).resize((WIDTH, HEIGHT), Image.BICUBIC))


PHOTO = _photo(3)
GREY = _photo(1)
GREY_AS_RGB = np.repeat(GREY[..., None], 3, 2)
IDS = np.random.default_rng(1).choice([0, 1, 2, 255], (HEIGHT, WIDTH)).astype(np.uint8)
FEW_IDS = IDS & 3  # fit into two bits
DEEP = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 60
ALPHA = np.tile(np.arange(WIDTH, dtype=np.uint8), (HEIGHT, 1))
PALETTE = np.random.default_rng(2).integers(0, 256, (256, 3), dtype=np.uint8)


@dataclasses.dataclass
class Kind:
    """A file, and what comes of it as an image and as a mask.

    Args:
        name: Of the file.
        make: Its bytes, or a function that puts something in its place.
        image: The pixels, a pattern that the error's text matches, or None where it does not
            matter.
        mask: Likewise.
        close: How far the pixels of a lossy format may be off.
    """

    name: str
    make: bytes | Callable[[Path], object]
    image: Outcome = None
    mask: Outcome = None
    close: int = 0

    def put(self, folder: Path) -> Path:
        path = folder / self.name
        if callable(self.make):
            self.make(path)
        else:
            path.write_bytes(self.make)
        return path


def encode(picture: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def patch(data: bytes, position: int, new: bytes) -> bytes:
    return data[:position] + new + data[position + len(new) :]


# --- PNG, written here: Pillow writes few of its kinds


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content)) + kind + content
        + zlib.crc32(kind + content).to_bytes(4, "big")
    )  # fmt: skip


def _rows(array: np.ndarray, bits: int) -> bytes:
    """Filter byte 0 and the samples of each row, packed."""
    flat = array.reshape(len(array), -1)
    if bits == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in flat)
    spread = (flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return b"".join(b"\0" + np.packbits(row).tobytes() for row in spread.astype(np.uint8))


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
         (1, 0, 2, 1))  # fmt: skip


def png(
    array: np.ndarray,
    colour: int,
    bits: int = 8,
    *,
    extra: bytes = b"",
    interlaced: bool = False,
    pixels: bytes | None = None,
    size: tuple[int, int] | None = None,
    behind: bytes = b"",
) -> bytes:
    """A PNG.

    Args:
        array: (H, W) or (H, W, C).
        colour: The number of the format.
        bits: Of a sample.
        extra: Chunks between header and pixels.
        interlaced: In seven passes.
        pixels: Other content for IDAT.
        size: Other width and height for the header.
        behind: Chunks between pixels and end.
    """
    height, width = array.shape[:2]
    if interlaced:
        parts = [array[y::dy, x::dx] for y, x, dy, dx in ADAM7]
        raw = b"".join(_rows(part, bits) for part in parts if part.size)
    else:
        raw = _rows(array, bits)
    header = struct.pack(">IIBBBBB", *(size or (width, height)), bits, colour, 0, 0, interlaced)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
        + chunk(b"IDAT", zlib.compress(raw) if pixels is None else pixels) + behind
        + chunk(b"IEND", b"")
    )  # fmt: skip


def same(name: str, make: bytes | Callable[[Path], object], outcome: Outcome) -> Kind:
    """A file that gives the same as an image and as a mask."""
    return Kind(name, make, outcome, outcome)


GOOD_PNG = png(PHOTO, 2)
PLTE = chunk(b"PLTE", PALETTE.tobytes())
BOMB = zlib.compress(bytes(100_000_000), 1)
APNG = (
    chunk(b"acTL", struct.pack(">II", 2, 0))
    + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 1, 0, 0))
)  # fmt: skip
SECOND_FRAME = (
    chunk(b"fcTL", struct.pack(">IIIIIHHBB", 1, WIDTH, HEIGHT, 0, 0, 1, 1, 0, 0))
    + chunk(b"fdAT", struct.pack(">I", 2) + zlib.compress(_rows(255 - PHOTO, 8)))
)  # fmt: skip

PNGS = [
    same("good.png", GOOD_PNG, PHOTO),
    same("cut_header.png", GOOD_PNG[:20], "cut off"),
    same("cut_pixels.png", GOOD_PNG[: len(GOOD_PNG) // 2], "cut off"),
    same("cut_end.png", GOOD_PNG[:-12], "cut off"),
    same("cut_last_byte.png", GOOD_PNG[:-1], "cut off"),
    same("zero_tail.png", GOOD_PNG[:-200] + bytes(200), "damaged|cut off"),
    same("behind_end.png", GOOD_PNG + b"notes" * 20, PHOTO),
    same("wrong_sum_header.png", patch(GOOD_PNG, 29, b"abcd"), "sum of IHDR"),
    same("wrong_sum_pixels.png", patch(GOOD_PNG, len(GOOD_PNG) - 16, b"abcd"), "sum of IDAT"),
    same("flipped_pixels.png", patch(GOOD_PNG, GOOD_PNG.index(b"IDAT") + 300, b"\0\xff\0"),
         "sum of IDAT"),
    same("wrong_sum_text.png", patch(png(PHOTO, 2, extra=chunk(b"tEXt", b"a\0b")), 44, b"!!!!"),
         PHOTO),
    same("no_header.png", GOOD_PNG[:8] + bytes(50), "damaged at byte 8"),
    same("no_pixels.png", GOOD_PNG[:33] + GOOD_PNG[-12:], "without an image"),
    same("too_few_rows.png", png(PHOTO, 2, pixels=zlib.compress(_rows(PHOTO[:9], 8))), "damaged"),
    same("too_few_ids.png", png(IDS, 0, pixels=zlib.compress(_rows(IDS[:9], 8))), "damaged"),
    same("too_few_indices.png", png(IDS, 3, extra=PLTE, pixels=zlib.compress(_rows(IDS[:9], 8))),
         "damaged"),
    same("no_zlib.png", png(PHOTO, 2, pixels=b"\1" * 500), "damaged"),
    same("unknown_part.png", png(PHOTO, 2, extra=chunk(b"CgBI", b"1234")), "chunk 'CgBI'"),
    same("no_size.png", png(PHOTO, 2, size=(0, 5)), "size of 0x5"),
    same("strange_bits.png", png(PHOTO, 2, 8).replace(b"\x08\x02", b"\x07\x02", 1),
         "damaged header"),
    same("deep_palette.png", png(DEEP, 3, 16, extra=PLTE), "damaged header"),
    same("no_palette.png", png(IDS, 3), "damaged"),
    Kind("sixteen.png", png(DEEP, 0, 16), "16 bits", DEEP.astype(np.int32)),
    same("sixteen_rgb.png", png(np.dstack([DEEP] * 3), 2, 16), "16 bits"),
    same("interlaced.png", png(PHOTO, 2, interlaced=True), PHOTO),
    Kind("interlaced_ids.png", png(IDS, 0, interlaced=True), np.dstack([IDS] * 3), IDS),
    Kind("grey.png", png(GREY, 0), GREY_AS_RGB, GREY),
    Kind("grey_alpha.png", png(np.dstack([GREY, ALPHA]), 4), GREY_AS_RGB, GREY),
    same("rgba.png", png(np.dstack([PHOTO, ALPHA]), 6), PHOTO),
    Kind("palette.png", png(IDS, 3, extra=PLTE), PALETTE[IDS], IDS),
    Kind("palette_alpha.png", png(IDS, 3, extra=PLTE + chunk(b"tRNS", ALPHA[0].tobytes())),
         PALETTE[IDS], IDS),
    Kind("palette_two_bits.png", png(FEW_IDS, 3, 2, extra=chunk(b"PLTE", PALETTE[:4].tobytes())),
         PALETTE[FEW_IDS], FEW_IDS),
    Kind("grey_key.png", png(IDS, 0, extra=chunk(b"tRNS", b"\0\1")), np.dstack([IDS] * 3), IDS),
    Kind("one_bit.png", png(IDS & 1, 0, 1), np.dstack([(IDS & 1) * 255] * 3), IDS & 1),
    Kind("two_bits.png", png(FEW_IDS, 0, 2), np.dstack([FEW_IDS * 85] * 3), FEW_IDS),
    Kind("four_bits.png", png(FEW_IDS, 0, 4), np.dstack([FEW_IDS * 17] * 3), FEW_IDS),
    same("animated.png", png(PHOTO, 2, extra=APNG, behind=SECOND_FRAME), "has 2 images"),
    same("text_bomb.png", png(PHOTO, 2, extra=chunk(b"zTXt", b"a\0\0" + BOMB)), PHOTO),
    same("texts.png", png(PHOTO, 2, extra=chunk(b"tEXt", b"a\0" + b"b" * 900) * 2000), PHOTO),
    Kind("profile_bomb.png", png(IDS, 0, extra=chunk(b"iCCP", b"a\0\0" + BOMB)),
         np.dstack([IDS] * 3), IDS),
    same("huge.png", png(PHOTO, 2, size=(60000, 60000)), "60000x60000"),
    same("huge_palette.png", png(IDS, 3, extra=PLTE, size=(60000, 60000)), "60000x60000"),
    same("claims.png", png(PHOTO, 2, size=(13000, 13000)), "bytes cannot hold"),
    same("claims_bits.png", png(IDS & 1, 0, 1, size=(13000, 13000)), "bytes cannot hold"),
    Kind("white.png", png(np.full((1600, 1600), 1, np.uint8), 0, 1),
         np.full((1600, 1600, 3), 255, np.uint8), np.ones((1600, 1600), np.uint8)),
    same("one_pixel.png", png(PHOTO[:1, :1], 2), PHOTO[:1, :1]),
    Kind("narrow.png", png(GREY[:, :1].repeat(50, 0), 0), GREY_AS_RGB[:, :1].repeat(50, 0),
         GREY[:, :1].repeat(50, 0)),
    Kind("long.png", png(IDS[:1].repeat(250, 1), 0), np.dstack([IDS[:1].repeat(250, 1)] * 3),
         IDS[:1].repeat(250, 1)),
    same("png_called.jpg", GOOD_PNG, PHOTO),
]  # fmt: skip


# --- JPEG

GOOD_JPEG = encode(PHOTO, "JPEG", quality=90)
NO_MASK = "is a JPEG, which changes label values"
FRAME = GOOD_JPEG.index(b"\xff\xc0")
SCAN = GOOD_JPEG.index(b"\xff\xda")
MIDDLE = (SCAN + len(GOOD_JPEG)) // 2
RESTARTS = encode(PHOTO, "JPEG", quality=90, restart_marker_blocks=1)
PROGRESSIVE = encode(PHOTO, "JPEG", quality=90, progressive=True)
CMYK = encode(Image.fromarray(PHOTO).convert("CMYK"), "JPEG", quality=100)
# 16x8 pixels by "cjpeg -arithmetic -quality 50" and "cjpeg -sample 3x1 -quality 50".
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRT"
    "c4UG1RV19iZ2hnPk1xeXBkeFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2Nj"
    "Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/yQARCAAIABADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPw"
    "D/AGYI/NcdqWjKonsCXrkubMUojWMJnI+86J4i/p9F0MCFkEdBfsuR0HR8AUZVYLL/2Q=="
)
ODD_SAMPLING = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRT"
    "c4UG1RV19iZ2hnPk1xeXBkeFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2Nj"
    "Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/wAARCAAIABADATEAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAw"
    "QFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkK"
    "FhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmq"
    "KjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/8QAHwEAAwEBAQEB"
    "AQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcFBAQAAQJ3AAECAxEEBSExBhJBUQdhcRMiMoEIFEKRob"
    "HBCSMzUvAVYnLRChYkNOEl8RcYGRomJygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6goOE"
    "hYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0tba3uLm6wsPExcbHyMnK0tPU1dbX2Nna4uPk5ebn6Onq8vP09fb3+P"
    "n6/9oADAMBAAIRAxEAPwDm9JgvYrgSWs0SyDsz4z7VNqH9o+bIstxG3mNvaNJCRnGOfwoqrE6H/9k="
)
# 16x8 pixels by imagecodecs' jpeg8_encode(..., level=50, outcolorspace="YCCK").
YCCK = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAC/9sAQwAQCwwODAoQDg0OEhEQExgoGhgWFhgxIyUdKDozPTw5Mzg3QEhcTkBEV0U3OF"
    "BtUVdfYmdoZz5NcXlwZHhcZWdj/9sAQwEREhIYFRgvGhovY0I4QmNjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2Nj"
    "Y2NjY2NjY2NjY2NjY2NjY2NjY2Nj/8AAFAgACAAQBAEiAAIRAQMRAQQiAP/EAB8AAAEFAQEBAQEBAAAAAAAAAAABAg"
    "MEBQYHCAkKC//EALUQAAIBAwMCBAMFBQQEAAABfQECAwAEEQUSITFBBhNRYQcicRQygZGhCCNCscEVUtHwJDNicoIJ"
    "ChYXGBkaJSYnKCkqNDU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6g4SFhoeIiYqSk5SVlpeYmZ"
    "qio6Slpqeoqaqys7S1tre4ubrCw8TFxsfIycrS09TV1tfY2drh4uPk5ebn6Onq8fLz9PX29/j5+v/EAB8BAAMBAQEB"
    "AQEBAQEAAAAAAAABAgMEBQYHCAkKC//EALURAAIBAgQEAwQHBQQEAAECdwABAgMRBAUhMQYSQVEHYXETIjKBCBRCka"
    "GxwQkjM1LwFWJy0QoWJDThJfEXGBkaJicoKSo1Njc4OTpDREVGR0hJSlNUVVZXWFlaY2RlZmdoaWpzdHV2d3h5eoKD"
    "hIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uLj5OXm5+jp6vLz9PX29/"
    "j5+v/aAA4EAQACEQMRBAAAPwCK8jM8ZVap6fZvaTF3GBRRSwVNPVm2Dk6s05GPaX8c8gVTW/BOtmodzgUUV//Z"
)


def rotated(kind: str, orientation: int, **options) -> bytes:
    """A file that asks to be turned before it is shown."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(PHOTO, kind, exif=exif, **options)


def _jpeg(name: str, data: bytes, image: Outcome = "damaged|cut off", close: int = 3) -> Kind:
    return Kind(name, data, image, NO_MASK, close)


JPEGS = [
    _jpeg("good.jpg", GOOD_JPEG, pillow(GOOD_JPEG)),
    _jpeg("cut_header.jpg", GOOD_JPEG[:100]),
    _jpeg("cut_in_frame.jpg", GOOD_JPEG[: FRAME + 9]),
    _jpeg("cut_behind_frame.jpg", GOOD_JPEG[: FRAME + 19]),
    _jpeg("cut_at_scan.jpg", GOOD_JPEG[: SCAN + 14]),
    _jpeg("cut_in_scan.jpg", GOOD_JPEG[:MIDDLE]),
    _jpeg("cut_before_end.jpg", GOOD_JPEG[:-2], pillow(GOOD_JPEG)),
    _jpeg("cut_last_byte.jpg", GOOD_JPEG[:-1], pillow(GOOD_JPEG)),
    _jpeg("cut_in_last_block.jpg", GOOD_JPEG[:-3]),
    _jpeg("zeros_for_the_end.jpg", GOOD_JPEG[:-2] + bytes(500), pillow(GOOD_JPEG)),
    _jpeg("zeros_for_the_last_block.jpg", GOOD_JPEG[:-3] + bytes(500)),
    _jpeg("zeros_before_end.jpg", GOOD_JPEG[:-2] + bytes(50) + b"\xff\xd9", pillow(GOOD_JPEG)),
    _jpeg("run_before_end.jpg", GOOD_JPEG[:-2] + b"\x55" * 50 + b"\xff\xd9", pillow(GOOD_JPEG)),
    _jpeg("codes_before_end.jpg", GOOD_JPEG[:-2] + GOOD_JPEG[MIDDLE:]),
    _jpeg("cut_between_scans.jpg", PROGRESSIVE[: PROGRESSIVE.rindex(b"\xff\xda")]),
    _jpeg("cut_before_end_of_scans.jpg", PROGRESSIVE[:-2], pillow(PROGRESSIVE)),
    _jpeg("cut_arithmetic.jpg", ARITHMETIC[:-2]),
    _jpeg("end_in_the_middle.jpg", GOOD_JPEG[:MIDDLE] + b"\xff\xd9"),
    _jpeg("zeros_in_scan.jpg", patch(GOOD_JPEG, MIDDLE, bytes(100))),
    _jpeg("ones_in_scan.jpg", patch(GOOD_JPEG, MIDDLE, b"\xff" * 100)),
    _jpeg("zero_tail.jpg", GOOD_JPEG[:MIDDLE] + bytes(len(GOOD_JPEG) - MIDDLE)),
    _jpeg("flipped_table.jpg",
          patch(GOOD_JPEG, GOOD_JPEG.index(b"\xff\xc4") + 5, b"\xf0" * 8)),
    _jpeg("wrong_length.jpg", patch(GOOD_JPEG, 4, b"\x01\x00")),
    _jpeg("tiny_length.jpg", patch(GOOD_JPEG, 4, b"\0\0")),
    _jpeg("taller.jpg", patch(GOOD_JPEG, FRAME + 5, struct.pack(">H", HEIGHT + 24))),
    _jpeg("shorter.jpg", patch(GOOD_JPEG, FRAME + 5, struct.pack(">H", HEIGHT - 16))),
    _jpeg("no_scan.jpg", GOOD_JPEG[:SCAN] + b"\xff\xd9", "without an image"),
    _jpeg("restarts_swapped.jpg", RESTARTS.replace(b"\xff\xd2", b"\xff\xd5", 1)),
    _jpeg("cut_progressive.jpg", PROGRESSIVE[: len(PROGRESSIVE) * 2 // 3] + b"\xff\xd9"),
    _jpeg("cut_cmyk.jpg", CMYK[: len(CMYK) // 2]),
    _jpeg("many_scans.jpg", PROGRESSIVE[:-2] + PROGRESSIVE[-200:-2] * 5
          + PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2] * 200 + b"\xff\xd9", "100 scans"),
    _jpeg("twelve_bits.jpg", patch(GOOD_JPEG, FRAME + 4, b"\x0c"), "12 bits"),
    _jpeg("huge.jpg", patch(GOOD_JPEG, FRAME + 5, struct.pack(">HH", 60000, 60000)),
          "60000x60000"),
    _jpeg("no_height.jpg", patch(GOOD_JPEG, FRAME + 5, b"\0\0"), f"size of {WIDTH}x0"),
    _jpeg("phone.jpg", patch(GOOD_JPEG, SCAN + 11, b"\0\0\0"), pillow(GOOD_JPEG)),
    _jpeg("cut_phone.jpg", patch(GOOD_JPEG, SCAN + 11, b"\0\0\0")[:MIDDLE]),
    _jpeg("taller_phone.jpg", patch(patch(GOOD_JPEG, SCAN + 11, b"\0\0\0"), FRAME + 5,
          struct.pack(">H", HEIGHT + 24))),
    _jpeg("behind_end.jpg", GOOD_JPEG + b"notes" * 99, pillow(GOOD_JPEG)),
    _jpeg("progressive.jpg", PROGRESSIVE, pillow(PROGRESSIVE)),
    _jpeg("arithmetic.jpg", ARITHMETIC, pillow(ARITHMETIC)),
    _jpeg("odd_sampling.jpg", ODD_SAMPLING, "sampling .3x1 1x1 1x1. that hides damage"),
    _jpeg("odd_cmyk.jpg", encode(Image.fromarray(PHOTO).convert("CMYK"), "JPEG", subsampling=2),
          "2x2 1x1 1x1 1x1"),
    _jpeg("cmyk_ycc.jpg", YCCK, pillow(YCCK), 0),
    _jpeg("zeros_in_cmyk.jpg", patch(CMYK, len(CMYK) * 2 // 3, bytes(100))),
    _jpeg("zeros_in_ycck.jpg", patch(YCCK, len(YCCK) // 2, bytes(100))),
    _jpeg("claims.jpg", patch(GOOD_JPEG, FRAME + 5, struct.pack(">HH", 13000, 13000)),
          "bytes cannot hold"),
    _jpeg("cmyk.jpg", CMYK, pillow(CMYK), 0),
    _jpeg("grey.jpg", encode(GREY, "JPEG", quality=100), GREY_AS_RGB, 4),
    _jpeg("restarts.jpg", RESTARTS, pillow(GOOD_JPEG)),
    _jpeg("two_views.jpg", encode(Image.fromarray(PHOTO), "MPO", quality=90, save_all=True,
          append_images=[Image.fromarray(255 - PHOTO)]), pillow(GOOD_JPEG)),
    *(_jpeg(f"exif_{n}.jpg", rotated("JPEG", n, quality=90), pillow(GOOD_JPEG))
      for n in range(1, 9)),
]  # fmt: skip


# --- the other formats


def _bmp_rle() -> bytes:
    """Eight bits a pixel, each row as runs, the last row first."""
    rows = b"".join(
        b"".join(bytes((1, value)) for value in row) + b"\0\0" for row in IDS[::-1].tolist()
    )
    palette = np.dstack([PALETTE[:, ::-1].reshape(1, 256, 3), np.zeros((1, 256, 1), np.uint8)])
    pixels = rows + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    start = 14 + 40 + 1024
    return (
        struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + header
        + palette.tobytes() + pixels
    )  # fmt: skip


def _huge_webp() -> bytes:
    canvas = struct.pack("<I", 0) + (59_999).to_bytes(3, "little") * 2
    picture = encode(PHOTO, "WEBP", lossless=True)[12:]
    content = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + picture
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _tiff(*pages: tuple[np.ndarray, dict]) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for page, options in pages:
            writer.write(page, metadata=None, **options)
    return buffer.getvalue()


def _huge_tiff() -> bytes:
    good = _tiff((IDS, {}))
    for number in (256, 257, 278):  # ImageWidth, ImageLength, RowsPerStrip
        position = good.index(struct.pack("<H", number), 8)
        good = patch(good, position + 2, struct.pack("<HII", 4, 1, 60_000))
    return good


def _packed_tiff(kind: str, *, data: bytes = b"", size: int = 0, zeros: bool = False) -> bytes:
    """A compressed TIFF by libtiff, with other content, another size, or a hole of 100 bytes."""
    good = encode(PHOTO, "TIFF", compression=kind if kind == "packbits" else f"tiff_{kind}"
                  if kind != "jpeg" else kind)  # fmt: skip
    with tifffile.TiffFile(io.BytesIO(good)) as tiff:
        (start,), (length,) = tiff.pages.first.dataoffsets, tiff.pages.first.databytecounts
    if zeros:
        return patch(good, start + length // 2, bytes(100))
    if data:
        return set_fields(good, {273: (1, len(good)), 279: (1, len(data))}) + data
    return set_fields(good, dict.fromkeys((256, 257, 278), (1, size)))


def _circular_tiff() -> bytes:
    """The page behind the second one is the second one again."""
    data = _tiff((IDS, {}), (FEW_IDS, {}))
    first = struct.unpack_from("<I", data, 4)[0]
    link = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    second = struct.unpack_from("<I", data, link)[0]
    last = second + 2 + 12 * struct.unpack_from("<H", data, second)[0]
    return patch(data, last, struct.pack("<I", second))


def _animation(kind: str) -> bytes:
    second = Image.fromarray(255 - PHOTO)
    return encode(PHOTO, kind, save_all=True, append_images=[second], duration=100)


BMP = encode(PHOTO, "BMP")
GIF = encode(Image.fromarray(FEW_IDS, "P"), "GIF")
LOSSY = encode(PHOTO, "WEBP", quality=90)
LOSSLESS = encode(PHOTO, "WEBP", lossless=True)
TIFF = _tiff((PHOTO, {"photometric": "rgb"}))
NO_ID = "class ids"
YCC_TIFF = encode(Image.fromarray(PHOTO).convert("YCbCr"), "TIFF", compression="jpeg", quality=95)
CMYK_TIFF = encode(Image.fromarray(PHOTO).convert("CMYK"), "TIFF")
THUMBNAIL = (np.zeros((6, 10, 3), np.uint8), {"photometric": "rgb", "subfiletype": 1})

OTHERS = [
    same("exif.png", rotated("PNG", 6), PHOTO),
    same("exif.webp", rotated("WEBP", 6, lossless=True), PHOTO),
    *(same(f"exif_{n}.tif", rotated("TIFF", n), PHOTO) for n in range(1, 9)),
    same("exif_packed.tif", rotated("TIFF", 6, compression="tiff_lzw"), PHOTO),
    same("good.bmp", BMP, PHOTO),
    same("cut.bmp", BMP[: len(BMP) // 2], "damaged"),
    same("run_length.bmp", _bmp_rle(), "run-length"),
    same("huge.bmp", patch(BMP, 18, struct.pack("<II", 60000, 60000)), "60000x60000|pixels"),
    Kind("good.webp", LOSSY, pillow(LOSSY), "lossy WebP", 1),
    same("lossless.webp", LOSSLESS, PHOTO),
    same("alpha.webp", encode(np.dstack([PHOTO, ALPHA | 128]), "WEBP", lossless=True), PHOTO),
    same("cut.webp", LOSSLESS[: len(LOSSLESS) // 2], "damaged|not an image"),
    Kind("cut_lossy.webp", LOSSY[: len(LOSSY) // 2], "damaged|not an image", "lossy WebP"),
    Kind("animated.webp", _animation("WEBP"), "has 2 images", "has 2 images|lossy"),
    same("huge.webp", _huge_webp(), "huge.webp"),
    same("partly.gif", patch(GIF, 6, struct.pack("<HH", 99, 99)), "only a part"),
    Kind("good.gif", GIF, None, FEW_IDS),
    same("cut.gif", GIF[: len(GIF) // 2], "damaged|cut off"),
    same("animated.gif", _animation("GIF"), "has 2 images"),
    same("huge.gif", patch(GIF, 6, struct.pack("<HH", 60000, 60000)), "60000x60000|pixels"),
    same("claims.gif", patch(GIF, 6, struct.pack("<HH", 9000, 9000)), "bytes cannot hold"),
    same("claims.bmp", patch(BMP, 18, struct.pack("<II", 9000, 9000)), "bytes cannot hold"),
    same("claims.tif", _packed_tiff("adobe_deflate", size=13000), "bytes cannot hold"),
    same("strip_bomb.tif", _packed_tiff("adobe_deflate", data=BOMB), "damaged"),
    *(same(f"zeros_in_{name}.tif", _packed_tiff(name, zeros=True), "damaged")
      for name in ("adobe_deflate", "packbits", "jpeg")),
    Kind("white_is_zero.tif", _tiff((GREY, {"photometric": "miniswhite"})),
         255 - GREY_AS_RGB, GREY),
    Kind("ycc.tif", YCC_TIFF, pillow(YCC_TIFF), pillow(YCC_TIFF), 3),
    Kind("cmyk.tif", CMYK_TIFF, pillow(CMYK_TIFF)),
    same("rgba.tif", encode(np.dstack([PHOTO, ALPHA]), "TIFF"), PHOTO),
    Kind("one_bit.tif", encode(Image.fromarray(GREY > 99), "TIFF"),
         np.dstack([(GREY > 99) * np.uint8(255)] * 3), (GREY > 99).astype(np.uint8)),
    same("good.tif", TIFF, PHOTO),
    same("cut.tif", TIFF[: len(TIFF) // 2], "damaged|cut off"),
    Kind("palette.tif", encode(Image.open(io.BytesIO(png(IDS, 3, extra=PLTE))), "TIFF"),
         PALETTE[IDS], IDS),
    same("two_pages.tif", _tiff((IDS, {}), (FEW_IDS, {})), "has 2 images"),
    same("circular.tif", _circular_tiff(), "circular"),
    same("thumbnail.tif", _tiff((PHOTO, {"photometric": "rgb"}), THUMBNAIL), PHOTO),
    Kind("float.tif", _tiff((GREY / np.float32(255), {})), "32 bits", NO_ID),
    Kind("float_ids.tif", _tiff((IDS.astype(np.float32), {})), "32 bits", IDS.astype(np.int32)),
    Kind("half_ids.tif", _tiff((FEW_IDS.astype(np.float16), {})), None, FEW_IDS.astype(np.int32)),
    Kind("deep.tif", _tiff((DEEP, {})), "16 bits", DEEP.astype(np.int32)),
    Kind("deep_rgb.tif", _tiff((np.dstack([DEEP] * 3), {"photometric": "rgb"})), "16 bits", NO_ID),
    Kind("long_ids.tif", _tiff((IDS.astype(np.int32), {})), "32 bits", IDS.astype(np.int32)),
    Kind("five_bands.tif", _tiff((np.dstack([IDS] * 5), {"photometric": "minisblack",
         "planarconfig": "contig"})), "bands", NO_ID),
    same("huge.tif", _huge_tiff(), "60000x60000"),
    same("page.png", b"<!DOCTYPE html><title>404</title>", "not an image"),
    same("text.jpg", b"hello\n", "not an image"),
    same("drawing.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    same("zeros.jpg", bytes(4096), "not an image"),
    Kind("two_bytes.jpg", b"\xff\xd8", "cut off", NO_MASK),
    same("empty.png", b"", "is empty"),
    same("folder.png", Path.mkdir, "is a folder"),
    same("missing.png", lambda path: None, "no such file"),
    same("broken_link.png", lambda path: path.symlink_to("nowhere.png"), "link that leads nowhere"),
    same("link_loop.png", lambda path: path.symlink_to(path.name), "cannot be read"),
    same("pipe.png", os.mkfifo, "not a regular file"),
    same("socket.png", lambda path: _bind(path), "not a regular file"),
    same("five_gigabytes.png", lambda path: _sparse(path, 5 << 30), "5.4 GB"),
]  # fmt: skip


def _bind(path: Path) -> None:
    """A socket; its name may not be long, so that it is made from within the folder."""
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


KINDS = [*PNGS, *JPEGS, *OTHERS]
