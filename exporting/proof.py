"""An exported file answers like the model, or it is not accepted."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from exporting.spec import ExportSpec
from exporting.whole_task import images_for, input_type, module_of
from prediction.load_model import Meta

ROOT = Path(__file__).resolve().parents[1]
# Batch, height and width: a usual size, a larger one, an odd one, and one that is no square.
SIZES = ((2, 128, 160), (1, 224, 256), (1, 133, 101), (1, 96, 224))
MAX_DIFFERENCE = 1e-3  # of logits, relative to their range; of probabilities
MIN_EQUAL = 0.999  # of the ids


class Proof(NamedTuple):
    """How far a file is from its model."""

    equal_pixels: float | None  # the smallest part of equal ids of an input; None without ids
    # Of logits relative to their range, and of confidence; None without either.
    largest_difference: float | None
    inputs: int  # how many batches were compared
    real_images: int  # how many of them are images of the validation set, or of the user

    def text(self) -> str:
        """Return one line for the user."""
        parts = []
        if self.equal_pixels is not None:
            parts.append(f"{self.equal_pixels:.4%} equal pixels")
        if self.largest_difference is not None:
            parts.append(f"largest difference {self.largest_difference:.2g}")
        return (
            f"compared with the model on {self.inputs} inputs, {self.real_images} of them real: "
            + ", ".join(parts)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for the description of the file."""
        return {**self._asdict(), "limits": [MAX_DIFFERENCE, MIN_EQUAL]}


def prove(
    path: Path, network: nn.Module, meta: Meta, spec: ExportSpec, real: Sequence[np.ndarray]
) -> Proof:
    """Compare a file, run by its own runtime in a process of its own, with the model.

    Args:
        path: The file.
        network: The model, on the CPU and in evaluation mode.
        meta: Its classes and statistics.
        spec: What the file has.
        real: Images (H, W, C) as they are stored.

    The limits are those of 32 bits. With less, the images of the validation set decide.

    Raises:
        ValueError: If the file cannot be run, or says something else than the model.
    """
    if spec.size is None:
        inputs = {f"random {size}": _random(meta, size) for size in SIZES}
    else:
        inputs = {f"random {seed}": _random(meta, (1, *spec.size), seed) for seed in range(4)}
        real = [_cut(image, *spec.size) for image in real]
    inputs |= {f"real image {number}": image[None] for number, image in enumerate(real, 1)}
    given = {name: images_for(meta, spec, pixels) for name, pixels in inputs.items()}
    answers = _answers(path, given)
    scored = ExportSpec("network", ("logits",)) if spec.inside == "network" else _all_of(spec)
    reference = module_of(network, meta, scored)
    compared = []
    for name, images in given.items():
        with torch.inference_mode():
            outputs = reference(torch.from_numpy(images))
        expected: dict[str, np.ndarray] = dict(
            zip(scored.outputs, (each.numpy() for each in outputs), strict=True)
        )
        found: dict[str, np.ndarray] = {
            output: answers[f"{name}/{output}"] for output in spec.outputs
        }
        compared.append(_compare(name, expected, found, refuses=spec.precision == "fp32"))
    equal = [part for part, _ in compared if part is not None]
    differences = [difference for _, difference in compared if difference is not None]
    return Proof(min(equal, default=None), max(differences, default=None), len(given), len(real))


def _all_of(spec: ExportSpec) -> ExportSpec:
    """Return a spec with the logits too, which say how sure the model is of each id."""
    return ExportSpec(spec.inside, tuple(dict.fromkeys((*spec.outputs, "logits"))))


def _cut(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the top left of an image, or all of it with its edges repeated: (height, width, C)."""
    image = image[:height, :width]
    missing = height - image.shape[0], width - image.shape[1]
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")


def _random(meta: Meta, size: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Return images (B, H, W, C) of the values that the model knows, coarse and fine."""
    batch, height, width = size
    generator = torch.Generator().manual_seed(sum(size) + seed)
    shape = (batch, meta.channels)
    coarse = torch.randn(*shape, height // 16 + 1, width // 16 + 1, generator=generator)
    coarse = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    fine = torch.randn(*shape, height, width, generator=generator)
    unit = 255 if input_type(meta) == "uint8" else 1
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) * unit for v in (meta.mean, meta.std))
    values = (mean + std * (coarse + 0.3 * fine)).permute(0, 2, 3, 1).numpy()
    if input_type(meta) == "float32":
        return values.astype(np.float32)
    limits = np.iinfo(input_type(meta))
    return np.rint(values).clip(limits.min, limits.max).astype(input_type(meta))


def _answers(path: Path, given: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Return what the file says of each input."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, **given)  # type: ignore[arg-type]
        words = map(str, (path.resolve(), source, target))
        command = [sys.executable, "-m", "exporting.answer", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["without a word"]
            raise ValueError(f"the file cannot be run: {lines[-1]}")
        with np.load(target, allow_pickle=False) as answers:
            return dict(answers)


def _compare(
    name: str, expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], *, refuses: bool
) -> tuple[float | None, float | None]:
    """Return the part of equal ids and the largest difference of one input.

    Raises:
        ValueError: If the outputs have another form, or if `refuses` and they are beyond the
            limits.
    """
    logits = expected["logits"]
    span = float(np.ptp(logits)) or 1.0
    equal: float | None = None
    largest: float | None = None
    for output, values in found.items():
        wanted = expected[output]
        if values.shape != wanted.shape or values.dtype != wanted.dtype:
            raise ValueError(
                f"{name}: {output} of shape {values.shape} {values.dtype}, expected "
                f"{wanted.shape} {wanted.dtype}"
            )
        if output == "ids":
            same = values == wanted
            equal = float(same.mean())
            best = np.partition(logits, -2, axis=1)
            margin = (best[:, -1] - best[:, -2]) / span
            # With an even choice, rounding decides; else the file says something else.
            wrong = ~same & (margin > 2 * MAX_DIFFERENCE)
            if refuses and (equal < MIN_EQUAL or wrong.any()):
                raise ValueError(
                    f"{name}: {1 - equal:.3%} of the pixels have another class than the model "
                    f"says, {int(wrong.sum())} of them where the model is sure"
                )
            continue
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: {output} is not finite")
        scale = span if output == "logits" else 1.0
        difference = float(np.abs(values - wanted).max()) / scale
        largest = max(largest or 0.0, difference)
        if refuses and difference > MAX_DIFFERENCE:
            raise ValueError(
                f"{name}: {output} differ by up to {difference:.3g} of their range, more than "
                f"{MAX_DIFFERENCE:g}"
            )
    return equal, largest
