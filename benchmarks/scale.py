"""prediction.on_ray with one actor against inference.py: what Ray itself costs.

Both programs predict the same images with the same model and one thread, in turn, as processes of
their own. The speed without the start comes from the files: (masks - 1) / (time of the last mask -
time of the first one). A ratio is printed only if both have written every mask, with the same
bytes.

    python -m benchmarks.scale [--count 600] [--size 128] [--rounds 3]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

import models
from benchmarks.images import natural_image
from utils.checkpoint.save_load import save_checkpoint
from utils.drawing.palette import voc_palette

ROOT = Path(__file__).resolve().parent.parent
NUM_CLASSES = 21
PROGRAMS = {
    "inference.py": ("inference.py", "--device", "cpu"),
    "on_ray, 1 actor": ("-m", "prediction.on_ray", "--actors", "1", "--gpus-per-actor", "0"),
}


class Run(NamedTuple):
    """One run of a program."""

    masks: dict[str, bytes]
    seconds: float  # of the process
    first: float  # when the first mask was complete, in seconds since the epoch
    last: float

    @property
    def rates(self) -> tuple[float, float]:
        """Masks per second without the start, and with it."""
        count = len(self.masks)
        return (count - 1) / (self.last - self.first), count / self.seconds


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder / "images", arguments.count, arguments.size)
        make_model(folder / "model.pth")
        rates: dict[str, list[tuple[float, float]]] = {program: [] for program in PROGRAMS}
        for number in range(arguments.rounds):
            runs = {p: run(folder, w, f"{number}{p[0]}") for p, w in PROGRAMS.items()}
            check(runs, arguments.count)
            for program, done in runs.items():
                rates[program].append(done.rates)
    show(rates)


def make_images(folder: Path, count: int, size: int) -> None:
    """Write images with the spectrum of photographs."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = natural_image(rng, size, size, grey=24, colour=6).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg", quality=90)


def make_model(path: Path) -> None:
    """Write a small U-Net, so that what is around the network counts."""
    torch.manual_seed(0)
    model = models.UNet(NUM_CLASSES, base_channels=8)
    meta = {
        "classes": [str(number) for number in range(NUM_CLASSES)],
        "palette": voc_palette(NUM_CLASSES), "mean": [0.45] * 3, "std": [0.25] * 3,
        "channels": 3, "ignore_index": 255,
    }  # fmt: skip
    config = {"arch": {"type": "UNet", "args": {"base_channels": 8}}}
    save_checkpoint({"state_dict": model.state_dict(), "config": config, "meta": meta}, path)


def run(folder: Path, words: Sequence[str], output: str) -> Run:
    """Let a program predict all images."""
    command = [sys.executable, *words, "--model", folder / "model.pth", "--images",
               folder / "images", "--output", folder / output, "--mode", "whole"]  # fmt: skip
    started = time.perf_counter()
    ran = subprocess.run(
        [*map(str, command)], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if ran.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {ran.returncode}: {ran.stderr}")
    paths = sorted((folder / output).rglob("*.png"))
    times = [path.stat().st_mtime_ns / 1e9 for path in paths]
    masks = {path.name: path.read_bytes() for path in paths}
    return Run(masks, seconds, min(times), max(times))


def check(runs: dict[str, Run], count: int) -> None:
    """Refuse to compare different work."""
    first, *others = runs.values()
    for program, done in runs.items():
        if len(done.masks) != count:
            raise RuntimeError(f"{program} has written {len(done.masks)} masks of {count}")
    if any(other.masks != first.masks for other in others):
        raise RuntimeError("the masks differ")


def show(rates: dict[str, list[tuple[float, float]]]) -> None:
    """Print the medians and the ratios."""
    medians = {
        program: [statistics.median(values) for values in zip(*pairs, strict=True)]
        for program, pairs in rates.items()
    }
    (base, base_started), *_ = medians.values()
    rows = [
        (program, loop, loop / base, started, started / base_started)
        for program, (loop, started) in medians.items()
    ]
    headers = ("one process, one thread", "images/s", "ratio", "images/s with start", "ratio")
    print(tabulate(rows, headers=headers, floatfmt=("", ".1f", ".3f", ".1f", ".3f")))


if __name__ == "__main__":
    main()
