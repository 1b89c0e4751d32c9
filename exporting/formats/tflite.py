"""TensorFlow Lite, for one image of a fixed size, made of our ONNX file by onnx2tf.

onnx2tf needs Python 3.12 and packages that clash with others, so it runs as a program, in the
environment that `--python` names. It writes what it does not understand wrongly or not at all: the
proof tells.

Format: https://ai.google.dev/edge/litert
Source: https://github.com/PINTO0309/onnx2tf
"""

import os
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from exporting.converting import converting, draft_of
from exporting.formats import onnx
from exporting.spec import ExportSpec
from prediction.exported.description import Description, to_text
from prediction.exported.tflite_file import ENTRY, length_of_model

ENDING = ".tflite"
SIDE_ENDINGS: tuple[str, ...] = ()
PACKAGES = ("onnx", "onnxscript", "onnxruntime", "ai-edge-litert")
# With int8 only the weights are integers ("dynamic range"), which needs no images.
PRECISIONS: dict[str, tuple[str, ...]] = {
    "fp32": (), "fp16": (), "int8": ("ai-edge-quantizer",)
}  # fmt: skip
NEEDS_SIZE = True
ROUNDS_ITSELF = True  # whether fp16 is made of a network of 32 bits


def export(network: nn.Module, example: Tensor, spec: ExportSpec, path: Path) -> None:
    """Write a network as a TensorFlow Lite file; see `exporting.formats.onnx.export()`.

    Args:
        network: From a batch of images to a tuple of the outputs that `spec` names.
        example: One image, whose size the file will have.
        spec: What the file shall have.
        path: The file.

    Raises:
        ValueError: If torch or onnx2tf cannot convert the network.
    """
    if example.dtype not in (torch.uint8, torch.float32):
        raise ValueError("it takes no images of 16 bits: use --to onnx, or --inside network")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.onnx")
        onnx.export(network, example, spec, source, free=False)
        words = ["-i", source, "-o", folder, "-kat", "images", "-coion", "-n"]
        command = [spec.converter, "-m", "onnx2tf", *map(str, words)]
        # Its own programs lie beside its Python.
        paths = os.pathsep.join([str(Path(spec.converter).parent), os.environ.get("PATH", "")])
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", cwd=folder,
            env={**os.environ, "PATH": paths},
        )  # fmt: skip
        made = Path(folder, f"model_float{16 if spec.precision == 'fp16' else 32}.tflite")
        if done.returncode or not made.is_file():
            lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise ValueError(f"onnx2tf cannot convert it: {(lines or ['without a word'])[-1]}")
        path.write_bytes(made.read_bytes())


def quantize(path: Path, images: Iterable[np.ndarray]) -> None:
    """Make the weights integers of 8 bits; activations are rounded as they come.

    Source: https://ai.google.dev/edge/litert/conversion/quantization

    Args:
        path: The file, which is replaced.
        images: They are not needed, and not read.

    Raises:
        ValueError: If the quantizer cannot do it.
    """
    from ai_edge_quantizer import quantizer, recipe

    with draft_of(path) as draft, converting("AI Edge Quantizer cannot do it"):
        made = quantizer.Quantizer(str(path), recipe.dynamic_wi8_afp32()).quantize()
        draft.write_bytes(made.quantized_model)


def describe(path: Path, description: Description) -> None:
    """Append the description to a file as a zip archive, where TensorFlow Lite has such texts."""
    content = path.read_bytes()
    path.write_bytes(content[: length_of_model(path)])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(ENTRY, to_text(description))
