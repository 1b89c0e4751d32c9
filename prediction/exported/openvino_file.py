"""OpenVINO files, run by OpenVINO.

Format: https://docs.openvino.ai/2026/documentation/openvino-ir-format.html
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from prediction.exported.description import KEY, Description, Run, from_text
from utils.cli.sanitize import one_line


def import_openvino() -> ModuleType:
    """Import OpenVINO without what it tells its makers of every import and conversion."""
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it then does without
    import openvino

    module: ModuleType = openvino
    return module


def load(path: Path, device: torch.device) -> tuple[Description, Run]:
    """Open a file that `export.py` has written.

    Raises:
        ValueError: If OpenVINO is not installed, cannot use the device or cannot read the file, or
            the file was written by something else.
    """
    try:
        openvino = import_openvino()
    except ImportError:
        raise ValueError(f"{path}: needs another package: pip install openvino") from None
    if device.type != "cpu":
        raise ValueError(f"--device: OpenVINO does not run on {device.type}; use --device cpu")
    threads = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    try:
        with open(path, "rb") as file:  # else each of its readers tries, aloud
            if b"<net" not in file.read(1024):
                raise ValueError("it has no <net> at its beginning")
        core = openvino.Core()
        model = core.read_model(str(path))
        compiled = core.compile_model(model, "CPU", threads)
        text = model.get_rt_info(KEY).value if model.has_rt_info(KEY) else None
    except Exception as error:  # of many kinds, none of which it documents
        lines = str(error).strip().splitlines() or [type(error).__name__]
        # The lines before the last say where in OpenVINO's source it has happened.
        raise ValueError(f"{path}: OpenVINO cannot read it ({one_line(lines[-1])})") from None
    if text is None:
        raise ValueError(f"{path}: was not written by export.py, which names classes and images")
    description = from_text(str(text), str(path))

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        made = compiled(images)
        return [made[name] for name in description.outputs]

    return description, run
