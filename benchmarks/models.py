"""Every model next to the model of the same name in Segmentation Models PyTorch.

For each: parameters, GFLOP (a multiply-add is two), seconds of a forward pass in evaluation mode,
seconds of forward and backward in training mode, and the peak memory of the latter. If SMP has a
model of that name, both take turns and the ratio of the times is printed. Few of these pairs are
the same network: only `DeepLabV3` without its auxiliary head is equal layer by layer. Therefore the
ratio of the times per GFLOP is printed too.

    python -m benchmarks.models [--size 256] [--batch-size 2] [--device cuda] [NAME ...]
    python -m benchmarks.models --count     parameters and GFLOP at 512x512 only
"""

import argparse
import dataclasses
import inspect
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import tabulate
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import models
from benchmarks.peak_memory import peak_memory

NUM_CLASSES = 21

# The arguments with which the models are compared and listed; the reference logits have the same.
OURS: dict[str, dict[str, Any]] = {
    "FCN8": {},
    "FCN": {"backbone": "resnet50"},
    "UNet": {},
    "UNetResnet": {"backbone": "resnet50"},
    "SegNet": {},
    "SegResNet": {},
    "ENet": {},
    "GCN": {"backbone": "resnet50"},
    "DeepLabV3": {"backbone": "resnet50", "use_aux": False},
    "DeepLab": {"backbone": "resnet50"},
    "DeepLab, xception": {"backbone": "xception"},
    "DeepLab, mobilenet_v2": {"backbone": "mobilenet_v2"},
    "DeepLab, drn": {"backbone": "drn", "output_stride": 8},
    "DeepLab_DUC_HDC": {},
    "UperNet": {"backbone": "resnet50"},
    "PSPNet": {"backbone": "resnet50"},
    "PSPDenseNet": {"backbone": "densenet121"},
}

# SMP's model of the same name, with the backbone of ours where ours has one.
THEIRS: dict[str, dict[str, Any]] = {
    "UNet": {"architecture": "Unet", "encoder_name": "resnet34"},
    "UNetResnet": {"architecture": "Unet", "encoder_name": "resnet50"},
    "DeepLabV3": {"architecture": "DeepLabV3", "encoder_name": "resnet50"},
    "DeepLab": {"architecture": "DeepLabV3Plus", "encoder_name": "resnet50"},
    "DeepLab, xception": {"architecture": "DeepLabV3Plus", "encoder_name": "tu-xception65"},
    "DeepLab, mobilenet_v2": {"architecture": "DeepLabV3Plus", "encoder_name": "mobilenet_v2"},
    "UperNet": {"architecture": "UPerNet", "encoder_name": "resnet50"},
    "PSPNet": {"architecture": "PSPNet", "encoder_name": "resnet50"},
}


@dataclasses.dataclass
class Measurements:
    """Measurements of one network."""

    parameters: float
    gflop: float
    forward: list[float] = dataclasses.field(default_factory=list)
    both: list[float] = dataclasses.field(default_factory=list)
    memory: float = 0.0


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(OURS))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--count", action="store_true")
    arguments = parser.parse_args()
    names = arguments.names or list(OURS)
    unknown = set(names) - set(OURS)
    if unknown:
        parser.error(f"no model {', '.join(unknown)}: choose from {'; '.join(OURS)}")
    if arguments.count:
        counts = [(name, *count(build_ours, name, 512)) for name in names]
        print(tabulate.tabulate(counts, headers=["model", "M parameters", "GFLOP"], floatfmt=".2f"))
        return
    print(
        f"{arguments.size}x{arguments.size}, batch {arguments.batch_size}, {arguments.device}, "
        f"torch {torch.__version__}, median of {arguments.rounds}"
    )
    rows = [row for name in names for row in compare(name, arguments)]
    headers = ["model", "M param.", "GFLOP", "forward ms", "+backward ms", "peak MiB",
               "forward ratio", "per GFLOP", "+backward ratio", "per GFLOP"]  # fmt: skip
    print(tabulate.tabulate(rows, headers=headers, floatfmt=".2f"))


def build_ours(name: str) -> nn.Module:
    """Build one of our models without pretrained weights."""
    cls = getattr(models, name.partition(",")[0])
    nothing = {"pretrained": False} if "pretrained" in inspect.signature(cls).parameters else {}
    return cls(NUM_CLASSES, **OURS[name], **nothing)


def build_theirs(name: str) -> nn.Module:
    """Build SMP's model of the same name."""
    import segmentation_models_pytorch

    settings = dict(THEIRS[name])
    architecture = getattr(segmentation_models_pytorch, settings.pop("architecture"))
    return architecture(encoder_weights=None, classes=NUM_CLASSES, **settings)


def compare(name: str, arguments: argparse.Namespace) -> list[list[Any]]:
    """Return the rows of one model: ours with the ratios, and SMP's."""
    builders = [build_ours, build_theirs][: 2 if name in THEIRS else 1]
    device = torch.device(arguments.device)
    shape = (arguments.batch_size, 3, arguments.size, arguments.size)
    images = torch.randn(shape, device=device).to(memory_format=torch.channels_last)
    networks = [prepared(build(name), device) for build in builders]
    measured = [Measurements(*count(build, name, arguments.size)) for build in builders]
    for round_number in range(arguments.rounds + 1):
        for network, found in zip(networks, measured, strict=True):
            forward, both = seconds(network, images, device)
            if round_number:  # the first warms up
                found.forward.append(forward)
                found.both.append(both)
    del networks
    for build, found in zip(builders, measured, strict=True):
        found.memory = memory_of(build, name, shape, device)
    rows: list[list[Any]] = [[name, *cells(measured[0])]]
    if len(measured) == 2:
        ours, theirs = measured
        ratios = [
            statistics.median(a / b for a, b in zip(mine, other, strict=True))
            for mine, other in ((ours.forward, theirs.forward), (ours.both, theirs.both))
        ]
        gflops = theirs.gflop / ours.gflop
        rows[0] += [ratios[0], ratios[0] * gflops, ratios[1], ratios[1] * gflops]
        rows.append([f"  SMP {THEIRS[name]['architecture']}", *cells(theirs)])
    return rows


def cells(measured: Measurements) -> list[float]:
    """Return the measured cells of a row."""
    return [
        measured.parameters,
        measured.gflop,
        1000 * statistics.median(measured.forward),
        1000 * statistics.median(measured.both),
        measured.memory,
    ]


def prepared(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to the device, channels last, like the Trainer."""
    return network.to(device).to(memory_format=torch.channels_last)


def count(build: Callable[[str], nn.Module], name: str, size: int) -> tuple[float, float]:
    """Return millions of parameters, and GFLOP of the forward pass of one image.

    Nothing is computed: on the device `meta` tensors have shapes and no values.
    """
    with torch.device("meta"), torch.no_grad():
        network = build(name).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, size, size))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters / 1e6, counter.get_total_flops() / 1e9


def seconds(network: nn.Module, images: Tensor, device: torch.device) -> tuple[float, float]:
    """Time a forward pass in evaluation mode, and forward and backward in training mode."""

    def timed(work: Callable[[], object]) -> float:
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        return time.perf_counter() - start

    network.eval()
    with torch.no_grad():
        forward = timed(lambda: network(images))
    network.train()
    both = timed(lambda: forward_backward(network, images))
    network.zero_grad(set_to_none=True)
    return forward, both


def forward_backward(network: nn.Module, images: Tensor) -> None:
    """Run a step without its update, including auxiliary outputs."""
    outputs = network(images)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    torch.stack([output.float().mean() for output in outputs]).sum().backward()


def synchronize(device: torch.device) -> None:
    """Wait for the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def memory_of(
    build: Callable[[str], nn.Module], name: str, shape: tuple[int, ...], device: torch.device
) -> float:
    """Return the MiB of forward and backward beyond the network, in a separate process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_memory_of, (build, name, shape, str(device)))


def _memory_of(
    build: Callable[[str], nn.Module], name: str, shape: tuple[int, ...], device_name: str
) -> float:
    device = torch.device(device_name)
    network = prepared(build(name), device).train()
    images = torch.randn(shape, device=device).to(memory_format=torch.channels_last)
    return peak_memory(lambda: forward_backward(network, images), device_name)


if __name__ == "__main__":
    main()
