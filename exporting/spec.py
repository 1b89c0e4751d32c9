"""What an exported file shall have."""

import dataclasses
import sys
from typing import Literal, get_args

from prediction.exported.description import OUTPUTS, Inside, Output

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclasses.dataclass(frozen=True)
class ExportSpec:
    """What is inside of an exported file, and what comes out.

    Raises:
        ValueError: If the values contradict each other.
    """

    inside: Inside = "all"
    outputs: tuple[Output, ...] = ("ids",)
    precision: Precision = "fp32"  # of the weights; images and outputs keep their types
    size: tuple[int, int] | None = None  # (height, width) of one image; None leaves both free
    converter: str = sys.executable  # the Python that has onnx2tf

    def __post_init__(self) -> None:
        unknown = [name for name in self.outputs if name not in OUTPUTS]
        if unknown or len(set(self.outputs)) < len(self.outputs) or not self.outputs:
            raise ValueError(
                f"--outputs: expected some of {', '.join(OUTPUTS)}, got {','.join(self.outputs)}"
            )
        if self.inside == "network" and self.outputs != ("logits",):
            raise ValueError("--outputs: with --inside network the output is the logits")
