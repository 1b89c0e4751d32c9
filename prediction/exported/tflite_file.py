"""TensorFlow Lite files, run by LiteRT.

Format: https://ai.google.dev/edge/litert
"""

import contextlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from prediction.exported.description import Description, Run, from_text
from utils.cli.sanitize import first_line

ENTRY = "segmentation.json"  # in the archive at the end of the file


def load(path: Path, device: torch.device) -> tuple[Description, Run]:
    """Open a file that `export.py` has written.

    Raises:
        ValueError: If LiteRT is not installed, cannot use the device or cannot read the file, or
            the file was written by something else.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise ValueError(f"{path}: needs another package: pip install ai-edge-litert") from None
    if device.type != "cpu":
        raise ValueError(f"--device: LiteRT does not run on {device.type} here; use --device cpu")
    try:
        with _quiet():
            interpreter = Interpreter(str(path), num_threads=torch.get_num_threads())
            interpreter.allocate_tensors()
        (given,) = interpreter.get_input_details()
        found = {each["name"]: each["index"] for each in interpreter.get_output_details()}
    except Exception as error:  # of many kinds, none of which it documents
        raise ValueError(f"{path}: LiteRT cannot read it ({first_line(error)})") from None
    description = from_text(_text_in(path), str(path))
    if not set(description.outputs) <= found.keys():
        raise ValueError(f"{path}: has no output {', '.join(description.outputs)}")

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        made: list[list[np.ndarray]] = []
        for image in images:
            interpreter.set_tensor(given["index"], image[None])
            interpreter.invoke()
            outputs = (interpreter.get_tensor(found[name]) for name in description.outputs)
            made.append([_channels_first(each, description) for each in outputs])
        return [np.concatenate(each) for each in zip(*made, strict=True)]

    return description, run


def _channels_first(output: np.ndarray, description: Description) -> np.ndarray:
    """Return logits as (1, K, H, W); the converter puts the channels last where it saves a step."""
    if output.ndim == 4 and output.shape[1:3] == description.size:
        return output.transpose(0, 3, 1, 2)
    return output


def length_of_model(path: Path) -> int:
    """Return how many bytes come before the archive at the end of a file; all, without one."""
    if not zipfile.is_zipfile(path):
        return path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        return min(each.header_offset for each in archive.infolist())


def _text_in(path: Path) -> str:
    """Return what a file says of itself.

    Raises:
        ValueError: If it says nothing.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(ENTRY).decode()
    except (OSError, KeyError, zipfile.BadZipFile, UnicodeDecodeError):
        raise ValueError(
            f"{path}: was not written by export.py, which names classes and images"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what LiteRT writes to the error stream of its own start from the user."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
