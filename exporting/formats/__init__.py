"""The formats that `--to` can name, one file each."""

from exporting.formats import onnx, openvino, tflite, torch

__all__ = ["onnx", "openvino", "tflite", "torch"]
