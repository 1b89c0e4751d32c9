"""The formats that `--to` can name, one file each."""

from exporting.formats import onnx

__all__ = ["onnx"]
