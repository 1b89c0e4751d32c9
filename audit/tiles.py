"""One sample for a person to look at: the image, and its labels drawn over it with names."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from base.base_dataset import BaseDataset
from utils.drawing.fonts import font_for
from utils.drawing.legend import FONT_SIZE, Colour, Entry, entry_name
from utils.drawing.overlay import lay_over
from utils.drawing.palette import IGNORED_COLOUR
from utils.files.data_file import DataError
from utils.samples.labels import LabelMap

MAX_SIDE = 480  # pixels of an image on the sheet
OPACITY = 0.55
MIN_NAMED = 0.004  # fraction of an image that a region needs to be named in it
BLANK = 128  # under a mask of another size than its image

UNKNOWN_COLOUR = (255, 0, 255)
UNKNOWN, IGNORED = "no class", "ignored"


@dataclasses.dataclass(frozen=True)
class Tile:
    """A sample as the sheet shows it."""

    name: str  # the sample's name
    split: str  # the split that uses it
    size: tuple[int, int] | None  # (width, height) in its file; None if it cannot be read
    image: np.ndarray | None  # (h, w, 3) uint8 RGB, small; None if it cannot be read
    overlay: np.ndarray | None  # the same with its labels
    entries: Sequence[Entry]  # the labels in it, the largest first
    messages: Sequence[str]  # what is wrong with it


def make_tile(
    dataset: BaseDataset, index: int, labels: LabelMap, split: str, messages: Sequence[str]
) -> Tile:
    """Read a sample and draw it."""
    name = dataset.samples[index].name
    try:
        pixels = dataset.load_image(index).pixels
        image = dataset.preview(pixels)
    except (DataError, IndexError):  # damaged, or with another number of bands
        return Tile(name, split, None, None, None, (), messages)
    size = (image.shape[1], image.shape[0])
    small = _shrink(image)
    try:
        mask = dataset.load_mask(index)
    except DataError:  # damaged or missing
        return Tile(name, split, size, small, None, (), messages)
    under = small
    if mask.shape[:2] != image.shape[:2]:  # drawn by itself, as it does not fit the image
        under = _shrink(np.full((*mask.shape[:2], 3), BLANK, np.uint8))
    numbers, entries = _to_entries(_resize(mask, under.shape), mask, dataset, labels)
    return Tile(name, split, size, small, _overlay(under, numbers, entries), entries, messages)


def _shrink(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = MAX_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _resize(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    # OpenCV cannot resize every type that a mask may have.
    rows = (np.arange(shape[0]) + 0.5) * mask.shape[0] / shape[0]
    columns = (np.arange(shape[1]) + 0.5) * mask.shape[1] / shape[1]
    return mask[rows.astype(int)[:, None], columns.astype(int)]


def _to_entries(
    small: np.ndarray, mask: np.ndarray, dataset: BaseDataset, labels: LabelMap
) -> tuple[np.ndarray, list[Entry]]:
    """Return the small mask as indices of its entries, and the entries."""
    of_small, of_mask = _safe_labels(small, labels), _safe_labels(mask, labels)
    found, counts = np.unique(of_mask, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    entries = []
    numbers = np.zeros(small.shape[:2], np.int32)
    for index, label in enumerate(found[order].tolist()):
        name, colour = describe_label(label, dataset, labels.ignore_index)
        fraction = float(counts[order[index]]) / of_mask.size
        entries.append(Entry(name, colour, fraction, str(label)))
        numbers[of_small == label] = index
    return numbers, entries


_NO_LABEL = -(1 << 16)


def _safe_labels(mask: np.ndarray, labels: LabelMap) -> np.ndarray:
    """Return labels, `_NO_LABEL` for values that mean nothing."""
    known = labels.knows(mask)
    result = np.full(mask.shape[:2], _NO_LABEL, np.int32)
    if known.any():
        result[known] = labels(mask[known][None], "")[0]
    return result


def describe_label(label: int, dataset: BaseDataset, ignore_index: int) -> tuple[str, Colour]:
    """Return the name and the colour of a label."""
    if label == _NO_LABEL:
        return UNKNOWN, UNKNOWN_COLOUR
    if label == ignore_index:
        return IGNORED, IGNORED_COLOUR
    red, green, blue = dataset.palette[label]
    return dataset.classes[label], (red, green, blue)


def _overlay(image: np.ndarray, numbers: np.ndarray, entries: Sequence[Entry]) -> np.ndarray:
    """Draw colours with outlines over the image, and names in the larger regions."""
    colours = [entry.colour for entry in entries]
    canvas = Image.fromarray(lay_over(image, numbers, colours, opacity=OPACITY))
    draw = ImageDraw.Draw(canvas)
    for index, entry in enumerate(entries):
        if entry.name != IGNORED:
            _name_region(draw, numbers == index, entry_name(entry))
    return np.array(canvas)


def _name_region(draw: ImageDraw.ImageDraw, region: np.ndarray, name: str) -> None:
    """Write a name where the largest component of a region is widest."""
    _, components, facts, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8))
    if len(facts) < 2:
        return
    largest = int(facts[1:, cv2.CC_STAT_AREA].argmax()) + 1
    if facts[largest, cv2.CC_STAT_AREA] < MIN_NAMED * region.size:
        return
    inside = np.pad((components == largest).astype(np.uint8), 1)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    font = font_for(name, FONT_SIZE)
    half = draw.textlength(name, font) / 2 + 3
    left = min(max(float(x) - 1, half), max(region.shape[1] - half, half))
    top = min(max(float(y) - 1, FONT_SIZE), region.shape[0] - FONT_SIZE)
    draw.text((left, top), name, "white", font, anchor="mm", stroke_width=2, stroke_fill="black")
