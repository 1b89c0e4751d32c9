"""A server against the same model in a loop, and how it bears many requests and broken ones.

    python -m benchmarks.serving [--clients 1 8] [--rounds 5] [--count 48] [--size 256]
    python -m benchmarks.serving --memory 5000

The loop and the server work in turn, each in a process of its own, on the same images and with as
many threads. The loop does what nobody can do without: decode a file and predict its ids. The
server also receives the file by HTTP, writes the PNG and sends it. Each mask is compared with that
of the loop and counted; if one is missing, or less than 99.9 % of the pixels are equal, nothing is
printed. The first round warms up. In both, threads of OpenMP that wait for each other sleep
(OMP_WAIT_POLICY=passive): where a neighbour takes a core, those that spin wait many times as long,
in the loop more than in the server, and the ratio would flatter the server.
"""

import argparse
import concurrent.futures
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

from benchmarks.prediction import make_checkpoint

ROOT = Path(__file__).resolve().parent.parent
MIN_EQUAL = 0.999
SMALL = 32  # pixels a side, for the memory over many requests

LOOP = """
import hashlib, json, sys, time
import numpy as np, torch
from pathlib import Path
from prediction.open_model import Passes, open_model
from prediction.predict_images import pixel_rule
from prediction.source.image_source import load_image
opened = open_model([sys.argv[1]], Passes("whole"), device=sys.argv[2])
rule, files = pixel_rule(opened.meta), [Path(name) for name in sys.argv[4:]]
for line in sys.stdin:
    started = time.perf_counter()
    masks = [opened.predictor.predict(load_image(path, rule).pixels) for path in files]
    seconds = time.perf_counter() - started
    np.savez(sys.argv[3], *masks)
    print(json.dumps(seconds), flush=True)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--clients", type=int, nargs="+", default=[1, 8])
    add("--rounds", type=int, default=5)
    add("--count", type=int, default=48, help="requests of a round")
    add("--size", type=int, default=256, help="pixels a side of the images")
    add("--device", default="cpu")
    add("--model", metavar="FILE", help="a checkpoint (default: PSPNet, random weights)")
    add("--memory", type=int, metavar="N", help="watch the memory over so many small requests")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = Path(arguments.model) if arguments.model else make_checkpoint(folder)
        if arguments.memory:
            watch_memory(model, folder, arguments)
        else:
            compare(model, folder, arguments)


def compare(model: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """Print requests a second and latencies beside those of the loop."""
    files = make_images(folder, arguments.count, arguments.size)
    data = [path.read_bytes() for path in files]
    print(
        f"{arguments.count} images of {arguments.size} x {arguments.size} pixels, "
        f"{arguments.rounds} rounds"
    )
    print(f"{'clients':>8}{'server/s':>10}{'loop/s':>10}{'ratio':>8}{'p50 ms':>9}{'p95 ms':>9}"
          f"{'p99 ms':>9}{'equal':>9}")  # fmt: skip
    with server_of(model, arguments) as (url, _), loop_of(model, files, folder, arguments) as turn:
        for clients in arguments.clients:
            rates: list[tuple[float, float]] = []
            latencies: list[float] = []
            equal = 1.0
            for number in range(arguments.rounds + 1):
                before = images_of(url)
                seconds, answers, times = send(url, data, clients)
                done = images_of(url) - before
                theirs, expected = turn()
                if done != len(data):
                    raise SystemExit(f"the server predicted {done} of {len(data)} images")
                equal = min(equal, agreement(answers, expected))
                if equal < MIN_EQUAL:
                    raise SystemExit(f"only {equal:.5f} of the pixels are equal: not comparable")
                if number:  # the first one warms up
                    rates.append((len(data) / seconds, len(data) / theirs))
                    latencies += times
            ratio = statistics.median(own / other for own, other in rates)
            own, other = (statistics.median(side) for side in zip(*rates, strict=True))
            p50, p95, p99 = (1000 * np.quantile(latencies, q) for q in (0.5, 0.95, 0.99))
            print(f"{clients:>8}{own:>10.2f}{other:>10.2f}{ratio:>8.2f}{p50:>9.0f}{p95:>9.0f}"
                  f"{p99:>9.0f}{equal:>9.5f}", flush=True)  # fmt: skip


def agreement(answers: Sequence[bytes], expected: Sequence[np.ndarray]) -> float:
    """Return the part of equal pixels of all masks; end the program if one is missing."""
    equal = total = 0
    for answer, mask in zip(answers, expected, strict=True):
        ids = np.array(Image.open(io.BytesIO(answer)))
        if ids.shape != mask.shape or mask.size == 0:
            raise SystemExit(f"a mask is {ids.shape}, that of the loop {mask.shape}")
        equal += int((ids == mask).sum())
        total += mask.size
    return equal / total


def watch_memory(model: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """Print the resident memory of a server over many requests of small images, some broken."""
    good = [path.read_bytes() for path in make_images(folder, 8, SMALL)]
    broken = [good[0][:200], b"no image", b""]
    count, step = arguments.memory, max(1, arguments.memory // 10)
    with server_of(model, arguments) as (url, process):
        sizes = []
        for first in range(0, count, step):
            data = [
                broken[number % 3] if number % 10 == 9 else good[number % 8]
                for number in range(first, min(count, first + step))
            ]
            seconds, _, _ = send(url, data, 8, may_fail=True)
            sizes.append(psutil.Process(process.pid).memory_info().rss / 1e6)
            print(f"{first + len(data):>7} requests, {len(data) / seconds:6.0f}/s, "
                  f"{sizes[-1]:7.1f} MB", flush=True)  # fmt: skip
        print(f"growth after the first {step}: {sizes[-1] - sizes[0]:+.1f} MB")


def make_images(folder: Path, count: int, size: int) -> list[Path]:
    """Write JPEGs of smooth noise."""
    generator = np.random.default_rng(0)
    files = []
    for number in range(count):
        coarse = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        path = folder / f"{number:04}.jpg"
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(
            path, quality=90
        )
        files.append(path)
    return files


@contextmanager
def server_of(
    model: Path, arguments: argparse.Namespace
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run serve.py on a free port; yield its address and its process."""
    command = [sys.executable, str(ROOT / "serve.py"), "-m", str(model), "--port", "0", "--mode",
               "whole", "--device", arguments.device, "--queue", "64"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+?:\d+", process.stdout.readline())
        if found is None:
            raise SystemExit("the server did not start")
        yield found[0], process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def loop_of(
    model: Path, files: Sequence[Path], folder: Path, arguments: argparse.Namespace
) -> Iterator["Turn"]:
    """Run the loop in a process of its own; yield what lets it work once."""
    masks = folder / "masks.npz"
    command = [sys.executable, "-c", LOOP, str(model), arguments.device, str(masks)]
    process = subprocess.Popen(
        [*command, *map(str, files)], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    try:
        yield Turn(process, masks)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def environment() -> dict[str, str]:
    """Return the environment of both sides."""
    return {"OMP_WAIT_POLICY": "passive", **os.environ}


class Turn:
    """Lets the loop work once.

    Args:
        process: The loop.
        masks: Where it writes its masks.
    """

    def __init__(self, process: "subprocess.Popen[str]", masks: Path) -> None:
        self._process, self._masks = process, masks

    def __call__(self) -> tuple[float, list[np.ndarray]]:
        """Return its seconds and its masks."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        seconds = json.loads(self._process.stdout.readline())
        with np.load(self._masks, allow_pickle=False) as masks:
            return seconds, [masks[name] for name in masks.files]


def send(
    url: str, data: Sequence[bytes], clients: int, *, may_fail: bool = False
) -> tuple[float, list[bytes], list[float]]:
    """Send images by so many clients at once; return the seconds, the answers and their times."""
    with httpx.Client(
        base_url=url, timeout=120, limits=httpx.Limits(max_connections=clients)
    ) as one:

        def ask(image: bytes) -> tuple[bytes, float]:
            began = time.perf_counter()
            answer = one.post("/v1/predict", files={"image": ("image", image)})
            seconds = time.perf_counter() - began
            if answer.status_code != 200 and not (may_fail and 400 <= answer.status_code < 500):
                raise SystemExit(f"the server answers {answer.status_code}: {answer.text}")
            return answer.content, seconds

        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            began = time.perf_counter()
            made = list(pool.map(ask, data))
            seconds = time.perf_counter() - began
    return seconds, [content for content, _ in made], [each for _, each in made]


def images_of(url: str) -> int:
    """Return how many images have gone through the model of a server."""
    text = httpx.get(f"{url}/metrics").text
    found = re.search(r"^segmentation_images_total\{.*\} (\S+)$", text, re.M)
    return int(float(found[1])) if found else 0


if __name__ == "__main__":
    main()
