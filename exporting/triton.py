"""The folder that NVIDIA's Triton Inference Server reads: a model, its versions and its config.

Format: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from prediction.exported.description import Description
from prediction.exported.network import load_exported
from utils.files.atomic_write import new_file, write_text

BATCH = 8  # the most images that Triton puts together
DELAY = 5000  # microseconds that it waits for more
_TYPES = {"uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "float32": "TYPE_FP32"}


def add_version(repository: Path, file: Path) -> Path:
    """Add an ONNX file to a repository of models, as the next version of its model.

    The model is called like the training, or like the file if that has no name. Its config is
    written with the first version; later ones must have the same.

    Args:
        repository: The folder; it is made if it is not there.
        file: What `export.py` has written.

    Returns:
        The file in the repository.

    Raises:
        ValueError: If the repository has another config for the model, or cannot be written.
    """
    description = load_exported(file, torch.device("cpu")).description
    name = model_name(description.config, file)
    folder = repository / name
    text = config_text(name, description)
    config = folder / "config.pbtxt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not config.exists():
            write_text(config, text)
        elif config.read_text() != text:
            raise ValueError(
                f"--triton: {config} is not that of this file: name another folder, or remove it"
            )
        versions = [int(each.name) for each in folder.iterdir() if each.name.isdecimal()]
        target = folder / str(max(versions, default=0) + 1) / "model.onnx"
        target.parent.mkdir()
        with open(file, "rb") as source, new_file(target) as copy:
            shutil.copyfileobj(source, copy)
    except OSError as error:
        raise ValueError(f"--triton: {folder} cannot be written ({error})") from None
    return target


def model_name(config: Mapping[str, Any], file: Path) -> str:
    """Return what the model is called: letters, digits and underscores."""
    name = config.get("name")
    return re.sub(r"\W+", "_", name if isinstance(name, str) and name else file.stem)


def config_text(name: str, description: Description) -> str:
    """Return the config of a model, in the text format of protocol buffers."""
    channels = int(description.meta.get("channels", 3))
    many = len(description.meta["classes"]) > 256
    inside_all = description.inside == "all"
    images = [-1, -1, channels] if inside_all else [channels, -1, -1]
    types = {"ids": "TYPE_INT32" if many else "TYPE_UINT8"}
    outputs = [
        _tensor(each, types.get(each, "TYPE_FP32"), [-1] * 2 if each != "logits" else [-1] * 3)
        for each in description.outputs
    ]
    lines = [
        f"name: {json.dumps(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {BATCH}",
        f"input [ {_tensor('images', _TYPES[description.input_type], images)} ]",
        f"output [ {', '.join(outputs)} ]",
        f"dynamic_batching {{ max_queue_delay_microseconds: {DELAY} }}",
    ]
    return "\n".join(lines) + "\n"


def _tensor(name: str, data_type: str, sizes: list[int]) -> str:
    return f"{{ name: {json.dumps(name)} data_type: {data_type} dims: {sizes} }}"
