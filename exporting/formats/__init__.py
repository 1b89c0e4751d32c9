"""The formats that `--to` can name, one file each."""

from exporting.formats import onnx, openvino

__all__ = ["onnx", "openvino"]
