"""ONNX, with free batch, height and width, written by torch.

Format: https://onnx.ai/onnx/repo-docs/IR.html
"""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from exporting.spec import ExportSpec
from prediction.exported.description import KEY, Description, to_text

ENDING = ".onnx"
SIDE_ENDINGS: tuple[str, ...] = ()  # of files that belong to it
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18  # ONNX Runtime has it since 1.14


def export(network: nn.Module, example: Tensor, spec: ExportSpec, path: Path) -> None:
    """Write a network as an ONNX file.

    Args:
        network: From a batch of images to a tuple of the outputs that `spec` names.
        example: Images, of which batch, height and width stay free.
        spec: What the file shall have.
        path: The file.

    Raises:
        ValueError: If torch cannot export the network.
    """
    free = torch.export.Dim.DYNAMIC
    axes = (0, 1, 2) if spec.inside == "all" else (0, 2, 3)
    try:
        with quiet():
            program = torch.onnx.export(
                network, (example,), dynamo=True, opset_version=OPSET, verbose=False,
                input_names=["images"], output_names=list(spec.outputs),
                dynamic_shapes=(dict.fromkeys(axes, free),),
            )  # fmt: skip
            assert program is not None
            program.save(str(path))
    except OSError:  # a disk that is full
        raise
    except Exception as error:  # of many kinds, which depend on the network
        raise ValueError(f"torch cannot export it to ONNX: {reason_of(error)}") from error


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


@contextlib.contextmanager
def quiet():  # type: ignore[no-untyped-def]
    """Keep what the exporter says of its own progress and of its own future from the user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def reason_of(error: BaseException) -> str:
    """Return the first line of the innermost error, which says what the network does."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
