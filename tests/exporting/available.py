"""What can be exported here, for the marks of tests."""

import os

import torch

import exporting.formats as formats
from exporting.export_model import is_installed

# onnx2tf needs an environment of its own; its tests run where a Python that has it is named.
CONVERTER = os.environ.get("SEGMENTATION_CONVERTER", "")


def is_available(form: str, precision: str = "fp32") -> bool:
    """Return whether the UNet of the tests can be exported."""
    if getattr(formats, form).NEEDS_SIZE and not CONVERTER:
        return False
    # torch.export of older versions takes pooling that rounds up for pooling of even sizes.
    if form == "torch" and tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14):
        return False
    return is_installed(form, precision)
