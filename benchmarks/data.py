"""From files to batches: large images, the cache, loader workers, and the start of an epoch.

The images are PNGs of 2048x1024 with masks of class ids, augmented as is usual for street scenes:
long side 0.5 to 2 times 2048, rotated by up to 10 degrees, cropped to 768x768, flipped and
normalized. "In sequence" applies one operation after the other (OpenCV, uint8 until normalization)
to images read by Pillow, like pytorch-segmentation, or by our reader; ours is one warp. The rows
take turns in each round; medians over the rounds are printed.

    python -m benchmarks.data [--pictures N] [--rounds N] [--part samples|workers|epochs]
"""

import argparse
import logging
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

from base.base_dataloader import BaseDataLoader, LoaderOptions
from base.samples import Samples
from benchmarks.images import natural_image
from dataloaders.folder import Folder
from utils.files.image_io import read_image, read_mask
from utils.samples.normalize import normalize
from utils.transforms.augmentation import Augmentation
from utils.transforms.rotate_and_flip import MAX_ANGLE
from utils.transforms.scale_and_crop import SCALE_RANGE

HEIGHT, WIDTH, NUM_CLASSES, IGNORE_INDEX = 1024, 2048, 19, 255
BASE_SIZE, CROP_SIZE, BATCH_SIZE = 2048, 768, 4

PEER = "in sequence, Pillow"

Array = np.ndarray | torch.Tensor

TABLES = ("samples", "workers", "epochs")


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", choices=TABLES, action="append", help="default: all")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root, arguments.pictures)
        for part in arguments.part or TABLES:
            {"samples": samples, "workers": workers, "epochs": epochs}[part](root, arguments.rounds)


def make_loader(
    root: Path, num_epochs: int = 0, workers: int = 0, cache: str | None = None
) -> BaseDataLoader:
    """Build the training loader of the images below `root`."""
    return BaseDataLoader(
        Folder(classes=NUM_CLASSES, data_dir=str(root)),
        Augmentation(
            augment=True, base_size=BASE_SIZE, crop_size=CROP_SIZE, flip=True, rotate=True
        ),
        LoaderOptions(
            batch_size=BATCH_SIZE,
            shuffle=True,
            num_workers=workers,
            cache=cache,  # type: ignore[arg-type]
            cache_dir=str(root / "cache"),
        ),
        seed=0,
        ignore_index=IGNORE_INDEX,
        training=True,
        num_epochs=num_epochs,
    )


# --------------------------------------------------------------------------------------------------
# One process, one sample after the other


def samples(root: Path, rounds: int) -> None:
    """Print samples per second, without a cache and with one."""
    loaders = {cache: make_loader(root, cache=cache) for cache in (None, "ram", "disk")}
    dataset = loaders[None].source
    files = [(sample.image, str(sample.label)) for sample in dataset.samples]

    def decode(epoch: int, index: int) -> Array:
        read_mask(files[index][1])
        return read_image(files[index][0])

    def ours(loader: BaseDataLoader) -> Callable[[int, int], Array]:
        source: Samples = loader.samples

        def run(epoch: int, index: int) -> Array:
            image = source.sample(epoch, index).image
            return normalize(torch.from_numpy(image)[None], dataset.mean, dataset.std)

        return run

    def sequence(
        read: Callable[[str], np.ndarray], read_label: Callable[[str], np.ndarray]
    ) -> Callable[[int, int], Array]:
        mean, std = (np.array(values, np.float32) for values in (dataset.mean, dataset.std))

        def run(epoch: int, index: int) -> Array:
            rng = np.random.default_rng((0, epoch, index))
            image, _ = in_sequence(read(files[index][0]), read_label(files[index][1]), rng)
            return np.ascontiguousarray(((image / np.float32(255) - mean) / std).transpose(2, 0, 1))

        return run

    rows: dict[str, Callable[[int, int], Array]] = {
        "decode only": decode,
        PEER: sequence(
            lambda path: np.asarray(Image.open(path).convert("RGB")),
            lambda path: np.asarray(Image.open(path)),
        ),
        "in sequence, our reader": sequence(read_image, read_mask),
        "ours": ours(loaders[None]),
        'ours, cache "ram"': ours(loaders["ram"]),
        'ours, cache "disk"': ours(loaders["disk"]),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    for epoch in range(rounds + 1):  # the first round warms up and fills the caches
        for name, run in rows.items():
            started = time.perf_counter()
            for index in range(len(files)):
                values = math.prod(run(epoch, index).shape)
                if run is not decode and values != 3 * CROP_SIZE**2:
                    raise RuntimeError(f"{name}: made {values} values, not 3 x {CROP_SIZE}^2")
            times[name].append((time.perf_counter() - started) / len(files))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    peer = medians[PEER]
    print(
        tabulate(
            [
                (name, 1 / seconds, seconds * 1000, peer / seconds)
                for name, seconds in medians.items()
            ],
            headers=("one process", "samples/s", "ms", "ratio to sequence"),
            floatfmt=("", ".1f", ".1f", ".2f"),
        ),
        end="\n\n",
    )


def in_sequence(
    image: np.ndarray, label: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Resize, rotate, pad, crop and flip (H, W, 3) and (H, W) uint8, one after the other."""
    low, high = (int(factor * BASE_SIZE) for factor in SCALE_RANGE)
    ratio = int(rng.integers(low, high + 1)) / max(label.shape)
    size = (int(label.shape[1] * ratio + 0.5), int(label.shape[0] * ratio + 0.5))
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)

    angle = int(rng.integers(-MAX_ANGLE, MAX_ANGLE + 1))
    matrix = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), angle, 1.0)
    image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)
    label = cv2.warpAffine(
        label, matrix, size, flags=cv2.INTER_NEAREST, borderValue=(IGNORE_INDEX,)
    )

    below, right = (max(CROP_SIZE - side, 0) for side in label.shape)
    if below or right:
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT)
        label = cv2.copyMakeBorder(
            label, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(IGNORE_INDEX,)
        )
    top, left = (int(rng.integers(0, side - CROP_SIZE + 1)) for side in label.shape)
    image = image[top : top + CROP_SIZE, left : left + CROP_SIZE]
    label = label[top : top + CROP_SIZE, left : left + CROP_SIZE]
    if rng.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    return image, np.ascontiguousarray(label)


# --------------------------------------------------------------------------------------------------
# The loader


def workers(root: Path, rounds: int) -> None:
    """Print samples per second of the whole loader, by number of workers and cache."""
    counts, caches = (0, 1, 2), (None, "ram", "disk")
    loaders = {
        (count, cache): make_loader(root, rounds + 1, count, cache)
        for count in counts
        for cache in caches
    }
    times: dict[tuple[int, str | None], list[float]] = {key: [] for key in loaders}
    for epoch in range(rounds + 1):
        for key, loader in loaders.items():
            started = time.perf_counter()
            # One epoch at a time: prefetched batches would count in the turn of another loader.
            loader.num_epochs = 0
            count = sum(len(batch[0]) for batch in loader.epoch(epoch))
            if count != len(loader.source):
                raise RuntimeError(f"{key}: loaded {count} of {len(loader.source)} images")
            times[key].append(count / (time.perf_counter() - started))
    print(
        tabulate(
            [
                [count, *(statistics.median(times[count, cache][1:]) for cache in caches)]
                for count in counts
            ],
            headers=("num_workers", "samples/s, no cache", "ram", "disk"),
            floatfmt=".1f",
        ),
        end="\n\n",
    )


def epochs(root: Path, rounds: int) -> None:
    """Print how long a training slower than its loader waits for the first batch of an epoch."""
    rows = []
    for name, num_epochs in (("each epoch separately", 0), ("prefetched", rounds + 1)):
        loader = make_loader(root, num_epochs, workers=1, cache="ram")
        first: list[float] = []
        later: list[float] = []
        start: list[float] = []
        if num_epochs:
            loader.prepare(1)
        time.sleep(1)  # the model is built
        for epoch in range(1, rounds + 2):
            batches = iter(loader.epoch(epoch))
            for number in range(len(loader)):
                started = time.perf_counter()
                next(batches)
                waited = time.perf_counter() - started
                time.sleep(0.2)  # the training step
                (later if number else first if epoch > 1 else start).append(waited)
            next(batches, None)
        rows.append((name, *(statistics.median(waits) * 1000 for waits in (start, first, later))))
    print(
        tabulate(
            rows,
            headers=(
                "one worker, wait in ms for",
                "the first batch",
                "the first of a later epoch",
                "other batches",
            ),
            floatfmt=".1f",
        )
    )


# --------------------------------------------------------------------------------------------------
# Images


def write_images(root: Path, count: int) -> None:
    """Write images with the spectrum of photographs, and masks of a few regions."""
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for number in range(count):
        rng = np.random.default_rng(number)
        image = natural_image(rng, HEIGHT, WIDTH, grey=12, colour=3)
        image += rng.normal(0, 1, image.shape)  # camera noise: 2.6 MB, as in street scenes
        regions = cv2.resize(
            rng.random((6, 12)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
        )
        mask = np.clip(regions * NUM_CLASSES, 0, NUM_CLASSES - 1).astype(np.uint8)
        pixels = np.clip(image, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")


if __name__ == "__main__":
    main()
