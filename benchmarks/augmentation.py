"""Samples per second on one core: decoding alone, our augmentation, and Albumentations.

A sample is one JPEG of 500x375 and its palette PNG, scaled (base size 400, factor 0.5 to 2),
rotated by up to 10 degrees, cropped to 380x380, flipped and blurred: contiguous uint8 (H, W, C),
ready for the device. The rows take turns in each round, and the median over the rounds is printed.

    python -m benchmarks.augmentation [--images DIR --masks DIR] [--samples N] [--rounds N]

Without folders, images are generated. Albumentations is compared if it is installed.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Albumentations asks the package registry for its newest version on import.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import cv2
import numpy as np
from PIL import Image

from benchmarks.images import natural_image
from utils.files.image_io import read_image, read_mask
from utils.transforms.augmentation import Augmentation
from utils.transforms.scale_and_crop import SCALE_RANGE

try:
    import albumentations
except ImportError:
    albumentations = None

BASE_SIZE, CROP_SIZE, IGNORE_INDEX = 400, 380, 255
FILL = (117, 111, 102)
# Below this sigma the blur has a kernel of one pixel, for both sides.
FIRST_SIGMA = 2 / 3.3

Pair = tuple[np.ndarray, np.ndarray]
Transform = Callable[[np.ndarray, np.ndarray, int], Pair]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, help="folder of JPEGs")
    parser.add_argument("--masks", type=Path, help="folder of PNGs of the same names")
    parser.add_argument("--samples", type=int, default=200, help="per row and round")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if (arguments.images is None) != (arguments.masks is None):
        parser.error("--images and --masks go together")
    cv2.setNumThreads(1)

    with tempfile.TemporaryDirectory() as folder:
        if arguments.images is None:
            files = write_images(Path(folder), 8)
        else:
            files = find_images(arguments.images, arguments.masks)
        transforms: dict[str, Transform | None] = {"decode only": None, "ours": make_ours()}
        if albumentations is not None:
            version = albumentations.__version__
            transforms[f"Albumentations {version}, in sequence"] = make_sequence()
            transforms[f"Albumentations {version}, Affine"] = make_affine()
        with_decoding, alone = measure(files, transforms, arguments.samples, arguments.rounds)
    print_table(with_decoding, alone)
    if albumentations is None:
        print("Albumentations is not installed: pip install albumentations==2.0.8")


def measure(
    files: list[tuple[Path, Path]],
    transforms: dict[str, Transform | None],
    samples: int,
    rounds: int,
) -> tuple[dict[str, float], dict[str, float]]:
    """Time every row in turn.

    Returns:
        Median seconds per sample, with decoding and of the transform alone, by row.
    """
    pairs = [(read_image(image), read_mask(mask)) for image, mask in files]
    with_decoding: dict[str, list[float]] = {name: [] for name in transforms}
    alone: dict[str, list[float]] = {name: [] for name in transforms}
    for round_number in range(rounds + 1):
        for name, transform in transforms.items():
            start = time.perf_counter()
            for i in range(samples):
                image_file, mask_file = files[i % len(files)]
                pair = read_image(image_file), read_mask(mask_file)
                if transform is not None:
                    check_sample(name, transform(*pair, round_number * samples + i))
            middle = time.perf_counter()
            if transform is not None:
                for i in range(samples):
                    sample = transform(*pairs[i % len(pairs)], round_number * samples + i)
                    check_sample(name, sample)
            # The first round warms up.
            if round_number:
                with_decoding[name].append((middle - start) / samples)
                alone[name].append((time.perf_counter() - middle) / samples)
    return (
        {name: statistics.median(times) for name, times in with_decoding.items()},
        {name: statistics.median(times) for name, times in alone.items()},
    )


def check_sample(name: str, sample: Pair) -> None:
    """Raise a RuntimeError unless a row has made what every row has to make."""
    image, label = sample
    size = (CROP_SIZE, CROP_SIZE)
    same = image.shape == (*size, 3) and image.dtype == np.uint8 and label.shape == size
    if not (same and image.flags.c_contiguous and label.flags.c_contiguous):
        raise RuntimeError(f"{name}: made {image.dtype} {image.shape} and {label.shape}")


def print_table(with_decoding: dict[str, float], alone: dict[str, float]) -> None:
    """Print samples per second, and how many times faster ours is."""
    ours, ours_alone = with_decoding["ours"], alone["ours"]
    print(f"OpenCV {cv2.__version__}, one thread")
    print(f"{'':36}{'samples/s':>11}{'ours is':>9}{'transform ms':>14}{'ours is':>9}")
    for name, seconds in with_decoding.items():
        row = f"{name:36}{1 / seconds:11.0f}{seconds / ours:8.2f}x"
        if name != "decode only":
            row += f"{alone[name] * 1000:14.2f}{alone[name] / ours_alone:8.2f}x"
        print(row)


def make_ours() -> Transform:
    """Build our transform, with one generator per sample as in training."""
    augmentation = Augmentation(
        augment=True,
        base_size=BASE_SIZE,
        crop_size=CROP_SIZE,
        scale=True,
        flip=True,
        rotate=True,
        blur=True,
    )

    def transform(image: np.ndarray, label: np.ndarray, index: int) -> Pair:
        rng = np.random.default_rng((0, index))
        return augmentation(image, label, rng, ignore_index=IGNORE_INDEX, fill=FILL)

    return transform


def make_sequence() -> Transform:
    """Build the same operations in Albumentations, one after the other."""
    low, high = (int(factor * BASE_SIZE) for factor in SCALE_RANGE)
    return make_albumentations(
        albumentations.LongestMaxSize(max_size=list(range(low, high + 1)), p=1),
        albumentations.Rotate(
            limit=(-10, 10), border_mode=cv2.BORDER_CONSTANT, fill=FILL, fill_mask=IGNORE_INDEX, p=1
        ),
    )


def make_affine() -> Transform:
    """Build the form with scale and rotation in one step.

    Its canvas keeps the size of the source, so an enlarged image loses its borders: this
    is less work than ours, and faster than a canvas that contains everything.
    """
    low, high = (factor * BASE_SIZE / 500 for factor in SCALE_RANGE)
    return make_albumentations(
        albumentations.Affine(
            scale=(low, high),
            rotate=(-10, 10),
            border_mode=cv2.BORDER_CONSTANT,
            fill=FILL,
            fill_mask=IGNORE_INDEX,
            p=1,
        )
    )


def make_albumentations(*scale_and_rotate: Any) -> Transform:
    """Add what both forms share: padding at the bottom and right, crop, flip and blur."""
    pipeline = albumentations.Compose(
        [
            *scale_and_rotate,
            albumentations.PadIfNeeded(
                min_height=CROP_SIZE,
                min_width=CROP_SIZE,
                position="top_left",
                border_mode=cv2.BORDER_CONSTANT,
                fill=FILL,
                fill_mask=IGNORE_INDEX,
                p=1,
            ),
            albumentations.RandomCrop(height=CROP_SIZE, width=CROP_SIZE, p=1),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.GaussianBlur(
                blur_limit=(3, 3), sigma_limit=(FIRST_SIGMA, 1.0), p=1 - FIRST_SIGMA
            ),
        ],
        strict=True,
        seed=0,
    )
    # Importing the library changes OpenCV's number of threads.
    cv2.setNumThreads(1)

    def transform(image: np.ndarray, label: np.ndarray, index: int) -> Pair:
        result = pipeline(image=image, mask=label)
        image, label = result["image"], result["mask"]
        assert image.shape[:2] == label.shape == (CROP_SIZE, CROP_SIZE)
        return np.ascontiguousarray(image), np.ascontiguousarray(label)

    return transform


def find_images(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Pair the JPEGs of one folder with the PNGs of another by name."""
    files = [(image, masks / f"{image.stem}.png") for image in sorted(images.glob("*.jpg"))]
    files = [(image, mask) for image, mask in files if mask.is_file()]
    if not files:
        raise SystemExit(f"{images}: no JPEG with a mask of the same name in {masks}")
    return files


def write_images(folder: Path, count: int) -> list[tuple[Path, Path]]:
    """Write JPEGs with the spectrum of photographs, and palette PNGs of a few blobs as masks."""
    files = []
    palette = np.random.default_rng(0).integers(0, 256, 768).tolist()
    for number in range(count):
        rng = np.random.default_rng(number)
        image = natural_image(rng, 375, 500, grey=16, colour=5)
        blobs = cv2.resize(rng.normal(0, 1, (6, 8)), (500, 375), interpolation=cv2.INTER_CUBIC)
        mask = np.where(blobs > 0.6, rng.integers(1, 21), 0).astype(np.uint8)
        mask[np.abs(blobs - 0.6) < 0.03] = IGNORE_INDEX
        image[mask > 0] = image[mask > 0] * 0.7 + rng.uniform(0, 80, 3)

        image_file, mask_file = folder / f"{number}.jpg", folder / f"{number}.png"
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(image_file, quality=90)
        palette_image = Image.fromarray(mask)
        palette_image.putpalette(palette)
        palette_image.save(mask_file)
        files.append((image_file, mask_file))
    return files


if __name__ == "__main__":
    main()
