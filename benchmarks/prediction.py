"""inference.py against pytorch-segmentation's way, and against a bare loop, from files to files.

The bare loop does what any prediction must: read an image, normalize it, forward, argmax, write a
palette PNG. pytorch-segmentation's `inference.py` does the same for one image after the other, with
Pillow, torchvision's transforms and, for sizes of the image, SciPy's zoom; its three modes are
written here anew from their description. All run on the same files with the same weights, in turn,
so that a slow moment of the machine affects each. A row is printed only if both sides have written
every mask and the masks agree.

    python -m benchmarks.prediction [--rounds 5] [--images FOLDER] [--device cuda] [--rows whole]
"""

import argparse
import logging
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import models
from base.base_model import BaseModel
from prediction.jobs.image_file import ImageFile
from prediction.load_model import restore
from prediction.open_model import OpenedModel, Passes, open_model
from prediction.outputs import Outputs, RunProducts
from prediction.predict_images import ImageRun, Speed, predict_all
from prediction.predictor.memory import MemoryBudget
from prediction.predictor.packed_weights import PackedWeights
from prediction.predictor.tiles import tile_layout
from prediction.products.kinds import Settings
from utils.checkpoint.save_load import save_checkpoint
from utils.drawing.palette import save_mask, voc_palette
from utils.files.image_io import list_images, read_image
from utils.optim.precision import InferencePrecision, cpu_has_bf16
from utils.samples.normalize import normalize

NUM_CLASSES = 21
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = (375, 500)
SCALES = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
Side = Callable[[Sequence[Path], Path], None]  # predicts files into a folder
AGREEMENT = 0.995  # of all pixels, at least


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=Path, help="photos (default: images made here)")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument(
        "--model", type=Path, help="a checkpoint (default: PSPNet-R18 with random weights)"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument(
        "--network", type=int, metavar="BATCH", help="also time networks alone, with this batch"
    )
    parser.add_argument("--network-size", type=int, default=513)
    parser.add_argument(
        "--limit", action="store_true", help="also time the convolutions of `sliding` alone"
    )
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        files = make_images(Path(folder), arguments)
        checkpoint = arguments.model or make_checkpoint(Path(folder))
        print(
            f"{checkpoint.name}, {len(files)} images, {arguments.device}, "
            f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
            f"median of {arguments.rounds}"
        )
        print(f"{'row':34}{'images/s':>10}{'against':>10}{'ratio':>8}{'equal':>9}")
        for row in arguments.rows:
            first, second, needs_agreement = ROWS[row](checkpoint, arguments.device)
            if first is not None:
                compare(row, first, second, files, Path(folder), arguments, needs_agreement)
        if arguments.limit:
            measure_limit(checkpoint, files, Path(folder), arguments)

    if arguments.network is not None:
        size, batch = arguments.network_size, arguments.network
        built = networks(NUM_CLASSES)
        measure_networks(built, arguments.device, size, batch, arguments.rounds)


def compare(
    row: str,
    ours: Side,
    other: Side,
    files: Sequence[Path],
    folder: Path,
    arguments: argparse.Namespace,
    needs_agreement: float,
) -> None:
    """Run both sides in turn; print how many times as fast ours is."""
    seconds: dict[str, list[float]] = {"ours": [], "other": []}
    agreement = 1.0
    for turn in range(arguments.rounds + 1):
        outputs = {name: folder / f"{row} {turn} {name}" for name in seconds}
        for name, side in (("ours", ours), ("other", other)):
            outputs[name].mkdir()
            started = time.perf_counter()
            side(files, outputs[name])
            if turn:  # the first one warms up
                seconds[name].append(time.perf_counter() - started)
        agreement = min(agreement, agreement_of(files, outputs["ours"], outputs["other"]))
    if agreement < needs_agreement:
        print(f"{row:34}only {agreement:.4f} of the pixels are equal: not comparable", flush=True)
        return
    pairs = zip(seconds["other"], seconds["ours"], strict=True)
    ratio = statistics.median(theirs / own for theirs, own in pairs)
    rates = [len(files) / statistics.median(seconds[name]) for name in ("ours", "other")]
    print(f"{row:34}{rates[0]:10.2f}{rates[1]:10.2f}{ratio:8.2f}{agreement:9.4f}", flush=True)


def agreement_of(files: Sequence[Path], one: Path, other: Path) -> float:
    """Return the part of equal pixels; end the program if a mask is missing on either side."""
    equal = total = 0
    for file in files:
        masks = []
        for folder in (one, other):
            path = folder / f"{file.stem}.png"
            if not path.is_file():
                raise SystemExit(f"{folder.name}: did not write {path.name}: nothing is compared")
            masks.append(np.array(Image.open(path)))
        if masks[0].shape != masks[1].shape or masks[0].size == 0:
            raise SystemExit(f"{file.name}: the masks have different sizes")
        equal += int((masks[0] == masks[1]).sum())
        total += masks[0].size
    return equal / total


def make_images(folder: Path, arguments: argparse.Namespace) -> list[Path]:
    """Return photos, or images of smooth noise that are written as JPEGs."""
    if arguments.images is not None:
        files = list_images(arguments.images)[: arguments.count]
        if len({file.stem for file in files}) < len(files) or not files:
            raise SystemExit("--images: needs images whose names differ")
        return files
    generator = torch.Generator().manual_seed(0)
    (folder / "images").mkdir()
    files = []
    for number in range(arguments.count):
        coarse = torch.rand(1, 3, 24, 32, generator=generator)
        image = F.interpolate(coarse, SIZE, mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0)
        path = folder / "images" / f"{number:03}.jpg"
        Image.fromarray((image.numpy() * 255).astype(np.uint8)).save(path, quality=92)
        files.append(path)
    return files


def make_checkpoint(folder: Path) -> Path:
    """Write a network with random weights whose masks have regions."""
    torch.manual_seed(0)
    args: dict[str, Any] = {"backbone": "resnet18", "pretrained": False}
    model = models.PSPNet(NUM_CLASSES, **args)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(cast(Tensor, module.running_mean), 0, 0.1)
            torch.nn.init.uniform_(cast(Tensor, module.running_var), 0.5, 1.5)
    meta = {
        "classes": [f"class {number}" for number in range(NUM_CLASSES)],
        "palette": [list(colour) for colour in voc_palette(NUM_CLASSES)],
        "mean": list(MEAN), "std": list(STD), "channels": 3, "ignore_index": 255,
    }  # fmt: skip
    config = {"arch": {"type": "PSPNet", "args": args}}
    path = folder / "model.pth"
    save_checkpoint({"state_dict": model.state_dict(), "config": config, "meta": meta}, path)
    return path


# --- Ours


def ours(checkpoint: Path, device: str, mode: str, *, workers: int = 2, amp: str = "off",
         batch_size: int = 1, compile_model: bool = False) -> Side:  # fmt: skip
    """Return what inference.py does with files, without the start of the program."""
    opened: OpenedModel = open_model(
        [str(checkpoint)], Passes(mode=mode, amp=amp, compile=compile_model), device=device
    )

    def run(files: Sequence[Path], output: Path) -> None:
        outputs = Outputs.of("ids", (), output, Settings())
        images = ImageRun(
            opened,
            outputs,
            MemoryBudget(opened.predictor, 3, ahead=workers + batch_size),
            of_run=RunProducts(output, "ids"),
            speed=Speed(workers, batch_size),
        )
        counts = predict_all(images, [ImageFile(str(f), f.name) for f in files], len(files))
        if counts.failed:
            raise SystemExit(f"{counts.failed} images failed")

    return run


# --- The others


def network(checkpoint: Path, device: str) -> BaseModel:
    """Return the model, ready to predict."""
    return restore(checkpoint, device)[0]


def bare_loop(checkpoint: Path, device: str) -> Side:
    """Return a loop of read, forward, argmax and write."""
    model, meta = restore(checkpoint, device)
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (meta.mean, meta.std))
    palette = voc_palette(NUM_CLASSES)

    @torch.inference_mode()
    def run(files: Sequence[Path], output: Path) -> None:
        for file in files:
            pixels = torch.from_numpy(read_image(file)).to(device).permute(2, 0, 1)
            images = ((pixels.float() / 255 - mean) / std)[None]
            ids = model(images)[0].argmax(0).to(torch.uint8).cpu().numpy()
            save_mask(output / f"{file.stem}.png", ids, palette)

    return run


def original(checkpoint: Path, device: str, mode: str) -> Side:
    """Return pytorch-segmentation's way to predict in a mode, after its description."""
    from torchvision import transforms

    model, meta = restore(checkpoint, device)
    ways = {"whole": _whole, "multiscale": _zoomed, "sliding": _tiled}
    to_tensor, normalize = transforms.ToTensor(), transforms.Normalize(meta.mean, meta.std)
    palette = [value for colour in voc_palette(256) for value in colour]

    @torch.no_grad()
    def run(files: Sequence[Path], output: Path) -> None:
        for file in files:
            image = normalize(to_tensor(Image.open(file).convert("RGB")))[None]
            logits = ways[mode](model, image, device, len(meta.classes))
            ids = F.softmax(torch.from_numpy(logits), 0).argmax(0).numpy()
            mask = Image.fromarray(ids.astype(np.uint8)).convert("P")
            mask.putpalette(palette)
            mask.save(output / f"{file.stem}.png")

    return run


def _whole(model: BaseModel, image: Tensor, device: str, num_classes: int) -> np.ndarray:
    logits: np.ndarray = model(image.to(device))[0].cpu().numpy()
    return logits


def _zoomed(model: BaseModel, image: Tensor, device: str, num_classes: int) -> np.ndarray:
    """Mean of the logits of six sizes."""
    from scipy import ndimage

    height, width = image.shape[2:]
    total = np.zeros((num_classes, height, width))
    for scale in SCALES:
        scaled = ndimage.zoom(image.numpy(), (1.0, 1.0, scale, scale), order=1, prefilter=False)
        logits = model(torch.from_numpy(scaled).to(device)).cpu()
        total += F.interpolate(logits, (height, width), mode="bilinear", align_corners=True)[
            0
        ].numpy()
    return total / len(SCALES)


def _tiled(model: BaseModel, image: Tensor, device: str, num_classes: int) -> np.ndarray:
    """Mean of the logits of overlapping tiles, each with its mirror image."""
    height, width = image.shape[2:]
    tile_height, tile_width = int(height // 2.5), int(width // 2.5)
    step = math.ceil(tile_height * (1 - 1 / 3))
    total, counts = np.zeros((num_classes, height, width)), np.zeros((1, height, width))
    for row in range(math.ceil((height - tile_height) / step) + 1):
        for column in range(math.ceil((width - tile_width) / step) + 1):
            top, left = row * step, column * step
            tile = image[:, :, top : top + tile_height, left : left + tile_width]
            h, w = tile.shape[2:]
            padded = F.pad(tile, (0, tile_width - w, 0, tile_height - h))
            straight = model(padded.to(device))
            mirrored = model(padded.flip(-1).to(device)).flip(-1)
            mean = ((straight + mirrored) / 2)[0, :, :h, :w].cpu().numpy()
            total[:, top : top + h, left : left + w] += mean
            counts[:, top : top + h, left : left + w] += 1
    return total / counts


# --- The network alone


@torch.inference_mode()
def measure_limit(
    checkpoint: Path, files: Sequence[Path], folder: Path, arguments: argparse.Namespace
) -> None:
    """Print how fast `sliding` would be if all but the convolutions took no time.

    The convolutions get their inputs as our side gives them: channels last, with packed weights,
    several tiles at once, each tile mirrored too. Nothing is printed unless the other side has
    written every mask.
    """
    device = arguments.device
    sizes = {Image.open(file).size for file in files}
    if len(sizes) != 1:
        raise SystemExit("--limit: needs images of one size")
    ((width, height),) = sizes
    (tile_height, tile_width), corners = tile_layout(height, width)
    passes = 2 * len(corners)
    group = max(number for number in range(1, 9) if passes % number == 0)
    model = network(checkpoint, device).to(memory_format=torch.channels_last)
    calls: list[tuple[torch.nn.Module, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda module, given, _: calls.append((module, given[0])))
        for module in model.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    tiles = torch.randn(group, 3, tile_height, tile_width, device=device)
    model(tiles.to(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()
    theirs = original(checkpoint, device, "sliding")
    output = folder / "limit"
    output.mkdir()
    ratios = []
    with PackedWeights(model).used():
        for turn in range(arguments.rounds + 1):
            started = time.perf_counter()
            theirs(files, output)
            _wait(device)
            other = (time.perf_counter() - started) / len(files)
            started = time.perf_counter()
            for _ in range(passes // group):
                for module, given in calls:
                    module(given)
            _wait(device)
            if turn:
                ratios.append(other / (time.perf_counter() - started))
    if len(list(output.iterdir())) < len(files):
        raise SystemExit("--limit: the other side did not write every mask")
    print(f"{'sliding, its convolutions alone':54}{statistics.median(ratios):8.2f}", flush=True)


def networks(num_classes: int) -> dict[str, BaseModel]:
    """Return the networks whose speed is reported, with random weights."""
    return {
        "PSPNet-R50": models.PSPNet(num_classes, backbone="resnet50", pretrained=False),
        "SegFormer-B2": models.SMP(
            num_classes, architecture="Segformer", encoder_name="mit_b2", encoder_weights=None
        ),
    }


@torch.inference_mode()
def measure_networks(
    built: Mapping[str, BaseModel], device: str, size: int, batch_size: int, rounds: int
) -> None:
    """Print how many images a second each network predicts, from pixels to ids on the device."""
    for name, model in built.items():
        model = model.to(device).eval().to(memory_format=torch.channels_last)
        pixels = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8)
        mean, std = (torch.tensor(values, device=device) for values in (MEAN, STD))
        precision = InferencePrecision("auto", torch.device(device))

        def predict(network: Callable[[Tensor], Tensor], pixels: Tensor = pixels,
                    mean: Tensor = mean, std: Tensor = std,
                    precision: InferencePrecision = precision) -> Tensor:  # fmt: skip
            with precision.autocast():
                logits = network(normalize(pixels.to(device), mean, std))
            ids = logits.argmax(1)
            if ids.shape != (batch_size, size, size):
                raise SystemExit(f"{ids.shape}: not every pixel was predicted")
            return ids

        kinds: dict[str, Callable[[Tensor], Tensor]] = {"eager": model}
        if device != "cpu":
            kinds["compiled"] = torch.compile(model)
        for kind, network in kinds.items():
            for _ in range(3):  # warms up, and compiles
                predict(network)
            times = []
            for _ in range(rounds):
                _wait(device)
                started = time.perf_counter()
                predict(network)
                _wait(device)
                times.append(time.perf_counter() - started)
            rate = batch_size / statistics.median(times)
            label = f"{name}, {size}x{size}, batch {batch_size}, {precision.name or '32 bits'}"
            print(f"{label:44}{kind:10}{rate:10.1f} images/s", flush=True)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


Row = tuple[Side | None, Side, float]


def _against_original(mode: str, amp: str = "off") -> Callable[[Path, str], Row]:
    return lambda checkpoint, device: (
        ours(checkpoint, device, mode, amp=amp), original(checkpoint, device, mode), AGREEMENT
    )  # fmt: skip


def _bf16(checkpoint: Path, device: str) -> Row:
    if device == "cpu" and not cpu_has_bf16():
        print("bf16: this processor does not compute with it")
    first = ours(checkpoint, device, "whole", amp="bf16")
    usable = device != "cpu" or cpu_has_bf16()
    return (first if usable else None), ours(checkpoint, device, "whole"), 0.0


ROWS: dict[str, Callable[[Path, str], Row]] = {
    **{mode: _against_original(mode) for mode in ("whole", "multiscale", "sliding")},
    **{
        f"{mode}, --amp auto": _against_original(mode, "auto")
        for mode in ("whole", "multiscale", "sliding")
    },
    "bare loop, 0 workers": lambda checkpoint, device: (
        ours(checkpoint, device, "whole", workers=0), bare_loop(checkpoint, device), AGREEMENT
    ),
    "bare loop, 2 workers": lambda checkpoint, device: (
        ours(checkpoint, device, "whole"), bare_loop(checkpoint, device), AGREEMENT
    ),
    "bf16 against 32 bits": _bf16,
    "batches of 8 against 1": lambda checkpoint, device: (
        ours(checkpoint, device, "whole", batch_size=8),
        ours(checkpoint, device, "whole"),
        AGREEMENT,
    ),
}  # fmt: skip


if __name__ == "__main__":
    main()
