"""ONNX, with free batch, height and width, written by torch.

Format: https://onnx.ai/onnx/repo-docs/IR.html
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from exporting.converting import converting, draft_of
from exporting.spec import ExportSpec
from prediction.exported.description import KEY, Description, to_text

ENDING = ".onnx"
SIDE_ENDINGS: tuple[str, ...] = ()  # of files that belong to it
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# What a precision needs in addition.
PRECISIONS: dict[str, tuple[str, ...]] = {"fp32": (), "fp16": (), "int8": ()}
NEEDS_SIZE = False  # whether it cannot leave height and width free
ROUNDS_ITSELF = False  # whether fp16 is made of a network of 32 bits
OPSET = 18  # ONNX Runtime has it since 1.14


def export(
    network: nn.Module, example: Tensor, spec: ExportSpec, path: Path, *, free: bool = True
) -> None:
    """Write a network as an ONNX file.

    Args:
        network: From a batch of images to a tuple of the outputs that `spec` names.
        example: Images.
        spec: What the file shall have.
        path: The file.
        free: Whether batch, height and width stay free.

    Raises:
        ValueError: If torch cannot export the network.
    """
    axes = (0, 1, 2) if spec.inside == "all" else (0, 2, 3)
    shapes = (dict.fromkeys(axes, torch.export.Dim.DYNAMIC),) if free else None
    with converting("torch cannot export it to ONNX"):
        program = torch.onnx.export(
            network, (example,), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=["images"], output_names=list(spec.outputs), dynamic_shapes=shapes,
        )  # fmt: skip
        assert program is not None
        program.save(str(path))


def quantize(path: Path, images: Iterable[np.ndarray]) -> None:
    """Make the weights and activations of convolutions and matrix products integers of 8 bits.

    Weights get 7 bits, as processors without VNNI instructions overflow with 8; the scale is one a
    channel.

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html

    Args:
        path: The file, which is replaced.
        images: What the network takes; their activations set the ranges.

    Raises:
        ValueError: If ONNX Runtime cannot do it.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        """One batch after the other."""

        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """Return the next batch; None at the end."""
            batch = next(self._left, None)
            return None if batch is None else {"images": batch}

    with draft_of(path) as draft, converting("ONNX Runtime cannot quantize it"):
        quantize_static(
            str(path), str(draft), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            reduce_range=True, op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        )  # fmt: skip


def describe(path: Path, description: Description) -> None:
    """Write the description into a file; the graph stays as it is."""
    import onnx

    model = onnx.load(str(path))
    kept = [each for each in model.metadata_props if each.key != KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.helper.set_model_props(
        model, {**{each.key: each.value for each in kept}, KEY: to_text(description)}
    )
    onnx.save(model, str(path))
