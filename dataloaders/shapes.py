"""Scenes that the program draws: shapes on textured ground, so a first run downloads nothing."""

from typing import Annotated, Literal

import cv2
import msgspec
import numpy as np

from base.base_dataset import BaseDataset, Pair, Picture
from utils.config.types import NonNegativeInt, PositiveInt
from utils.samples.pairing import Sample

ImageSize = Annotated[int, msgspec.Meta(ge=16)]

NUM_IMAGES = {"train": 2000, "val": 200}
SPLIT_KEYS = {"train": 0, "val": 1}

# Contours are drawn this many times larger: the fraction of covered subpixels is a pixel's opacity,
# and a half decides its label, so that the two edges agree.
SUPERSAMPLING = 8

VOID = 255

QUARTER_TURN = np.array([[0, -1], [1, 0]])

OUTLINED = 0.35  # fraction of objects with an ignored outline, as those of PASCAL VOC


class Shapes(BaseDataset):
    """Five kinds of shapes with random texture, colour, size, rotation, overlap and light.

    Colour and texture do not depend on the class, and soft patches and thin lines without a class
    are distractors. A scene is a pure function of (seed, split, index): it is drawn when it is
    read, the splits share none, and more images leave the first ones as they are. The outline
    of some objects is ignored. Versions of OpenCV round outlines differently, which changes the
    label of about one pixel in ten thousand.

    Args:
        split: One of the two streams of scenes.
        num_images: None for 2000 (train) or 200 (val).
        image_size: Side of the square images, in pixels; objects grow with it.
        seed: Seed of the whole dataset.

    Raises:
        ValueError: If `split` is neither "train" nor "val".
    """

    classes = ("ground", "disk", "rectangle", "triangle", "ring", "cross")
    palette = (
        (40, 42, 54),
        (236, 100, 75),
        (65, 131, 215),
        (38, 166, 91),
        (155, 89, 182),
        (245, 215, 110),
    )
    mean = (0.4712, 0.4703, 0.4721)  # of the 2000 training scenes
    std = (0.2424, 0.2476, 0.2468)
    void = (VOID,)

    def __init__(
        self,
        split: Literal["train", "val"] = "train",
        *,
        num_images: PositiveInt | None = None,
        image_size: ImageSize = 96,
        seed: NonNegativeInt = 0,
    ) -> None:
        if split not in SPLIT_KEYS:
            raise ValueError(f"split: expected one of {', '.join(SPLIT_KEYS)}, got {split!r}")
        names = [f"{split}_{index:06d}" for index in range(num_images or NUM_IMAGES[split])]
        # There are no files: messages and reports show the names instead of paths.
        samples = [Sample(name=name, image=name, label=name) for name in names]
        super().__init__(samples)
        self.split = split
        self.image_size = image_size
        self.seed = seed
        self.drawn_from = f"seed {seed}, size {image_size}"

    def load(self, index: int) -> Pair:
        """Draw one scene.

        Args:
            index: From 0 to the number of images, excluded.

        Returns:
            Image (H, W, 3), uint8 RGB, and mask (H, W), uint8: classes and 255 for ignored.

        Raises:
            IndexError: If there is no such scene.
        """
        if not 0 <= index < len(self.samples):
            raise IndexError(f"scene {index} of {len(self.samples)}")
        stream = np.random.SeedSequence(self.seed, spawn_key=(SPLIT_KEYS[self.split], index))
        return Pair(*draw_scene(np.random.default_rng(stream), self.image_size))

    def load_image(self, index: int) -> Picture:
        """Draw one scene and return its image."""
        return Picture(self.load(index).image)

    def load_mask(self, index: int) -> np.ndarray:
        """Draw one scene and return its mask."""
        return self.load(index).mask


def draw_scene(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw ground, distractors, objects from back to front, then light and camera.

    Returns:
        Image (size, size, 3), uint8 RGB, and mask (size, size), uint8.
    """
    ground_colour = draw_colour(rng)
    image = draw_texture(rng, size, size, ground_colour)
    mask = np.zeros((size, size), np.uint8)

    for _ in range(rng.integers(1, 4)):
        draw_patch(rng, image)
    for _ in range(rng.integers(0, 3)):
        draw_line(rng, image)

    centres: list[tuple[float, float, float]] = []
    for _ in range(rng.integers(3, 8)):
        radius = size * rng.uniform(0.14, 0.26)
        centre = place(rng, size, radius, centres)
        if centre is not None:
            centres.append((*centre, radius))
            draw_object(rng, image, mask, (*centre, radius), ground_colour)

    return finish(rng, image), mask


def place(
    rng: np.random.Generator, size: int, radius: float, centres: list[tuple[float, float, float]]
) -> tuple[float, float] | None:
    """Find a centre where no object hides another one completely; None after eight tries."""
    for x, y in rng.uniform(0.08 * size, 0.92 * size, (8, 2)).tolist():
        near = ((x - cx) ** 2 + (y - cy) ** 2 < (0.75 * (r + radius)) ** 2 for cx, cy, r in centres)
        if not any(near):
            return x, y
    return None


def draw_colour(rng: np.random.Generator) -> np.ndarray:
    """Draw an RGB colour of any hue, (3,) float32 in 0..255."""
    hue, saturation, value = rng.random(3).tolist()
    # Piecewise linear hue: the distance on the circle to red, green and blue.
    distance = np.abs((6 * hue - np.array([0.0, 2.0, 4.0]) + 3) % 6 - 3)
    pure = np.clip(2 - distance, 0, 1)
    saturation = 0.15 + 0.65 * saturation
    return ((60 + 190 * value) * (1 - saturation * (1 - pure))).astype(np.float32)


def draw_texture(
    rng: np.random.Generator, height: int, width: int, colour: np.ndarray
) -> np.ndarray:
    """Draw a texture around a colour, (height, width, 3) float32.

    Ground, patches and objects are flat, striped, checked, graded or cloudy.
    """
    kind = rng.integers(5)
    contrast = rng.uniform(0.15, 0.45) * (1 if rng.random() < 0.5 else -1)
    if kind == 0:
        return np.broadcast_to(colour, (height, width, 3)).copy()
    if kind == 4:
        cells = rng.random((height // 8 + 2, width // 8 + 2), dtype=np.float32)
        wave = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    else:
        direction = rng.uniform(-1, 1, 2)
        direction = (direction / max(np.abs(direction).sum(), 0.1)).astype(np.float32)
        x = np.arange(width, dtype=np.float32)[None]
        y = np.arange(height, dtype=np.float32)[:, None]
        along, across = x * direction[0] + y * direction[1], y * direction[0] - x * direction[1]
        period = np.float32(rng.uniform(5, 14))
        if kind == 1:
            wave = along / period % 1 < 0.5
        elif kind == 2:
            wave = (along / period % 1 < 0.5) ^ (across / period % 1 < 0.5)
        else:
            wave = (along - along.min()) / max(float(np.ptp(along)), 1.0)
    mix = np.float32(1) + np.float32(contrast) * (wave.astype(np.float32) - np.float32(0.5))
    return colour * mix[..., None]


def draw_patch(rng: np.random.Generator, image: np.ndarray) -> None:
    """Lay a texture with a soft, irregular outline on the ground, in place."""
    size = image.shape[0]
    cells = rng.random((4, 4), dtype=np.float32)
    cells[[0, -1]] = cells[:, [0, -1]] = 0
    height, width = (rng.uniform(0.25, 0.6, 2) * size).astype(int).tolist()
    y, x = rng.integers(0, size - height), rng.integers(0, size - width)
    opacity = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
    opacity = np.clip(4 * opacity - 0.8, 0, 1)[..., None]
    region = image[y : y + height, x : x + width]
    region += opacity * (draw_texture(rng, height, width, draw_colour(rng)) - region)


def draw_line(rng: np.random.Generator, image: np.ndarray) -> None:
    """Draw a thin line across the ground, in place."""
    ends = rng.integers(0, image.shape[0], (2, 2)).tolist()
    cv2.line(image, ends[0], ends[1], draw_colour(rng).tolist(), int(rng.integers(1, 3)))


def draw_object(
    rng: np.random.Generator,
    image: np.ndarray,
    mask: np.ndarray,
    circle: tuple[float, float, float],
    ground_colour: np.ndarray,
) -> None:
    """Draw one object with its shadow over what is there, in place."""
    size = image.shape[0]
    x, y, radius = circle
    kind = int(rng.integers(1, len(Shapes.classes)))
    contours = draw_contours(rng, kind, radius)

    # Only the rectangle around the object changes, with a margin for the shadow and the outline.
    margin = 4
    x0, x1 = max(int(x - radius) - margin, 0), min(int(x + radius) + margin + 1, size)
    y0, y1 = max(int(y - radius) - margin, 0), min(int(y + radius) + margin + 1, size)
    opacity = rasterise(contours, x - x0, y - y0, y1 - y0, x1 - x0)
    region = image[y0:y1, x0:x1]

    shift_x, shift_y = rng.integers(-2, 3), rng.integers(0, 3)
    shadow = cv2.GaussianBlur(opacity, (7, 7), 1.5)
    shadow = np.roll(shadow, (shift_y, shift_x), axis=(0, 1)).astype(np.float32)
    region *= (1 - np.float32(rng.uniform(0.2, 0.5) / 255) * shadow)[..., None]

    colour = draw_colour(rng)
    if np.abs(colour - ground_colour).max() < 80:
        colour = (colour + 128) % 256
    texture = draw_texture(rng, y1 - y0, x1 - x0, colour)
    region += (opacity.astype(np.float32) * np.float32(1 / 255))[..., None] * (texture - region)

    inside = (opacity >= 128).astype(np.uint8)
    mask_region = mask[y0:y1, x0:x1]
    mask_region[inside > 0] = kind
    if rng.random() < OUTLINED:
        outline = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        mask_region[outline > 0] = VOID


def draw_contours(rng: np.random.Generator, kind: int, radius: float) -> list[np.ndarray]:
    """Draw the outline of a class about the origin: contours (n, 2) of (x, y), even-odd filled."""
    name = Shapes.classes[kind]
    stretch = rng.uniform(0.75, 1.0)
    if name == "disk":
        contours = [circle_points(40)]
    elif name == "rectangle":
        contours = [circle_points(4, 0.5)]
        stretch = rng.uniform(0.55, 1.0)
    elif name == "triangle":
        contours = [circle_points(3, 0.25)]
    elif name == "ring":
        contours = [circle_points(40), circle_points(40) * rng.uniform(0.45, 0.65)]
    else:
        arm = rng.uniform(0.22, 0.36)
        quarter = np.array([[arm, arm], [1.0, arm], [1.0, -arm]])
        turns = [np.linalg.matrix_power(QUARTER_TURN, times) for times in range(4)]
        contours = [np.concatenate([quarter @ turn for turn in turns]) * 0.95]
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = radius * np.array([[cos, sin], [-sin, cos]])
    return [contour * (1.0, stretch) @ matrix for contour in contours]


def circle_points(count: int, offset: float = 0.0) -> np.ndarray:
    """Return points on the unit circle, (count, 2), the first turned by `offset` steps."""
    angles = 2 * np.pi * (np.arange(count) + offset) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def rasterise(
    contours: list[np.ndarray], x: float, y: float, height: int, width: int
) -> np.ndarray:
    """Fill contours at (x, y): the covered fraction of each pixel, (height, width) uint8."""
    canvas = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.uint8)
    # OpenCV's whole coordinates are pixel centres, ours are pixel corners. Its finer coordinates
    # are drawn differently by its versions 4 and 5.
    centre = np.array([x, y])
    points = [np.rint((c + centre) * SUPERSAMPLING - 0.5).astype(np.int32) for c in contours]
    cv2.fillPoly(canvas, points, 255)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)


def finish(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add light from one side, then a camera's blur and noise: uint8 from float32."""
    size = image.shape[0]
    light_x, light_y, level = rng.uniform(-0.25, 0.25, 3).astype(np.float32)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    image *= (1 + level / 2 + light_y * ramp[:, None] + light_x * ramp[None])[..., None]
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (3, 3), float(rng.uniform(0.4, 0.8)))
    amount = np.float32(rng.uniform(0.01, 0.07))
    image += amount * (rng.integers(0, 256, image.shape, dtype=np.uint8) - np.float32(127.5))
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)
