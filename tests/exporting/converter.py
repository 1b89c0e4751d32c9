"""Where onnx2tf is: it needs an environment of its own, so its tests run where one is named."""

import os

CONVERTER = os.environ.get("SEGMENTATION_CONVERTER", "")  # a Python that has onnx2tf
