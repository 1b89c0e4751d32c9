"""Masks from labelme's JSON files, https://github.com/wkentaro/labelme."""

import base64
import functools
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image, ImageDraw

from conversion.foreign_json import advice, kind_of, refuse_others
from conversion.masks import BACKGROUND, Legend, MaskJob, mask_path, refuse_unknown
from conversion.parallel import run_each
from utils.config.errors import suggest
from utils.files.data_file import DataError, check_pixels
from utils.files.image_io import decode_png_mask, list_images
from utils.files.json_file import read_json
from utils.files.paths import Root
from utils.files.png_file import read_png_header
from utils.samples.coco_regions import MAX_COORDINATE

IGNORED_LABEL, BACKGROUND_LABEL = "__ignore__", "_background_"
SIZED = ("JPEG", "PNG", "BMP", "GIF", "TIFF")  # for others Pillow may start other programs
LINE_WIDTH, POINT_RADIUS = 10, 5  # pixels, as in labelme itself

# Shape type -> the minimum and maximum number of points.
POINTS = {
    "polygon": (3, math.inf),
    "oriented_rectangle": (4, 4),
    "rotation": (4, 4),  # the name in X-AnyLabeling
    "rectangle": (2, 2),
    "circle": (2, 2),
    "line": (2, 2),
    "linestrip": (2, math.inf),
    "point": (1, 1),
    "points": (1, math.inf),
    "mask": (2, 2),
}


class Shape(msgspec.Struct):
    """A region: its label, its kind and its points (x, y)."""

    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = None
    mask: str | None = None

    def __post_init__(self) -> None:
        # Otherwise "cat " would be a class of its own.
        self.label = self.label.strip()


class Drawing(msgspec.Struct, rename="camel"):
    """A labelme file; the image in it is not decoded."""

    shapes: list[Shape]
    image_height: int | None = None
    image_width: int | None = None
    image_data: msgspec.Raw = msgspec.Raw(b"null")


class SizedShapes(msgspec.Struct):
    """The shapes of a labelme file, and the size of its image."""

    height: int
    width: int
    shapes: list[Shape]


def read_drawings(
    folder: Path, *, image_data: bool = False, output: str | Path = "masks"
) -> tuple[dict[Path, SizedShapes], int]:
    """Read every JSON file below a folder; broken ones are named and skipped.

    Args:
        folder: Searched with its sub-folders.
        image_data: Decode the image in a file that does not state its size.
        output: The folder that the masks go to, for messages.

    Returns:
        File -> shapes, and the number of skipped files.

    Raises:
        DataError: If it is not a folder, or contains no JSON file of labelme's.
    """
    if folder.is_file():
        kind = kind_of(folder)
        known = f"; {advice(kind, folder, output)}" if kind is not None else ""
        raise DataError(f"{folder}: is a file, not a folder{known}")
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder")
    paths = list_images(folder, (".json",))
    others = paths or list_images(folder, (".xml",)) or list_images(folder, (".txt",))
    problem = refuse_others(folder, others, output)
    if problem:  # once, not for each file
        raise DataError(problem)
    if not paths:
        raise DataError(f"{folder}: contains no JSON file")
    read = functools.partial(read_drawing, image_data=image_data)
    found = run_each(read, {str(path): path for path in paths})
    return {Path(name): drawing for name, drawing in found.items()}, len(paths) - len(found)


def read_drawing(path: Path, *, image_data: bool = False) -> SizedShapes:
    """Read one labelme file, of any version.

    Raises:
        DataError: If it cannot be read, is not a labelme file, or does not state the image's size.
    """
    drawing: Drawing = read_json(path, Drawing, "is not a labelme file")
    height, width = drawing.image_height, drawing.image_width
    if (height is None or width is None) and image_data:
        height, width = _size_of_data(path, drawing.image_data)
    if height is None or width is None:
        raise DataError(
            f"{path}: has no imageHeight and imageWidth; --image-data takes the size from the "
            "image in the file"
        )
    check_pixels(path, width, height)
    return SizedShapes(height, width, drawing.shapes)


def _size_of_data(path: Path, data: msgspec.Raw) -> tuple[int, int]:
    try:
        text = msgspec.json.decode(data, type=str)
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=SIZED) as image:
            return image.height, image.width
    except (ValueError, OSError, SyntaxError, RecursionError, Image.DecompressionBombError):
        raise DataError(f"{path}: has no image in imageData either") from None


def choose_classes(
    drawings: Mapping[Path, SizedShapes], names: Sequence[str] | None = None
) -> tuple[Legend, dict[str, int]]:
    """Assign classes to the labels.

    Class 0 is the background, `_background_`; `__ignore__` is ignored. The others are `names` in
    that order, or every label found, sorted.

    Returns:
        The classes, and label -> id in the mask.

    Raises:
        ValueError: If a label is not among `names`, or there is no label at all.
    """
    special = {IGNORED_LABEL, BACKGROUND_LABEL, BACKGROUND}
    counts = Counter(shape.label for drawing in drawings.values() for shape in drawing.shapes)
    found = sorted(set(counts) - special)
    chosen = found if names is None else [name for name in names if name not in special]
    if not chosen:
        raise ValueError("no shape has a label; name the classes with --classes")
    try:
        refuse_unknown("label", found, chosen)
    except ValueError as error:
        shown = ", ".join(f"{label} ({count})" for label, count in sorted(counts.items()))
        raise ValueError(f"{error}; labels found (shapes): {shown}") from None
    legend = Legend((BACKGROUND, *chosen))
    values = {name: i for i, name in enumerate(legend.names)}
    return legend, values | {BACKGROUND_LABEL: 0, IGNORED_LABEL: legend.ignore_index}


def plan_labelme(
    drawings: Mapping[Path, SizedShapes], folder: Path, values: Mapping[str, int], output: Path
) -> list[MaskJob]:
    """Plan a mask for each file, at the same path below `output` as the file below `folder`."""
    root = Root(output, "--output")
    return [
        MaskJob(
            str(path),
            mask_path(root, path.relative_to(folder).as_posix()),
            functools.partial(draw_shapes, drawing, values),
        )
        for path, drawing in drawings.items()
    ]


def draw_shapes(drawing: SizedShapes, values: Mapping[str, int]) -> np.ndarray:
    """Draw shapes over each other, (H, W) ids, in the order of the file, as labelme itself does.

    Raises:
        DataError: If a shape is broken.
    """
    canvas = Image.new("I", (drawing.width, drawing.height))
    for number, shape in enumerate(drawing.shapes):
        try:
            _draw(canvas, shape, values[shape.label])
        except ValueError as error:
            raise DataError(f"shape {number} ({shape.label}): {error}") from None
    return np.asarray(canvas)


def _draw(canvas: Image.Image, shape: Shape, value: int) -> None:
    """Draw one shape with Pillow, as labelme does, so that the edges are the same."""
    kind = shape.shape_type or "polygon"  # labelme 3 wrote none
    if kind == "rectangle" and len(shape.points) == 4:  # X-AnyLabeling writes all four corners
        kind = "polygon"
    _check_points(kind, shape.points)
    pen = ImageDraw.Draw(canvas)
    (x, y), (to_x, to_y) = shape.points[0], shape.points[-1]
    if kind == "mask":
        _paste(canvas, shape, value)
    elif kind == "rectangle":
        box = (min(x, to_x), min(y, to_y), max(x, to_x), max(y, to_y))
        pen.rectangle(box, fill=value, outline=value)
    elif kind == "circle":
        _disc(pen, (x, y), math.hypot(to_x - x, to_y - y), value)
    elif kind in ("line", "linestrip"):
        pen.line(shape.points, fill=value, width=LINE_WIDTH)
    elif kind in ("point", "points"):
        for point in shape.points:
            _disc(pen, point, POINT_RADIUS, value)
    else:
        pen.polygon(shape.points, fill=value, outline=value)


def _check_points(kind: str, points: Sequence[tuple[float, float]]) -> None:
    if kind not in POINTS:
        raise ValueError(f"shape_type {kind!r} is unknown{suggest(kind, POINTS, listing=True)}")
    fewest, most = POINTS[kind]
    if not fewest <= len(points) <= most:
        expected = f"{fewest}" if fewest == most else f"{fewest} or more"
        raise ValueError(f"a {kind} has {len(points)} points; expected {expected}")
    far = max(abs(value) for point in points for value in point)
    if far > MAX_COORDINATE:
        raise ValueError(f"has a point at {far:g}, far outside the image")


def _disc(pen: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, value: int) -> None:
    x, y = centre
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=value, outline=value)


def _paste(canvas: Image.Image, shape: Shape, value: int) -> None:
    """Draw a bitmap into its box, which includes both corners."""
    (left, top), (right, bottom) = ((int(x), int(y)) for x, y in shape.points)
    size = (right - left + 1, bottom - top + 1)
    try:
        data = base64.b64decode(shape.mask or "")
        header = read_png_header("its mask", data)
        fits = (header.width, header.height) == size
        bitmap = decode_png_mask("its mask", data) if fits else None
    except ValueError as error:
        raise ValueError(f"its mask is not a PNG that can be read ({error})") from None
    if bitmap is None:
        raise ValueError(
            f"its mask is {header.width}x{header.height} in a box of {size[0]}x{size[1]}"
        )
    inside = bitmap != 0 if bitmap.ndim == 2 else (bitmap != 0).any(axis=2)
    canvas.paste(value, (left, top), Image.fromarray(inside))
