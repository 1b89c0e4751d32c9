"""Every model in every format that it can be exported to: difference, size and speed.

Each row is an export with its proof; what is refused is named with the reason. Torch and the file
take turns on the same images, and nothing is printed of a file whose ids differ from the model's
where the model is sure.

    python -m benchmarks.export [--to onnx openvino] [--rounds 5] [--size 256] [NAME ...]
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tabulate
import torch

import exporting.formats as formats
import models
from benchmarks.models import OURS, build_ours
from exporting.export_model import export_model
from exporting.spec import ExportSpec
from exporting.whole_task import WholeTask
from models.smp import ARCHITECTURES
from prediction.exported.network import load_exported
from prediction.load_model import restore
from utils.checkpoint.save_load import save_checkpoint
from utils.drawing.palette import voc_palette

NUM_CLASSES = 21
SPEC = ExportSpec("all", ("ids", "logits"))
SMP_ENCODER = "resnet18"


def main() -> None:
    """Export, measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    others = sorted(set(ARCHITECTURES.names) - {"DPT"})  # DPT takes a transformer's encoder only
    names = [*OURS, *(f"SMP, {name}" for name in others)]
    parser.add_argument("names", nargs="*", metavar="NAME", help="; ".join(names))
    parser.add_argument("--to", nargs="+", default=formats.__all__, choices=formats.__all__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # there are no validation images
    rows = []
    for name in arguments.names or names:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pth"
            make_checkpoint(name, path)
            for form in arguments.to:
                rows.append([name, form, *measured(path, form, arguments.size, arguments.rounds)])
                print(" | ".join(map(str, rows[-1])), flush=True)
    headers = ["model", "format", "equal pixels", "difference", "MB", "time, torch / file"]
    print(tabulate.tabulate(rows, headers=headers, tablefmt="github"))


def make_checkpoint(name: str, path: Path) -> None:
    """Write a checkpoint of a model with random weights that tell regions apart."""
    torch.manual_seed(0)
    family, _, architecture = name.partition(", ")
    network: torch.nn.Module
    args: dict[str, Any]
    if family == "SMP":
        args = {"architecture": architecture, "encoder_name": SMP_ENCODER, "encoder_weights": None}
        network = models.SMP(NUM_CLASSES, **args)
    else:
        args = {**OURS[name], "pretrained": False}
        network = build_ours(name)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
    meta = {
        "classes": [f"class {number}" for number in range(NUM_CLASSES)],
        "palette": [list(colour) for colour in voc_palette(NUM_CLASSES)],
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    config = {"arch": {"type": family, "args": args}}
    save_checkpoint({"state_dict": network.state_dict(), "config": config, "meta": meta}, path)


def measured(path: Path, form: str, size: int, rounds: int) -> Sequence[str]:
    """Return the cells of a row."""
    try:
        (file,) = export_model(str(path), [form], SPEC)
    except ValueError as error:
        return ("refused", str(error).splitlines()[0][:100], "", "")
    endings = (file.path.suffix, *getattr(formats, form).SIDE_ENDINGS)
    megabytes = sum(file.path.with_suffix(ending).stat().st_size for ending in endings) / 1e6
    ratio = compare(path, file.path, size, rounds)
    assert file.proof.equal_pixels is not None and file.proof.largest_difference is not None
    return (
        f"{file.proof.equal_pixels:.4%}", f"{file.proof.largest_difference:.1e}",
        f"{megabytes:.1f}", f"{ratio:.2f}",
    )  # fmt: skip


def compare(checkpoint: Path, file: Path, size: int, rounds: int) -> float:
    """Return the time of torch over that of a file, from stored pixels to ids."""
    network, meta = restore(checkpoint, "cpu")
    whole = WholeTask(network, meta, ExportSpec()).eval()
    exported = load_exported(file, torch.device("cpu"))
    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    sides: tuple[Callable[[], np.ndarray], ...] = (
        lambda: whole(torch.from_numpy(pixels))[0].numpy(), lambda: exported.run(pixels)[0]
    )  # fmt: skip
    seconds: tuple[list[float], list[float]] = [], []
    for turn in range(rounds + 1):
        answers = []
        for side, times in zip(sides, seconds, strict=True):
            started = time.perf_counter()
            with torch.inference_mode():
                answers.append(side())
            if turn:  # the first one warms up
                times.append(time.perf_counter() - started)
        if (answers[0] == answers[1]).mean() < 0.999:
            raise SystemExit(f"{file.name}: the answers differ: nothing is compared")
    return statistics.median(a / b for a, b in zip(*seconds, strict=True))


if __name__ == "__main__":
    main()
