"""Small files that claim to be, or unpack to, images of gigabytes."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io
import tifffile
from PIL import Image

from tests.bad_files import chunk, encode, png
from tests.raster_files import set_fields

SIDE = 100_000
SMALL = np.zeros((8, 8), np.uint8)
COLOURS = np.zeros((8, 8, 3), np.uint8)


def npy(shape: tuple[int, ...], kind: str = "|u1", data: bytes = bytes(64)) -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (118 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + data


def tiff(pixels: np.ndarray, fields: dict[int, tuple[int, int]], **options) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(pixels, metadata=None, **options)
    return set_fields(buffer.getvalue(), fields) if fields else buffer.getvalue()


def wide(side: int) -> dict[int, tuple[int, int]]:
    """ImageWidth, ImageLength, RowsPerStrip."""
    return dict.fromkeys((256, 257, 278), (1, side))


def jpeg(height: int, width: int) -> bytes:
    good = encode(COLOURS, "JPEG")
    frame = good.index(b"\xff\xc0")
    return good[: frame + 5] + struct.pack(">HH", height, width) + good[frame + 9 :]


def jpeg_in_tiff() -> bytes:
    """A page of 8x8 whose only strip is a JPEG of 65500x65500."""
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, "TIFF", compression="jpeg")
    good = buffer.getvalue()
    data = jpeg(65500, 65500)
    return set_fields(good, {273: (1, len(good)), 279: (1, len(data))}) + data


def bmp(width: int, height: int) -> bytes:
    good = encode(COLOURS, "BMP")
    return good[:18] + struct.pack("<ii", width, height) + good[26:]


def gif(side: int) -> bytes:
    good = encode(SMALL, "GIF")
    return good[:6] + struct.pack("<HH", side, side) + good[10:]


def webp_lossless(side: int) -> bytes:
    """14 bits each for width and height, less one, behind the signature."""
    good = encode(COLOURS, "WEBP", lossless=True)
    place = good.index(b"VP8L") + 9
    bits = int.from_bytes(good[place : place + 4], "little") >> 28 << 28
    bits |= (side - 1) | (side - 1) << 14
    return good[:place] + bits.to_bytes(4, "little") + good[place + 4 :]


def webp_canvas(side: int) -> bytes:
    canvas = struct.pack("<I", 0) + (side - 1).to_bytes(3, "little") * 2
    content = b"WEBPVP8X" + struct.pack("<I", 10) + canvas
    content += encode(COLOURS, "WEBP", lossless=True)[12:]
    return b"RIFF" + struct.pack("<I", len(content)) + content


def mat(name: bytes, rows: int, columns: int, there: int) -> bytes:
    """A packed array of bytes, of so many zeros as are there."""
    good = io.BytesIO()
    scipy.io.savemat(good, {"S": SMALL})
    header, size = good.getvalue()[:128], rows * columns
    packer = zlib.compressobj(1)
    # Flags, dimensions, name, values.
    start = struct.pack("<IIII", 6, 8, 9, 0) + struct.pack("<IIii", 5, 8, rows, columns)
    start += struct.pack("<II8s", 1, len(name), name) + struct.pack("<II", 2, size)
    parts = [packer.compress(struct.pack("<II", 14, len(start) + size) + start)]
    block = bytes(1_000_000)
    parts += [packer.compress(block) for _ in range(there // len(block))]
    data = b"".join([*parts, packer.flush()])
    return header + struct.pack("<II", 15, len(data)) + data


PICTURES: dict[str, Callable[[], bytes]] = {
    "rgb.png": lambda: png(COLOURS, 2, size=(SIDE, SIDE)),
    "ids.png": lambda: png(SMALL, 0, size=(SIDE, SIDE)),
    "bits.png": lambda: png(SMALL, 0, 1, size=(13_000, 13_000)),
    "deep.png": lambda: png(np.zeros((8, 8), np.uint16), 0, 16, size=(13_000, 13_000)),
    "rgba.png": lambda: png(np.zeros((8, 8, 4), np.uint8), 6, size=(13_000, 13_000)),
    "deep_rgba.png": lambda: png(np.zeros((8, 8, 4), np.uint16), 6, 16, size=(13_000, 13_000)),
    "interlaced.png": lambda: png(COLOURS, 2, interlaced=True, size=(13_000, 13_000)),
    "most.png": lambda: png(COLOURS, 2, size=(2**31 - 1, 2**31 - 1)),
    "text.png": lambda: png(
        COLOURS, 2, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(500_000_000), 1))
    ),
    "rgb.jpg": lambda: jpeg(65500, 65500),
    "narrow.jpg": lambda: jpeg(13_000, 13_000),
    "rgb.bmp": lambda: bmp(SIDE, SIDE),
    "upside_down.bmp": lambda: bmp(SIDE, -SIDE),
    "fits_not.bmp": lambda: bmp(13_000, 13_000),
    "side.gif": lambda: gif(65535),
    "fits_not.gif": lambda: gif(13_000),
    "lossless.webp": lambda: webp_lossless(16383),
    "canvas.webp": lambda: webp_canvas(SIDE),
    "canvas_16383.webp": lambda: webp_canvas(16383),
    "plain.tif": lambda: tiff(SMALL, wide(SIDE)),
    "fits_not.tif": lambda: tiff(SMALL, wide(13_000)),
    "deflate.tif": lambda: tiff(SMALL, wide(13_000), compression="zlib"),
    "lzw.tif": lambda: tiff(SMALL, wide(13_000), compression="lzw"),
    "lzma.tif": lambda: tiff(SMALL, wide(SIDE), compression="lzma"),
    "zstd.tif": lambda: tiff(SMALL, wide(SIDE), compression="zstd"),
    "bands.tif": lambda: tiff(
        np.zeros((8, 8, 4), np.float32), wide(SIDE), photometric="minisblack", planarconfig="contig"
    ),
    "samples.tif": lambda: tiff(
        np.zeros((8, 8, 4), np.float32), {277: (1, 65535), **wide(13_000)},
        photometric="minisblack", planarconfig="contig",
    ),
    "jpeg.tif": jpeg_in_tiff,
    "large.npy": lambda: npy((SIDE, SIDE)),
    "bands.npy": lambda: npy((13_000, 13_000, 200), "<f8"),
    "overflow.npy": lambda: npy((2**32, 2**32)),
    "most.npy": lambda: npy((2**62, 4)),
    "objects.npy": lambda: npy((8,), "|O"),
    "negative.npy": lambda: npy((-8, 8)),
    "bytes.npy": lambda: npy((8, 8), "|V100000000"),
}  # fmt: skip

SCENE = {"id": 1, "file_name": "a.jpg", "width": 8, "height": 8}


def coco(segmentation: object, **picture: object) -> bytes:
    annotation = {"image_id": 1, "category_id": 1, "id": 5, "segmentation": segmentation}
    tree = {
        "images": [{**SCENE, **picture}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "person"}],
    }
    return json.dumps(tree).encode()


FAR = 1_000_000
COCO: dict[str, Callable[[], bytes]] = {
    "picture": lambda: coco([[0, 0, 5, 0, 5, 5]], width=SIDE, height=SIDE),
    "lengths": lambda: coco({"size": [SIDE, SIDE], "counts": [SIDE * SIDE]}),
    "lengths_of_all": lambda: coco(
        {"size": [SIDE, SIDE], "counts": [SIDE * SIDE]}, width=SIDE, height=SIDE
    ),
    "text": lambda: coco({"size": [8, 8], "counts": "o" * 100_000}),
    "numbers": lambda: coco({"size": [8, 8], "counts": [2**62, 2**62]}),
    "negative": lambda: coco({"size": [8, 8], "counts": [-(2**31), 2**31, 64]}),
    "outline": lambda: coco([[-FAR, -FAR, FAR, FAR, -FAR, FAR] * 3000]),
    "deep": lambda: coco([[0]]).replace(b"[[0]]", b"[" * 100_000 + b"]" * 100_000),
    "cut": lambda: coco([[0, 0, 5, 0, 5, 5]])[:-9],
}


def labelme(mask: bytes, box: tuple[int, int], **more: object) -> bytes:
    shape = {
        "label": "a", "shape_type": "mask", "points": [[0, 0], [box[0] - 1, box[1] - 1]],
        "mask": base64.b64encode(mask).decode(),
    }  # fmt: skip
    return json.dumps({"shapes": [shape], "imageHeight": 8, "imageWidth": 8, **more}).encode()


EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
    b"(hacked) (w) file closefile showpage\n%%EOF\n"
)
LABELME: dict[str, Callable[[], bytes]] = {
    "mask": lambda: labelme(png(SMALL, 0, size=(SIDE, SIDE)), (SIDE, SIDE)),
    "claims": lambda: labelme(png(SMALL, 0, size=(13_000, 13_000)), (13_000, 13_000)),
    "picture": lambda: labelme(png(SMALL, 0), (8, 8), imageHeight=SIDE, imageWidth=SIDE),
    "program": lambda: labelme(EPS, (8, 8)),
    "deep": lambda: b'{"shapes": ' + b"[" * 100_000,
}

MATS: dict[str, Callable[[], bytes]] = {
    "claims.mat": lambda: mat(b"S", SIDE // 5, SIDE // 5, 0),
    "fits.mat": lambda: mat(b"S", 13_000, 13_000, 0),
    "holds.mat": lambda: mat(b"GTcls", 1, 300_000_000, 300_000_000),
}


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
