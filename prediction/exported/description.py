"""What an exported file says of itself: its classes, its images, and how it was proved."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

KEY = "segmentation"  # of the text in the file

Inside = Literal["all", "network"]
Output = Literal["ids", "confidence", "logits"]
# Runs a file: from images to its outputs, in its order.
Run = Callable[[np.ndarray], Sequence[np.ndarray]]
OUTPUTS: tuple[Output, ...] = ("ids", "confidence", "logits")


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """The text in an exported file, as JSON.

    `meta` is that of the checkpoint, see `prediction.load_model.Meta`.
    """

    inside: Inside  # "all": from stored pixels to ids; "network": from normalised images to logits
    outputs: tuple[Output, ...]  # in the order of the file
    precision: str = "fp32"  # of the weights: fp32, fp16, bf16 or int8
    size: tuple[int, int] | None = None  # (height, width) if no other images can be given
    input_type: str  # the type of the images' values, as numpy calls it
    arch: str  # the class of the model
    meta: dict[str, Any]
    config: dict[str, Any] = {}  # of the training
    checkpoint_sha256: str
    versions: dict[str, str]  # package -> version that made the file
    proof: dict[str, Any] = {}  # what was compared before the file was accepted


def to_text(description: Description) -> str:
    """Return the description as JSON."""
    return msgspec.json.encode(description).decode()


def from_text(text: str, path: str) -> Description:
    """Read a description.

    Raises:
        ValueError: If it is none of ours.
    """
    try:
        return msgspec.json.decode(text, type=Description)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: what it says of itself cannot be read ({error})") from None
