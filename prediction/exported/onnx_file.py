"""ONNX files, run by ONNX Runtime.

Format: https://onnx.ai/onnx/repo-docs/IR.html
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from prediction.exported.description import KEY, Description, Run, from_text
from utils.cli.sanitize import first_line

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load(path: Path, device: torch.device) -> tuple[Description, Run]:
    """Open a file that `export.py` has written.

    Raises:
        ValueError: If ONNX Runtime is not installed, cannot use the device or cannot read the file,
            or the file was written by something else.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ValueError(
            f"{path}: ONNX files need another package: pip install onnxruntime"
        ) from None
    provider = _PROVIDERS.get(device.type, "")
    if provider not in onnxruntime.get_available_providers():
        raise ValueError(
            f"--device: this ONNX Runtime does not run on {device.type}; use --device cpu"
            + (", or pip install onnxruntime-gpu" if device.type == "cuda" else "")
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # of many kinds, none of which it documents
        raise ValueError(f"{path}: ONNX Runtime cannot read it ({first_line(error)})") from None
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None:
        raise ValueError(f"{path}: was not written by export.py, which names classes and images")
    description = from_text(text, str(path))
    (name,) = [each.name for each in session.get_inputs()]

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        outputs: Sequence[np.ndarray] = session.run(list(description.outputs), {name: images})
        return outputs

    return description, run
