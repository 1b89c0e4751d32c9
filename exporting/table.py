"""A table of a checkpoint and the files made of it: size, time and mean IoU."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tabulate
import torch

import exporting.formats as formats
from exporting.export_model import Exported
from exporting.whole_task import images_for, input_type, module_of
from prediction.exported.network import load_exported
from prediction.load_model import restore

SIZE = 512  # height and width of the image that is timed, unless a file takes one size only
ROUNDS = 5


def table_of(checkpoint: str, config: str | None, files: Sequence[Exported]) -> str:
    """Time the checkpoint and the files in turn on one image, and return the table.

    Raises:
        ValueError: If a file cannot be read any more.
    """
    network, meta = restore(checkpoint, "cpu", config)
    spec = files[0].spec
    size = next((file.spec.size for file in files if file.spec.size is not None), (SIZE, SIZE))
    pixels = np.zeros((1, *size, meta.channels), input_type(meta))
    images = images_for(meta, spec, pixels)
    module = module_of(network, meta, spec)
    sides: list[Callable[[], object]] = [lambda: module(torch.from_numpy(images))]
    for file in files:
        run = load_exported(file.path, torch.device("cpu")).run
        sides.append(lambda run=run: run(images))  # type: ignore[misc]
    seconds = _seconds(sides)
    before = next((file.validation.before for file in files if file.validation is not None), None)
    mean_iou = "" if before is None else f"{100 * before.mean_iou:.2f}"
    rows = [[Path(checkpoint).name, _megabytes([Path(checkpoint)]), seconds[0], mean_iou, "", ""]]
    for file, milliseconds in zip(files, seconds[1:], strict=True):
        form = next(name for name in formats.__all__ if _ending(name) == file.path.suffix)
        endings = (file.path.suffix, *getattr(formats, form).SIDE_ENDINGS)
        megabytes = _megabytes([file.path.with_suffix(ending) for ending in endings])
        equal = "" if file.proof.equal_pixels is None else f"{file.proof.equal_pixels:.2%}"
        rows.append([file.path.name, megabytes, milliseconds, *_scores(file), equal])
    headers = [
        "file", "MB", f"ms, {size[0]} x {size[1]}", "mean IoU", "change in points", "equal pixels"
    ]  # fmt: skip
    return tabulate.tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _ending(form: str) -> str:
    ending: str = getattr(formats, form).ENDING
    return ending


def _scores(file: Exported) -> tuple[str, str]:
    """Return mean IoU and how it changed, with the interval of the change."""
    if file.validation is None:
        return "", ""
    change, interval = file.validation.change, file.validation.interval
    ends = "" if interval is None else f" ({interval.low:+.2f} to {interval.high:+.2f})"
    return f"{100 * file.validation.after.mean_iou:.2f}", f"{change:+.2f}{ends}"


def _megabytes(paths: Sequence[Path]) -> str:
    return f"{sum(path.stat().st_size for path in paths) / 1e6:.1f}"


@torch.inference_mode()
def _seconds(sides: Sequence[Callable[[], object]]) -> list[str]:
    """Return the median milliseconds of each side; the sides take turns."""
    times: list[list[float]] = [[] for _ in sides]
    for turn in range(ROUNDS + 1):
        for side, own in zip(sides, times, strict=True):
            started = time.perf_counter()
            side()
            if turn:  # the first one warms up
                own.append(1000 * (time.perf_counter() - started))
    return [f"{statistics.median(own):.0f}" for own in times]
