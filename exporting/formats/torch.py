"""Torch's own format, with free batch, height and width: `torch.export.load()` runs it anywhere.

Format: https://docs.pytorch.org/docs/stable/export/pt2_archive.html
"""

import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from exporting.converting import converting, draft_of
from exporting.spec import ExportSpec
from prediction.exported.description import KEY, Description, to_text

ENDING = ".pt2"
SIDE_ENDINGS: tuple[str, ...] = ()
PACKAGES = ("torch",)
PRECISIONS: dict[str, tuple[str, ...]] = {"fp32": (), "fp16": (), "bf16": ()}
NEEDS_SIZE = False  # whether it cannot leave height and width free
ROUNDS_ITSELF = False  # whether fp16 is made of a network of 32 bits

# What says where in the source an operator comes from: paths of the computer that exported.
_SOURCES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn")


def export(network: nn.Module, example: Tensor, spec: ExportSpec, path: Path) -> None:
    """Write a network as a file of `torch.export`; see `exporting.formats.onnx.export()`.

    Raises:
        ValueError: If torch cannot export the network.
    """
    free = torch.export.Dim.DYNAMIC
    axes = (0, 1, 2) if spec.inside == "all" else (0, 2, 3)
    with converting("torch cannot export it"):
        program = torch.export.export(
            network, (example,), dynamic_shapes=(dict.fromkeys(axes, free),),
            prefer_deferred_runtime_asserts_over_guards=True,
        )  # fmt: skip
        for node in program.graph.nodes:
            for key in _SOURCES:
                node.meta.pop(key, None)
        torch.export.save(program, path)


def describe(path: Path, description: Description) -> None:
    """Write the description into a file; the program stays as it is."""
    with draft_of(path) as draft, zipfile.ZipFile(path) as old, zipfile.ZipFile(draft, "w") as new:
        for name in old.namelist():
            inner = name.partition("/")[2]  # its folder has the name of the temporary file
            if inner != f"extra/{KEY}":
                new.writestr(f"model/{inner}", old.read(name))
        new.writestr(f"model/extra/{KEY}", to_text(description))
