"""OpenVINO's own format, with free batch, height and width: an .xml, and a .bin with the weights.

Format: https://docs.openvino.ai/2026/documentation/openvino-ir-format.html
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exporting.converting import converting
from exporting.spec import ExportSpec
from prediction.exported.description import KEY, Description, to_text
from prediction.exported.openvino_file import import_openvino

ENDING = ".xml"
SIDE_ENDINGS: tuple[str, ...] = (".bin",)
PACKAGES = ("openvino",)
# With fp16 the weights are stored in 16 bits; the device chooses what it computes in.
PRECISIONS: dict[str, tuple[str, ...]] = {"fp32": (), "fp16": (), "int8": ("nncf",)}
NEEDS_SIZE = False  # whether it cannot leave height and width free
ROUNDS_ITSELF = True  # whether fp16 is made of a network of 32 bits


def export(network: nn.Module, example: Tensor, spec: ExportSpec, path: Path) -> None:
    """Write a network as an OpenVINO file; see `exporting.formats.onnx.export()`.

    Raises:
        ValueError: If torch cannot export the network, or OpenVINO cannot convert it.
    """
    if example.dtype == torch.uint16:
        raise ValueError("it takes no images of 16 bits: use --to onnx, or --inside network")
    openvino = import_openvino()
    free = torch.export.Dim.DYNAMIC
    axes = (0, 1, 2) if spec.inside == "all" else (0, 2, 3)
    with converting("OpenVINO cannot convert it"):
        program = torch.export.export(
            network, (example,), dynamic_shapes=(dict.fromkeys(axes, free),)
        )
        model = openvino.convert_model(program)
        for port, name in zip(model.outputs, spec.outputs, strict=True):
            port.get_tensor().set_names({name})
        model.inputs[0].get_tensor().set_names({"images"})
        # 16-bit weights are what it writes unasked.
        compress = spec.precision == "fp16"
        openvino.save_model(model, str(path), compress_to_fp16=compress)


def quantize(path: Path, images: Iterable[np.ndarray]) -> None:
    """Make weights and activations integers of 8 bits.

    Source: https://docs.openvino.ai/2026/openvino-workflow/model-optimization.html

    Args:
        path: The file, which is replaced.
        images: What the network takes; their activations set the ranges.

    Raises:
        ValueError: If NNCF cannot do it.
    """
    openvino = import_openvino()
    import nncf

    model, given = openvino.Core().read_model(str(path)), list(images)
    with converting("NNCF cannot quantize it"):
        small = nncf.quantize(model, nncf.Dataset(given), subset_size=len(given))
    _replace(path, small)


def describe(path: Path, description: Description) -> None:
    """Write the description into a file; the graph stays as it is."""
    model = import_openvino().Core().read_model(str(path))
    model.set_rt_info(to_text(description), KEY)
    _replace(path, model)


def _replace(path: Path, model: Any) -> None:
    """Write a model in the place of the one it was made of."""
    openvino = import_openvino()
    # Both are new files: those that are read are mapped into memory.
    draft = path.with_name(f"{path.stem}_.xml")
    try:
        openvino.save_model(model, str(draft), compress_to_fp16=False)
        for ending in (*SIDE_ENDINGS, ENDING):
            draft.with_suffix(ending).replace(path.with_suffix(ending))
    finally:
        for ending in (*SIDE_ENDINGS, ENDING):
            draft.with_suffix(ending).unlink(missing_ok=True)
