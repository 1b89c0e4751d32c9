"""Masks whose colours say which class a pixel is."""

import json
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from utils.drawing.palette import voc_palette
from utils.files.data_file import DataError, StrPath, read_bytes
from utils.files.file_facts import file_facts
from utils.files.image_io import read_image, read_mask
from utils.files.npy_file import NPY_START
from utils.files.png_file import PNG_START, read_png_palette

Colour = tuple[int, int, int]


def read_colours(path: StrPath) -> np.ndarray:
    """Read the colours (H, W, 3) uint8 that a mask shows, also of a palette or grey image.

    Raises:
        DataError: If it cannot be used, see `read_mask`, or has numbers of more than 8 bits.
    """
    mask = read_mask(path)
    if mask.ndim == 3:
        return mask
    if mask.dtype != np.uint8:
        raise DataError(
            f"{path}: has numbers of type {mask.dtype} where colours were expected; save it as "
            "8-bit RGB"
        )
    if read_bytes(path).startswith(NPY_START):
        return np.dstack([mask] * 3)
    return read_image(path)


def read_ids_or_colours(
    path: StrPath,
    palette: Sequence[Sequence[int]],
    colours: Mapping[Colour, int],
    void: Sequence[int] = (),
) -> np.ndarray:
    """Read a mask that may hold ids (H, W) or colours (H, W, 3) uint8.

    RGB is colours. A palette image is ids if its palette begins with that of the classes or with
    the VOC colour map; otherwise, if it uses only colours of the classes, it is colours, because
    programs that reduce the colours of an image order them arbitrarily. Everything else is ids.

    Raises:
        DataError: If it cannot be used, see `read_mask`, or its shades of grey are colours of the
            classes and not ids.
    """
    mask = read_mask(path)
    if mask.ndim == 3 or mask.dtype != np.uint8:
        return mask
    if read_bytes(path).startswith(NPY_START) or not file_facts(path).mode.endswith("palette"):
        _check_ids(path, mask, {*range(len(palette)), *void}, colours)
        return mask
    if _has_palette_of_classes(path, palette):
        return mask
    shown = read_image(path)
    indices = np.unique(mask, return_index=True)[1]
    used = {tuple(colour) for colour in shown.reshape(-1, 3)[indices].tolist()}
    return shown if used <= set(colours) else mask


def _check_ids(
    path: StrPath, mask: np.ndarray, ids: set[int], colours: Mapping[Colour, int]
) -> None:
    """Refuse shades of grey that are colours of the classes."""
    # This runs for every mask of such a dataset, and NumPy would take as long as reading it.
    counts = cv2.calcHist([mask], [0], None, [256], [0, 256])
    values = np.flatnonzero(counts).tolist()
    if set(values) <= ids or any((v, v, v) not in colours for v in values):
        return
    greys = {str(r): label for (r, g, b), label in sorted(colours.items()) if r == g == b}
    raise DataError(
        f"{path}: has the values {', '.join(map(str, values))}; some of them are not class ids, "
        "but all are shades of grey in the palette. If these are meant, set the label_map "
        f"{json.dumps(greys)} instead of the palette"
    )


def _has_palette_of_classes(path: StrPath, palette: Sequence[Sequence[int]]) -> bool:
    data = read_bytes(path)
    if not data.startswith(PNG_START):
        return False
    count = len(palette)
    first = read_png_palette(path, data)[:count].tolist()
    known = (palette, voc_palette(count))
    return any(first == [list(colour) for colour in colours] for colours in known)
