"""OpenVINO's own format, with free batch, height and width: an .xml, and a .bin with the weights.

Format: https://docs.openvino.ai/2026/documentation/openvino-ir-format.html
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from exporting.formats.onnx import quiet, reason_of
from exporting.spec import ExportSpec
from prediction.exported.description import KEY, Description, to_text
from prediction.exported.openvino_file import import_openvino

ENDING = ".xml"
SIDE_ENDINGS: tuple[str, ...] = (".bin",)
PACKAGES = ("openvino",)


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
    try:
        with quiet():
            program = torch.export.export(
                network, (example,), dynamic_shapes=(dict.fromkeys(axes, free),)
            )
            model = openvino.convert_model(program)
            for port, name in zip(model.outputs, spec.outputs, strict=True):
                port.get_tensor().set_names({name})
            model.inputs[0].get_tensor().set_names({"images"})
            # 16-bit weights are what it writes unasked.
            openvino.save_model(model, str(path), compress_to_fp16=False)
    except Exception as error:  # of many kinds, which depend on the network
        missing = [line for line in str(error).splitlines() if "No conversion rule" in line]
        reason = missing[0].strip("- ") if missing else reason_of(error)
        raise ValueError(f"OpenVINO cannot convert it: {reason}") from error


def describe(path: Path, description: Description) -> None:
    """Write the description into a file; the graph stays as it is."""
    openvino = import_openvino()
    model = openvino.Core().read_model(str(path))
    model.set_rt_info(to_text(description), KEY)
    # Both are new files: those that are read are mapped into memory.
    draft = path.with_name(f"{path.stem}_.xml")
    try:
        openvino.save_model(model, str(draft), compress_to_fp16=False)
        del model
        for ending in (*SIDE_ENDINGS, ENDING):
            draft.with_suffix(ending).replace(path.with_suffix(ending))
    finally:
        for ending in (*SIDE_ENDINGS, ENDING):
            draft.with_suffix(ending).unlink(missing_ok=True)
