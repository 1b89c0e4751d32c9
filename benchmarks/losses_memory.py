"""Cross-entropy over many classes: logits upsampled a tile at a time, and all at once.

For each case, the peak memory of loss, gradient and predicted classes in addition to the coarse
logits, each way in a separate process; then the time, both ways in turns.

    python -m benchmarks.losses_memory [--rounds 5] [--threads 2] [--device cuda] [--classes 150]
"""

import argparse
import itertools
import multiprocessing
import statistics
import time

import tabulate
import torch
from torch import Tensor

from benchmarks.peak_memory import peak_memory
from utils.logits.coarse_logits import CoarseLogits
from utils.losses.cross_entropy import CrossEntropyLoss2d


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=513)
    parser.add_argument("--classes", type=int, nargs="+", default=[150])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--stride", type=int, nargs="+", default=[8, 4])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"{arguments.size}x{arguments.size}, {arguments.device}, {arguments.threads} threads, "
        f"torch {torch.__version__}, median of {arguments.rounds}"
    )
    cases = itertools.product(arguments.classes, arguments.batch_size, arguments.stride)
    rows = [[*case, *measure(*case, arguments)] for case in cases]
    headers = ["classes", "batch", "stride", "at once MiB", "tiles MiB", "memory ratio",
               "at once ms", "tiles ms", "time ratio"]  # fmt: skip
    print(tabulate.tabulate(rows, headers=headers, floatfmt=".2f"))


def measure(
    classes: int, batch: int, stride: int, arguments: argparse.Namespace
) -> tuple[float, ...]:
    """Return the measured cells of a row."""
    case = (classes, batch, stride, arguments.size, arguments.device)
    context = multiprocessing.get_context("spawn")
    memory = []
    for tiles in (False, True):
        with context.Pool(1) as pool:
            memory.append(pool.apply(memory_of, (tiles, *case)))
    logits, labels = draw(*case)
    times: list[list[float]] = [[], []]
    for round_number in range(arguments.rounds + 1):
        for tiles in (False, True):
            seconds = timed(logits, labels, tiles)
            if round_number:  # the first warms up
                times[tiles].append(seconds)
    ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
    plain, tiled = (1000 * statistics.median(each) for each in times)
    return (*memory, memory[1] / memory[0], plain, tiled, ratio)


def draw(
    classes: int, batch: int, stride: int, size: int, device: str
) -> tuple[CoarseLogits, Tensor]:
    """Return coarse logits, channels last as from a model, and labels."""
    side = -(-size // stride)
    values = torch.randn(batch, classes, side, side, device=device)
    values = values.contiguous(memory_format=torch.channels_last).requires_grad_()
    labels = torch.randint(0, classes, (batch, size, size), device=device)
    return CoarseLogits(values, (size, size), False), labels


def step(logits: CoarseLogits, labels: Tensor, tiles: bool) -> None:
    """Compute loss, gradient and predicted classes, as in a training step."""
    given = logits if tiles else logits.full()
    logits.values.grad = None
    CrossEntropyLoss2d()(given, labels).backward()
    if isinstance(given, CoarseLogits):
        given.argmax()
    else:
        given.detach().argmax(1)


def timed(logits: CoarseLogits, labels: Tensor, tiles: bool) -> float:
    """Return the seconds of a step; on the CPU, CPU time, so that other processes do not matter."""
    clock = time.process_time if labels.device.type == "cpu" else time.perf_counter
    if labels.device.type == "cuda":
        torch.cuda.synchronize()
    started = clock()
    step(logits, labels, tiles)
    if labels.device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def memory_of(tiles: bool, classes: int, batch: int, stride: int, size: int, device: str) -> float:
    """Return the MiB of a step, after a first step has loaded what torch needs."""
    step(*draw(8, 1, stride, 65, device), tiles)
    logits, labels = draw(classes, batch, stride, size, device)
    return peak_memory(lambda: step(logits, labels, tiles), device)


if __name__ == "__main__":
    main()
